import copy
import dataclasses

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtok import SpeechTokens
from speechtok.errors import CheckpointError, FingerprintError, InputError, MissingFileError, StreamError, TokensError
from speechtok.nn.exact import weight_levels
from speechtok.nn.native import use_isa
from speechtok.nn.native.library import available_isas
from speechtok.voice.generation import Generator, Sampling, windows_of
from speechtok.voice.model import VoiceModel, write_voice
from speechtok.voice.network import PROMPT, TARGET, Sequence
from tests.voice.networks import LOOKAHEAD, WINDOW, make_network


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("voice") / "voice.safetensors"
    write_voice(path, *make_network(tiny), tiny.fingerprint)
    return path


@pytest.fixture(scope="module")
def model(tiny, file):
    return VoiceModel(tiny, file)


@pytest.fixture(scope="module")
def said(tiny, speech):
    return tiny.encode(speech(0.7, seed=1), 16_000)


@pytest.fixture(scope="module")
def prompt(tiny, speech):
    return tiny.encode(speech(0.6, seed=2), 16_000)


def make_generator(steps, model, prompts, sampling, style=0):
    styles = torch.full((len(prompts), 4), style)
    return Generator(steps, model.latents, sampling, prompts, styles, list(range(len(prompts))))


def record_conditions(steps, monkeypatch):
    """The conditions of all frames that ``steps`` computes from now on."""
    seen, advance = [], steps.advance
    monkeypatch.setattr(steps, "advance", lambda *given: (seen.append(advance(*given)), seen[-1])[1])
    return seen


def relative_error(found, expected):
    """What the rounding of weights, inputs, keys and values makes of results."""
    return float((found - expected).norm() / expected.norm())


def test_nothing_said_gives_no_codes(model, said, prompt):
    assert model.complete(said.crop(0, 0), prompt).codes.shape == (1, model.config.num_codebooks, 0)


def test_completed_tokens_say_the_same_and_have_all_codebooks(model, said, prompt):
    completed = model.complete(said, prompt)
    assert torch.equal(completed.semantic, said.semantic)
    assert completed.codes.shape == said.codes.shape
    assert torch.equal(completed.num_samples, said.num_samples)
    assert not torch.equal(completed.acoustic, said.acoustic)


def test_codebook_0_alone_is_enough(model, said, prompt):
    alone = dataclasses.replace(said, codes=said.codes[:, :1])
    assert torch.equal(model.complete(alone, prompt).codes, model.complete(said, prompt).codes)


def test_completed_tokens_say_what_generated_them_and_so_does_their_file(model, said, prompt, tmp_path):
    completed = model.complete(said, prompt)
    assert completed.generated_by.startswith("speechtok-voice")
    completed.save(tmp_path / "a.tokens")
    assert SpeechTokens.load(tmp_path / "a.tokens").generated_by == completed.generated_by


def test_the_same_seed_gives_the_same_codes_and_another_one_others(model, said, prompt):
    first, again, other = (model.complete(said, prompt, seed=seed).codes for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_prompt_decides_how_it_sounds(model, tiny, speech, said, prompt):
    other = tiny.encode(speech(0.6, seed=9), 16_000)
    assert not torch.equal(model.complete(said, prompt).codes, model.complete(said, other).codes)


def test_the_style_and_the_contour_decide_how_it_sounds(model, said, prompt):
    plain = model.complete(said, prompt).codes
    styled = model.complete(said, prompt, style="a very high, soft voice").codes
    assert not torch.equal(plain, styled)
    assert torch.equal(styled, model.complete(said, prompt, style={"pitch": "very high", "energy": "soft"}).codes)
    contour = torch.zeros(said.codes.shape[2], 2)
    assert not torch.equal(plain, model.complete(said, prompt, contour=contour).codes)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.sampled_from([1.0, 2.0]))
def test_a_stream_gives_the_codes_of_the_whole(model, said, prompt, sizes, guidance):
    sampling = Sampling(steps=2, guidance=guidance)
    whole = model.complete(said, prompt, seed=2, sampling=sampling)
    stream = model.stream(prompt, seed=2, sampling=sampling)
    pieces, at = [], 0
    for size in [*sizes, said.codes.shape[2]]:
        pieces.append(stream.push(said.semantic[:, at : at + size]))
        at = min(at + size, said.codes.shape[2])
        assert sum(piece.shape[2] for piece in pieces) == max(0, at - LOOKAHEAD)
    pieces.append(stream.flush())
    assert torch.equal(torch.cat(pieces, 2), whole.codes)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 30))
def test_a_code_changes_no_frame_that_is_earlier_than_its_lookahead(model, said, prompt, place):
    codes = said.codes.clone()
    codes[:, 0, place] = (codes[:, 0, place] + 1) % said.codebook_size
    before, after = (
        model.complete(tokens, prompt, sampling=Sampling(steps=2)).acoustic
        for tokens in (said, dataclasses.replace(said, codes=codes))
    )
    free = max(0, place - LOOKAHEAD)
    assert torch.equal(before[:, :, :free], after[:, :, :free])


@pytest.mark.parametrize("style", [0, 3])
def test_generation_computes_what_training_does(model, said, prompt, style, monkeypatch):
    """Frame by frame with a sliding cache, or all frames at once with a mask: the head gets the same conditions."""
    sampling = Sampling(steps=2, guidance=1.0, style_guidance=1.0)
    with use_isa(None):
        steps = model.steps
    generator = make_generator(steps, model, [prompt.codes[0]], sampling, style)
    seen = record_conditions(steps, monkeypatch)
    sizes = model.network.history, model.network.lookahead
    windows = F.pad(said.semantic, sizes, value=model.network.no_code).unfold(1, sum(sizes) + 1, 1)
    contour = torch.rand(1, windows.shape[1], 3)
    acoustic = generator.run(windows, contour)

    codes = torch.cat([prompt.codes, torch.cat([said.semantic[:, None], acoustic], 1)], 2)
    count = prompt.codes.shape[2]
    kinds = torch.cat([torch.full((1, count), PROMPT), torch.full((1, windows.shape[1]), TARGET)], 1)
    assert kinds.shape[1] > 4 * WINDOW
    contours = torch.cat([torch.zeros(1, count, 3), contour], 1)
    sequence = Sequence(codes[:, 0], model.latents.of(codes), kinds, torch.full((1, 4), style), contours)
    whole = model.network(sequence)[0, count:]
    assert relative_error(torch.cat(seen), whole) < 0.05


def test_guidance_starts_from_a_network_that_hears_no_prompt(model, said, prompt, monkeypatch):
    """The row without a prompt gets the conditions of frames that stand alone in training."""
    with use_isa(None):
        steps = model.steps
    generator = make_generator(steps, model, [prompt.codes[0]], Sampling(steps=2, guidance=2.0))
    seen = record_conditions(steps, monkeypatch)
    sizes = model.network.history, model.network.lookahead
    windows = F.pad(said.semantic, sizes, value=model.network.no_code).unfold(1, sum(sizes) + 1, 1)
    codes = torch.cat([said.semantic[:, None], generator.run(windows)], 1)
    kinds, style = torch.full((1, codes.shape[2]), PROMPT), torch.zeros(1, 4, dtype=torch.int64)
    contour = torch.zeros(1, codes.shape[2], 3)
    alone = model.network(Sequence(codes[:, 0], model.latents.of(codes), kinds, style, contour))[0]
    assert relative_error(torch.cat([condition[1:] for condition in seen]), alone) < 0.05


def test_guidance_by_the_style_starts_from_what_prompt_and_contour_make_likely(model, said, prompt, monkeypatch):
    with use_isa(None):
        steps = model.steps
    sampling = Sampling(steps=2, guidance=1.0, style_guidance=2.0)
    generator = make_generator(steps, model, [prompt.codes[0]], sampling, style=3)
    seen = record_conditions(steps, monkeypatch)
    windows = windows_of(said.semantic, model.network)
    contour = torch.rand(1, windows.shape[1], 3)
    acoustic = generator.run(windows, contour)
    codes = torch.cat([prompt.codes, torch.cat([said.semantic[:, None], acoustic], 1)], 2)
    count = prompt.codes.shape[2]
    kinds = torch.cat([torch.full((1, count), PROMPT), torch.full((1, windows.shape[1]), TARGET)], 1)
    contours, style = torch.cat([torch.zeros(1, count, 3), contour], 1), torch.zeros(1, 4, dtype=torch.int64)
    plain = model.network(Sequence(codes[:, 0], model.latents.of(codes), kinds, style, contours))[0, count:]
    assert relative_error(torch.cat([condition[1:] for condition in seen]), plain) < 0.05
    styled, unstyled = torch.stack(seen).unbind(1)
    assert relative_error(styled, unstyled) > 0.05


def test_the_guidance_adds_up(model, said, prompt, monkeypatch):
    """All that is asked for, over the prompt alone, over nothing."""
    with use_isa(None):
        steps = model.steps
    seen, velocity = [], steps.velocity
    monkeypatch.setattr(steps, "velocity", lambda *given: (seen.append(velocity(*given)), seen[-1])[1])
    sampling = Sampling(steps=1, guidance=1.5, style_guidance=3.0, temperature=0.0)
    generator = make_generator(steps, model, [prompt.codes[0]], sampling, style=2)
    generator.step(windows_of(said.semantic, model.network)[:, 0])
    styled, plain, untold = seen[0]
    expected = untold + 1.5 * (plain - untold) + 3.0 * (styled - plain)
    quantized = model.latents.quantize(expected[None])[1]
    assert torch.allclose(generator._before, quantized)


@pytest.mark.parametrize("has_contour", [False, True])
def test_without_a_style_its_guidance_says_nothing(model, said, prompt, has_contour):
    contour = torch.ones(said.codes.shape[2], 2) if has_contour else None
    plain, other = (
        model.complete(said, prompt, sampling=Sampling(steps=2, style_guidance=value), contour=contour).codes
        for value in (1.0, 5.0)
    )
    assert torch.equal(plain, other)


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize(("guidance", "style_guidance"), [(1.0, 1.0), (1.7, 1.0), (1.0, 2.0), (1.7, 2.5)])
def test_compiled_code_gives_the_same_bits(model, tiny, speech, prompt, isa, guidance, style_guidance):
    both = tiny.encode(torch.stack([torch.as_tensor(speech(0.5, seed=seed)) for seed in (1, 2)]), 16_000)
    sampling, contour = Sampling(4, guidance, style_guidance), torch.rand(1, both.codes.shape[2], 3)
    prompts = [prompt.codes[0, :, :30], prompt.codes[0, :, :9]]
    windows = windows_of(both.semantic, model.network)
    found = []
    for name in (None, isa):
        with use_isa(name):
            generator = make_generator(model.steps, model, prompts, sampling, 2)
            codes = generator.run(windows, contour)
            found.append((codes, generator._before, *(tensor.float() for tensor in generator._state.tensors)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", [None, "voice.safetensors"])
def test_a_tokenizer_of_another_family_has_no_voice_models(tmp_path, name):
    with pytest.raises(FingerprintError, match="a object has no voice models"):
        VoiceModel(object(), name and tmp_path / name)


def test_compiled_code_refuses_sizes_that_do_not_fit(model):
    if not available_isas():
        pytest.skip("there is no compiled code")
    steps = model.steps
    dim, latent = len(steps.enter.weight), len(steps.head_leave.weight)
    for x, rows, noise, times in (
        (torch.zeros(2, dim), 1, torch.zeros(2, latent), model.network.time_table),
        (torch.zeros(1, dim - 1), 1, torch.zeros(1, latent), model.network.time_table),
        (torch.zeros(1, dim), 1, torch.zeros(1, latent - 1), model.network.time_table),
        (torch.zeros(1, dim), 1, torch.zeros(1, latent), model.network.time_table[:, :-1]),
        (torch.zeros(4, dim), 4, torch.zeros(3, latent), model.network.time_table),
        (torch.zeros(4, dim), 4, torch.zeros(2, latent), model.network.time_table),
    ):
        with pytest.raises(InputError, match="compiled code refused"):
            steps.frame(x, steps.initial_state(rows, 8), noise=noise, times=times)
    x, noise = torch.zeros(4, dim), torch.zeros(2, latent)
    for count in (0, 2, 9):
        state = steps.initial_state(4, 8)
        with pytest.raises(InputError, match="compiled code refused"):
            steps.frame(x, state, noise=noise, times=model.network.time_table, guidance=torch.ones(count))


def test_utterances_of_a_batch_have_prompts_and_ends_of_their_own(model, tiny, speech, prompt):
    waveform = torch.stack([torch.as_tensor(speech(0.7, seed=seed)) for seed in (1, 2)])
    both = tiny.encode(waveform, 16_000, lengths=[11_200, 6_400])
    prompts = tiny.encode(waveform.flip(0)[:, :9_600], 16_000)
    found = model.complete(both, prompts, seed=7)
    for row in range(2):
        alone = model.complete(both[row], prompts[row], seed=7 + row)
        assert torch.equal(alone.codes, found[row].codes)
        assert not found.codes[row, :, int(both.lengths[row]) :].any()


def test_latents_of_codes_are_quantized_to_codes_of_nearly_these_latents(model, said):
    latents = model.latents.of(said.codes)[0]
    codes, found = model.latents.quantize(latents)
    again = model.latents.of(torch.cat([said.codes[0, :1], codes.t()])[None])[0]
    assert torch.equal(again, found)
    assert relative_error(found, latents) < 0.8  # random codebooks are coarse


def test_bad_prompts_are_named(model, tiny, said, prompt, speech, new_tokenizer):
    with pytest.raises(TokensError, match=r"expected .* s of speech"):
        model.complete(said, prompt.crop(0, 10))
    with pytest.raises(TokensError, match="codebooks"):
        model.complete(said, tiny.encode(speech(0.6), 16_000, num_codebooks=1))
    other = new_tokenizer(seed=4)
    with pytest.raises(FingerprintError, match="prompt was made by tokenizer"):
        model.complete(said, other.encode(speech(0.6), 16_000))
    with pytest.raises(FingerprintError, match="semantic was made by tokenizer"):
        model.complete(other.encode(speech(0.6), 16_000), prompt)
    with pytest.raises(TokensError, match="SpeechTokens"):
        model.complete(said.codes, prompt)
    with pytest.raises(InputError, match="expected 1 or 1"):
        model.complete(said, tiny.encode(torch.zeros(2, 16_000), 16_000))


def test_a_silent_prompt_is_named(model, said, prompt, monkeypatch):
    monkeypatch.setattr(type(model.tokenizer), "decode", lambda self, tokens: torch.zeros(1, int(tokens.num_samples)))
    with pytest.raises(TokensError, match="silent"):
        model.complete(said, prompt)


def test_bad_styles_and_codes_are_named(model, said, prompt):
    with pytest.raises(InputError, match="'high'"):
        model.complete(said, prompt, style="a hihg voice")
    with pytest.raises(InputError, match="seed is 'x'"):
        model.complete(said, prompt, seed="x")
    with pytest.raises(InputError, match="contour has shape"):
        model.complete(said, prompt, contour=torch.zeros(3, 2))
    stream = model.stream(prompt)
    with pytest.raises(TokensError, match="expected 0 to"):
        stream.push(torch.full((1, 3), said.codebook_size))
    with pytest.raises(TokensError, match="semantic is a SpeechTokens"):
        stream.push(said)
    with pytest.raises(TokensError, match=r"expected \(B, T\)"):
        stream.push(said.codes)
    with pytest.raises(TokensError, match="2 rows"):
        stream.push(torch.zeros(2, 3, dtype=torch.int64))
    stream.flush()
    with pytest.raises(StreamError, match="ended"):
        stream.push(said.semantic)


def test_a_model_of_another_tokenizer_and_damaged_files_are_refused(tiny, file, new_tokenizer, tmp_path):
    with pytest.raises(FingerprintError, match="voice model for the codes of"):
        VoiceModel(new_tokenizer(seed=4), file)
    with pytest.raises(FingerprintError, match="no voice model for tokenizer"):
        VoiceModel(tiny)
    with pytest.raises(MissingFileError, match="no file"):
        VoiceModel(tiny, tmp_path / "none.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="damaged"):
        VoiceModel(tiny, damaged)


def test_a_model_with_other_sizes_than_the_tokenizer_is_refused(tiny, tmp_path):
    config, network = make_network(tiny)
    other = dataclasses.replace(config, num_codebooks=config.num_codebooks + 1)
    path = tmp_path / "voice.safetensors"
    write_voice(path, other, copy.deepcopy(network), tiny.fingerprint)
    with pytest.raises(CheckpointError, match="the tokenizer has"):
        VoiceModel(tiny, path)


def test_matrices_are_stored_as_the_levels_that_the_network_computes_with(tiny, file, tmp_path):
    model = VoiceModel(tiny, file)
    write_voice(tmp_path / "again.safetensors", model.config, copy.deepcopy(model.network), tiny.fingerprint)
    first, second = (safetensors.torch.load_file(path) for path in (file, tmp_path / "again.safetensors"))
    names = [name for name, tensor in first.items() if tensor.dtype is torch.int8]
    assert "blocks.0.expand.weight" in names
    for name in names:
        scale = first[name + ".scale"]
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(second[name + ".scale"], scale, rtol=1e-6, atol=0)
        assert torch.equal(weight_levels(first[name].float() * scale[:, None])[0], first[name].float())


@pytest.mark.parametrize("scale", [None, torch.ones(2), torch.ones(3, dtype=torch.int32), torch.inf])
def test_levels_without_good_scales_are_refused(tiny, file, tmp_path, scale):
    tensors = safetensors.torch.load_file(file)
    whole = tensors.pop("enter.weight.scale")
    if scale is not None:
        tensors["enter.weight.scale"] = scale if isinstance(scale, torch.Tensor) else torch.full_like(whole, scale)
    metadata = safetensors.safe_open(file, "pt").metadata()
    safetensors.torch.save_file(tensors, tmp_path / "voice.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"enter\.weight"):
        VoiceModel(tiny, tmp_path / "voice.safetensors")
