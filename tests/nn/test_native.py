"""The compiled steps give what the modules give, to the bit, and only where they do are they used."""

import copy
import dataclasses
import pickle
import shutil
import threading
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer
from speechtok.errors import TokensError
from speechtok.nn import native
from speechtok.nn.native import Native, NativeSteps, library

needs_library = pytest.mark.skipif(library() is None, reason="installed without its compiled steps")
WAYS = range(library().speechtok_ways()) if library() else []

halves = st.builds(
    ConvNeXtStackConfig,
    patch_dim=st.integers(1, 40),
    patch_depth=st.integers(1, 2),
    frame_dim=st.integers(1, 90),
    frame_depth=st.integers(1, 2),
    kernel_size=st.integers(1, 4),
    expansion=st.integers(1, 3),
)
configs = st.builds(
    ConvNeXtConfig,
    hop_length=st.just(24),
    patch_length=st.sampled_from([4, 8, 24]),
    window_length=st.sampled_from([24, 48]),
    latent_dim=st.integers(2, 70),
    num_codebooks=st.integers(1, 3),
    codebook_size=st.sampled_from([2, 3, 64, 65, 200]),
    encoder=halves,
    decoder=halves,
)


def test_where_there_is_a_compiler_the_steps_were_compiled():
    assert library() is not None or shutil.which("cc") is None


def modules(tok: ConvNeXtTokenizer):
    return tok.encoder, tok.quantizer, tok.decoder


def noise(tok: ConvNeXtTokenizer, batch: int, frames: int, seed: int = 0):
    return torch.randn(batch, frames * tok.hop_length, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def by_modules(tok, x, heard, said, num_codebooks):
    latent, heard = tok.encoder(x, heard)
    codes = tok.quantizer.encode(latent, num_codebooks)
    audio, said = tok.decoder(tok.quantizer.decode(codes), said)
    return codes, audio, heard, said


def by_steps(steps, x, heard, said, num_codebooks, frames):
    codes, heard = steps.encode(x, heard, num_codebooks)
    audio, said = steps.decode(codes, said, frames)
    return codes, audio, heard, said


def assert_equal(results, expected):
    for result, other in zip(results, expected, strict=True):
        for x, y in zip(result, other, strict=True) if isinstance(result, tuple) else [(result, other)]:
            assert torch.equal(x, y)


@needs_library
@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=30)
@given(
    config=configs,
    semantic=st.booleans(),
    batch=st.integers(1, 5),
    pieces=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    scale=st.sampled_from([0.0, 1e-38, 1e-6, 0.1, 1e4]),
    seed=st.integers(0, 9),
)
def test_steps_give_codes_audio_and_states_of_the_modules_to_the_bit(
    new_tokenizer, way, config, semantic, batch, pieces, scale, seed
):
    if semantic:
        config = dataclasses.replace(config, semantic_dim=config.latent_dim // 2)
    tok = new_tokenizer(seed, config)
    steps = NativeSteps(*modules(tok), way)
    states = tok.encoder.initial_state(batch), tok.decoder.initial_state(batch)
    states_expected = states
    num_codebooks = 1 + seed % config.num_codebooks
    for frames in pieces:
        x = scale * noise(tok, batch, frames, seed)
        before = [[state.clone() for state in half] for half in states]
        *results, heard, said = by_steps(steps, x, *states, num_codebooks, frames)
        assert_equal(map(tuple, states), map(tuple, before))  # what was passed in is as it was
        *expected, heard_expected, said_expected = by_modules(tok, x, *states_expected, num_codebooks)
        assert_equal((*results, heard, said), (*expected, heard_expected, said_expected))
        states, states_expected = (heard, said), (heard_expected, said_expected)


@needs_library
@pytest.mark.parametrize("way", WAYS)
def test_the_largest_levels_of_every_sign_are_multiplied_exactly(new_tokenizer, way):
    # pairs of products are added in 16 bits, which just hold them
    tok = new_tokenizer()
    with torch.no_grad():
        for half in (tok.encoder, tok.decoder):
            for weight in (parameter for parameter in half.parameters() if parameter.ndim == 2):
                weight.copy_(torch.where(weight < 0, -0.05, 0.05))
        tok.quantizer.codebooks.copy_(torch.where(tok.quantizer.codebooks < 0, -1.0, 1.0))
    x = torch.where(noise(tok, 2, 3) < 0, -1.0, 1.0)
    states = tok.encoder.initial_state(2), tok.decoder.initial_state(2)
    for num_codebooks in (1, tok.num_codebooks):
        expected = by_modules(tok, x, *states, num_codebooks)
        assert_equal(by_steps(NativeSteps(*modules(tok), way), x, *states, num_codebooks, 3), expected)


@needs_library
@pytest.mark.parametrize("way", WAYS)
def test_of_equal_vectors_the_first_is_chosen(new_tokenizer, way):
    config = ConvNeXtConfig(latent_dim=6, codebook_size=150, num_codebooks=2)
    tok = new_tokenizer(0, config)
    with torch.no_grad():
        tok.quantizer.codebooks[:] = tok.quantizer.codebooks[:, torch.arange(150) % 7]
    codes, _ = NativeSteps(*modules(tok), way).encode(noise(tok, 2, 9), tok.encoder.initial_state(2), 2)
    assert codes.max() < 7
    assert len(codes.unique()) > 1


@needs_library
@pytest.mark.parametrize("way", WAYS)
@given(lengths=st.lists(st.integers(0, 3), min_size=3, max_size=3), more=st.integers(0, 2))
def test_what_follows_the_codes_is_a_latent_of_zeros(tiny, way, lengths, more):
    codes = torch.arange(36).view(3, 4, 3) % tiny.config.codebook_size
    kept = torch.arange(3) < torch.tensor(lengths)[:, None]
    latent = tiny.quantizer.decode(codes) * kept[..., None]
    latent = torch.nn.functional.pad(latent, (0, 0, 0, more))
    with torch.no_grad():
        expected, state_expected = tiny.decoder(latent, tiny.decoder.initial_state(3))
    steps = NativeSteps(*modules(tiny), way)
    audio, state = steps.decode(codes, tiny.decoder.initial_state(3), 3 + more, torch.tensor(lengths))
    assert_equal((audio, state), (expected, state_expected))
    if not any(lengths):
        assert torch.equal(steps.decode(None, tiny.decoder.initial_state(3), 3 + more)[0], expected)


@needs_library
def test_steps_in_several_threads_at_once_do_not_meet(tiny):
    steps = NativeSteps(*modules(tiny))
    signals = [noise(tiny, 1, 40, seed) for seed in range(8)]
    expected = [by_modules(tiny, x, *initial(tiny), 4)[:2] for x in signals]
    results: list = [None] * len(signals)

    def run(i):
        for _ in range(5):
            results[i] = by_steps(steps, signals[i], *initial(tiny), 4, 40)[:2]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(signals))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, other in zip(results, expected, strict=True):
        assert_equal(result, other)


def initial(tok):
    return tok.encoder.initial_state(1), tok.decoder.initial_state(1)


@needs_library
def test_signals_and_codes_that_are_not_contiguous(tiny):
    x = noise(tiny, 4, 3)
    steps = NativeSteps(*modules(tiny))
    state = tuple(s.repeat_interleave(2, 0)[::2] for s in tiny.encoder.initial_state(2))
    codes, _ = steps.encode(x[::2], state, 4)
    expected, _ = steps.encode(x[::2].clone(), tiny.encoder.initial_state(2), 4)
    assert torch.equal(codes, expected)
    audio, _ = steps.decode(codes.repeat_interleave(2, 0)[::2], tiny.decoder.initial_state(2), 3)
    assert torch.equal(audio, steps.decode(expected, tiny.decoder.initial_state(2), 3)[0])


def test_what_tensors_are_made_of_by_default_does_not_matter(new_tokenizer, speech):
    # a program of a GPU may say torch.set_default_device("cuda") and keep its tokenizer on the CPU
    for device, dtype in (("meta", torch.float32), ("cpu", torch.float64)):
        tok, other, audio = new_tokenizer(), new_tokenizer(), torch.from_numpy(speech(0.5))
        tokens = other.encode(audio, other.sample_rate)
        expected = tokens.codes, other.decode(tokens)
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                tokens = tok.encode(audio, tok.sample_rate)
                assert_equal((tokens.codes, tok.decode(tokens)), expected)
                with tok.stream() as s:
                    codes = torch.cat([s.encode(audio), s.flush()], 2)
                    decoded = torch.cat([s.decode(codes), s.drain()], 1)
                    assert s.num_samples.tolist() == [len(audio)]
                    assert s.audio_lengths.tolist() == [tok.hop_length]
            assert_equal((codes, decoded[:, : len(audio)]), expected)
        finally:
            torch.set_default_dtype(torch.float32)


@needs_library
@pytest.mark.parametrize("code", [-1, 32, 2**40])
def test_codes_out_of_range_are_refused_before_any_is_looked_up(tiny, code):
    codes = torch.zeros(1, 4, 3, dtype=torch.int64)
    codes[0, 2, 1] = code
    with pytest.raises(TokensError, match="a code is out of range; expected codes from 0 to 31"):
        NativeSteps(*modules(tiny)).decode(codes, tiny.decoder.initial_state(1), 3)


@needs_library
def test_a_library_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(native, "_STRUCTURES", (*native._STRUCTURES[:-1], native._Linear))
    assert library.__wrapped__() is None


@needs_library
class TestNative:
    def test_steps_are_kept_until_the_weights_change(self, new_tokenizer):
        tok, kept = new_tokenizer(), Native()
        steps = kept(*modules(tok))
        assert steps is not None
        assert kept(*modules(tok)) is steps
        with torch.no_grad():
            tok.decoder.head.bias.add_(1.0)
        again = kept(*modules(tok))
        assert again is not None
        assert again is not steps
        assert kept(*modules(new_tokenizer())) is not again

    def test_a_block_more_is_another_model(self, new_tokenizer):
        tok, kept = new_tokenizer(), Native()
        steps = kept(*modules(tok))
        tok.encoder.frame_blocks.blocks.append(copy.deepcopy(tok.encoder.frame_blocks.blocks[0]))
        again = kept(*modules(tok))
        assert again is not None
        assert again is not steps
        x = noise(tok, 1, 2)
        assert_equal(by_steps(again, x, *initial(tok), 4, 2), by_modules(tok, x, *initial(tok), 4))

    def test_a_forward_of_a_modules_own_runs(self, new_tokenizer):
        tok, kept = new_tokenizer(), Native()
        forward = tok.encoder.merge.forward
        assert kept(*modules(tok)) is not None
        tok.encoder.merge.forward = lambda x: 2 * forward(x)
        assert kept(*modules(tok)) is None
        del tok.encoder.merge.forward
        tok.quantizer.encode = tok.quantizer.encode
        assert kept(*modules(tok)) is None
        del tok.quantizer.encode
        assert kept(*modules(tok)) is not None

    def test_hooks_of_all_modules_run(self, new_tokenizer):
        tok, kept, called = new_tokenizer(), Native(), []
        assert kept(*modules(tok)) is not None
        for register in (
            torch.nn.modules.module.register_module_forward_hook,
            torch.nn.modules.module.register_module_forward_pre_hook,
        ):
            handle = register(lambda module, *_: called.append(module))
            try:
                assert kept(*modules(tok)) is None
                tok.encode(noise(tok, 1, 2), tok.sample_rate)
            finally:
                handle.remove()
            assert tok.encoder.merge in called
            called.clear()
        assert kept(*modules(tok)) is not None

    def test_other_weights_never_have_the_address_of_the_old_ones(self, new_tokenizer):
        tok, kept = new_tokenizer().half(), Native()
        weight = tok.encoder.frame_blocks.blocks[0].conv.weight
        memory = weight.detach().numpy().copy()
        weight.data = torch.from_numpy(memory)
        assert kept(*modules(tok)) is not None
        weight.data = torch.zeros_like(weight)
        alive = weakref.ref(memory)
        del memory
        assert alive() is not None  # so nothing else can be there

    def test_weights_that_went_elsewhere_are_not_held(self, new_tokenizer):
        tok, kept = new_tokenizer(), Native()
        steps = weakref.ref(kept(*modules(tok)))
        assert steps() is not None
        assert kept(*modules(tok.to("meta"))) is None
        assert steps() is None

    def test_steps_that_give_something_else_are_not_used(self, new_tokenizer, monkeypatch):
        encode = NativeSteps.encode
        monkeypatch.setattr(NativeSteps, "encode", lambda *args: (encode(*args)[0] ^ 1, encode(*args)[1]))
        assert Native()(*modules(new_tokenizer())) is None

    def test_without_a_library_the_modules_run(self, new_tokenizer, speech, monkeypatch):
        tok, audio = new_tokenizer(), torch.from_numpy(speech(0.5))
        with tok.stream() as s:
            codes = s.encode(audio)
            expected = codes, s.decode(codes)
        monkeypatch.setattr(native, "library", lambda: None)
        assert tok.native_steps(1, 1) is None
        with tok.stream() as s:
            codes = s.encode(audio)
            assert_equal((codes, s.decode(codes)), expected)
        with pytest.raises(OSError, match="installed without its compiled steps"):
            NativeSteps(*modules(tok))

    def test_modules_of_other_kinds_run_themselves(self, new_tokenizer):
        class Louder(torch.nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, x):
                return 2 * self.inner(x)

        tok = new_tokenizer()
        tok.encoder.project = Louder(tok.encoder.project)
        assert Native()(*modules(tok)) is None

    def test_weights_that_count_no_versions_run_themselves(self, new_tokenizer):
        with torch.inference_mode():
            tok = new_tokenizer()
        assert Native()(*modules(tok)) is None

    def test_half_precision_weights_too(self, new_tokenizer):
        assert Native()(*modules(new_tokenizer().half())) is not None

    def test_copies_and_pickles_make_their_own(self, new_tokenizer):
        tok = new_tokenizer()
        x = noise(tok, 1, 2)
        expected = tok.encode(x, tok.sample_rate).codes
        for other in (copy.deepcopy(tok), pickle.loads(pickle.dumps(tok))):
            assert torch.equal(other.encode(x, tok.sample_rate).codes, expected)
            assert other.native_steps(1, 1) is not tok.native_steps(1, 1) is not None

    def test_what_can_not_be_shared_by_the_threads_goes_to_pytorch_unless_it_is_little(self):
        try:
            torch.set_num_threads(8)
            assert native.faster(1, 1)
            assert not native.faster(2, 127)
            assert native.faster(2, 512) is (len(WAYS) > 1)
        finally:
            torch.set_num_threads(1)

    @pytest.mark.parametrize("rows", [1, 2, 5])
    def test_rows_and_long_rows_are_shared_by_the_threads(self, new_tokenizer, rows):
        tok = new_tokenizer()
        steps = NativeSteps(*modules(tok))
        frames = 3 * native._FRAMES_A_SEGMENT
        assert len(native._shares(rows, frames, steps._heard_frames, 3)) >= 3
        x, lengths = noise(tok, rows, frames), torch.arange(rows, 0, -1) * frames // rows
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            try:
                codes, heard = steps.encode(x, tok.encoder.initial_state(rows), tok.num_codebooks)
                audio, said = steps.decode(codes, tok.decoder.initial_state(rows), frames, lengths)
                found.append((codes, audio, *heard, *said))
                wrong = codes.clone()
                wrong[-1, 0, 0] = tok.codebook_size
                with pytest.raises(TokensError, match="out of range"):
                    steps.decode(wrong, tok.decoder.initial_state(rows), frames)
            finally:
                torch.set_num_threads(1)
        assert_equal(*found)

    @settings(max_examples=40)
    @given(config=configs, rows=st.integers(1, 3), frames=st.integers(1, 70), threads=st.integers(2, 6), data=st.data())
    def test_threads_that_begin_in_the_middle_of_a_row_have_its_state(
        self, new_tokenizer, config, rows, frames, threads, data
    ):
        tok = new_tokenizer(frames, config)
        steps = NativeSteps(*modules(tok))
        x, past = noise(tok, rows, frames), noise(tok, rows, 2, 1)
        lengths = torch.tensor(data.draw(st.lists(st.integers(0, frames), min_size=rows, max_size=rows)))
        codes, heard = steps.encode(past, tok.encoder.initial_state(rows), config.num_codebooks)
        _, said = steps.decode(codes, tok.decoder.initial_state(rows), 2)
        found = []
        for count in (1, threads):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(native, "_FRAMES_A_THREAD", 1)
                patch.setattr(native, "_FRAMES_A_SEGMENT", 1)
                patch.setattr(torch, "get_num_threads", lambda count=count: count)
                codes, heard_next = steps.encode(x, heard, config.num_codebooks)
                audio, said_next = steps.decode(codes, said, frames, lengths)
            found.append((codes, audio, *heard_next, *said_next))
        assert_equal(*found)

    @given(st.integers(1, 9), st.integers(1, 3000), st.integers(0, 60), st.integers(1, 64))
    def test_shares_are_of_every_frame_once_and_of_about_as_much_work(self, rows, frames, before, threads):
        shares = native._shares(rows, frames, before, threads)
        counted = torch.zeros(rows, frames, dtype=torch.int64)
        for share in shares:
            counted[share.rows, share.first : share.last] += 1
            assert share.start == max(0, share.first - before)
            assert share.last - share.start >= before or not share.start
        assert (counted == 1).all()
        work = [(share.last - share.start) * len(counted[share.rows]) for share in shares]
        assert max(work) - min(work) <= max(1, frames if rows > threads else 1)

    def test_steps_are_not_made_where_they_would_not_be_used(self, new_tokenizer, speech):
        tok = new_tokenizer()
        try:
            torch.set_num_threads(8)
            tok.encode(speech(2), tok.sample_rate)
            assert tok._native._kept is None
        finally:
            torch.set_num_threads(1)
