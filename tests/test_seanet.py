import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.seanet_reference import BASE, Reference, write_published
from speechtok import SEANetConfig, SEANetTokenizer, SpeechTokens, load, read_audio
from speechtok.cli import main
from speechtok.errors import CheckpointError, ConfigError, FingerprintError, MissingFileError, StreamError

RATE = 16_000
PT = "SpeechTokenizer.pt"
SAMPLE = Path(__file__).parent.parent / "speechtok" / "assets" / "sample.flac"
SMALL = {**BASE, "n_filters": 4, "dimension": 32, "semantic_dimension": 24, "codebook_size": 64}
VARIANTS = {
    "as published": {},
    "snake": {"activation": "Snake"},
    "dilated": {"n_residual_layers": 2, "dilation_base": 3},
    "wide kernel": {"residual_kernel_size": 7},
    "one direction": {"bidirectional": False},
    "three LSTM layers": {"lstm_layers": 3},
    "other strides": {"strides": [5, 3, 4, 2]},
    "two codebooks": {"n_q": 2},
}


def make_reference(config: dict, seed: int = 0) -> Reference:
    """Random weights with codebooks as large as the latent and its residuals, so that all of them matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reference = Reference(config)
        rest = reference.latent(speech(4.0)[None]).transpose(1, 2).flatten(0, 1)
        for vectors in reference.codebooks:
            vectors.copy_(rest[torch.randint(len(rest), (len(vectors),))] * (0.5 + torch.rand(len(vectors), 1)))
            rest = rest - vectors[torch.cdist(rest, vectors).argmin(1)]
    return reference


def speech(seconds: float, start: float = 0.0) -> torch.Tensor:
    waveform, rate = read_audio(SAMPLE)
    assert rate == RATE
    waveform = waveform.repeat(-(-int((start + seconds) * RATE) // len(waveform)))
    return waveform[int(start * RATE) : int((start + seconds) * RATE)]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return make_reference(SMALL)


@pytest.fixture(scope="module")
def published(reference, tmp_path_factory) -> Path:
    """A directory that nobody changes."""
    directory = tmp_path_factory.mktemp("published")
    write_published(reference, SMALL, directory)
    return directory


@pytest.fixture(scope="module")
def tok(published) -> SEANetTokenizer:
    return load(published)


def is_tie(reference: Reference, waveform: torch.Tensor, codes: torch.Tensor, frame: int) -> bool:
    """Whether the first code of a frame that differs is as near as the best, up to the rounding of the latent."""
    rest = reference.latent(waveform[None])[0, :, frame].double()
    doubt = 4e-6 * rest.norm()  # that float32 leaves: what is left of the latent after some stages may be much smaller
    expected = reference.encode(waveform[None])[0, :, frame]
    for vectors, ours, theirs in zip(reference.codebooks, codes[:, frame], expected, strict=True):
        if ours != theirs:
            near, best = (vectors[i].double() for i in (ours, theirs))
            farther = (rest - near).square().sum() - (rest - best).square().sum()
            return bool(farther.abs() <= 2 * doubt * (near - best).norm())
        rest = rest - vectors[theirs].double()
    return True


# --- against an implementation of its own


@pytest.mark.parametrize("name", VARIANTS)
def test_codes_and_audio_are_those_of_the_published_architecture(name, tmp_path):
    config = {**SMALL, **VARIANTS[name]}
    reference = make_reference(config, seed=1)
    write_published(reference, config, tmp_path)
    tok = load(tmp_path)
    waveform = speech(4.0)
    tokens = tok.encode(waveform, RATE)
    expected = reference.encode(waveform[None])
    assert tokens.codes.shape == expected.shape
    differ = (tokens.codes != expected).any(1)[0].nonzero().flatten().tolist()
    assert len(differ) <= 1e-2 * expected.shape[2]
    assert all(is_tie(reference, waveform, tokens.codes[0], frame) for frame in differ)
    audio = reference.decode(expected)
    scale = max(1.0, float(audio.abs().max()))  # random weights may be loud
    assert audio.std() > 1e-3
    assert torch.allclose(tok.decode(expected), audio, atol=1e-4 * scale, rtol=0)


@pytest.mark.slow
def test_9999_of_10000_codes_of_real_speech_are_the_same(reference, tok):
    waveform = speech(60.0)
    codes, expected = tok.encode(waveform, RATE).codes, reference.encode(waveform[None])
    assert expected.unique().numel() > 50
    assert (codes == expected).float().mean() >= 0.9999


@pytest.mark.parametrize(
    "samples", [1, 2, 7, 100, 319, 320, 321, 640, 1_000, 15_999, 50 * 320 + 1, 100 * 320 + 1, 199 * 320 + 5, 200 * 320]
)
def test_any_length_gives_what_the_published_architecture_gives(samples, reference, tok):
    waveform = speech(5.0)[:samples]
    tokens = tok.encode(waveform, RATE)
    expected = reference.encode(waveform[None])
    assert torch.equal(tokens.codes, expected)
    assert tok.decode(tokens).shape == (1, samples)
    assert torch.allclose(tok.decode(expected), reference.decode(expected), atol=1e-4, rtol=0)


def test_fewer_codebooks_are_the_first_ones(reference, tok):
    waveform = speech(1.0)
    tokens = tok.encode(waveform, RATE)
    assert torch.equal(tok.encode(waveform, RATE, num_codebooks=3).codes, tokens.codes[:, :3])
    three = torch.stack([v[c] for v, c in zip(reference.codebooks, tokens.codes[0, :3])]).sum(0)  # noqa: B905
    assert torch.allclose(tok.embed(tokens, 3)[0], three, atol=1e-5)
    expected = reference.decoder.model(three.T[None])[0, :, : len(waveform)]
    assert torch.allclose(tok.decode(tokens, 3), expected, atol=1e-4, rtol=0)


# --- the API


def test_the_codes_of_a_batch_are_those_of_each_utterance_alone(tok):
    rows = [speech(seconds, start) for seconds, start in ((1.0, 0.0), (0.31, 0.5), (2.2, 0.7), (0.001, 0.2))]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0.3)
    tokens = tok.encode(batch, RATE, lengths=[len(row) for row in rows])
    audio = tok.decode(tokens)
    for index, row in enumerate(rows):
        alone = tok.encode(row, RATE)
        assert torch.equal(tokens[index].codes, alone.codes)
        assert torch.equal(audio[index, : len(row)], tok.decode(alone)[0])
        assert not audio[index, len(row) :].any()


def test_streaming_says_that_it_is_not_causal(tok):
    with pytest.raises(StreamError, match=r"cannot stream: it is not causal.*encode whole utterances"):
        tok.stream()


CAUSAL = SEANetConfig(filters=4, latent_dim=16, codebook_size=32, num_codebooks=2, causal=True, bidirectional=False)


@pytest.fixture(scope="module")
def causal() -> SEANetTokenizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SEANetTokenizer(CAUSAL)


def test_streaming_a_causal_one_does_not_say_that_it_is_not_causal(causal):
    with pytest.raises(
        StreamError, match=r"cannot stream: it is causal, but computes in float32.*encode whole utterances"
    ):
        causal.stream()


@pytest.mark.slow
@given(st.integers(1, 6_000))
@settings(max_examples=15)
def test_a_code_of_a_causal_one_depends_on_no_later_sample(causal, start):
    waveform = speech(0.4)
    noise = torch.randn(6_400 - start, generator=torch.Generator().manual_seed(start))
    other = torch.cat([waveform[:start], noise.clamp(-1, 1)])
    codes, changed = (causal.encode(x, RATE).codes for x in (waveform, other))
    assert torch.equal(codes[..., : start // 320], changed[..., : start // 320])
    assert torch.equal(causal.encode(waveform[:start], RATE).codes[..., : start // 320], codes[..., : start // 320])


def test_a_causal_one_is_loaded_as_it_was_saved(causal, tmp_path):
    causal.save(tmp_path)
    loaded = load(tmp_path)
    assert (loaded.config, loaded.fingerprint) == (CAUSAL, causal.fingerprint)


MEMORY = """
import resource, torch
from speechtok import SEANetConfig, SEANetTokenizer

def peak(minutes):
    x = torch.zeros(int(minutes * 60 * 16_000))
    tok.decode(tok.encode(x, 16_000))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

torch.set_num_threads(1)
size = {"filters": 8, "residual_layers": 0, "latent_dim": 8, "codebook_size": 8, "num_codebooks": 1}
tok = SEANetTokenizer(SEANetConfig(**size, lstm_layers=1, causal=True, bidirectional=False))
print(peak(0.5), peak(2))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_what_the_layers_hold_of_long_audio():
    """90 s more are 6 MB of samples, and 46 MB in the first layer at sample rate."""
    printed = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    short, long = map(int, printed.split())
    assert long - short < 4 * 6


def test_it_says_what_it_is(tok):
    assert (tok.sample_rate, tok.hop_length, tok.frame_rate) == (RATE, 320, 50.0)
    assert (tok.num_codebooks, tok.codebook_size) == (8, 64)


def test_other_rates_are_resampled(tok, speech):
    tokens = tok.encode(speech(0.5, sample_rate=24_000), 24_000)
    assert tokens.num_samples.tolist() == [8_000]


def test_tokens_know_their_tokenizer(tok, tiny, tmp_path):
    tokens = tok.encode(speech(0.2), RATE)
    tokens.save(tmp_path / "a.tokens")
    assert torch.equal(tok.decode(SpeechTokens.load(tmp_path / "a.tokens")), tok.decode(tokens))
    with pytest.raises(FingerprintError):
        tiny.decode(tokens)


def test_bare_codes_decode_and_random_ones_are_finite(tok):
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 64, (2, 8, 30)))
    audio = tok.decode(codes)
    assert audio.shape == (2, 30 * 320)
    assert audio.isfinite().all()


# --- on disk


def test_convert_writes_our_format_and_the_tokenizer_is_the_same(published, tok, tmp_path, capsys):
    assert main(["convert", str(published), "-o", str(tmp_path / "ours")]) == 0
    assert tok.fingerprint in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "ours")) == ["config.json", "model.safetensors"]
    ours = load(tmp_path / "ours")
    assert ours.fingerprint == tok.fingerprint
    assert ours.config == tok.config
    assert torch.equal(ours.encode(speech(0.5), RATE).codes, tok.encode(speech(0.5), RATE).codes)
    assert main(["convert", str(published), "-o", str(tmp_path / "ours")]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "ours")]) == 0
    assert "seanet" in capsys.readouterr().out


def test_a_missing_weights_file_is_named(published, tmp_path):
    (tmp_path / "config.json").write_text((published / "config.json").read_text())
    with pytest.raises(MissingFileError, match=r"there is no file .*SpeechTokenizer\.pt"):
        load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_half_a_download_is_refused(published, tmp_path, share):
    (tmp_path / "config.json").write_text((published / "config.json").read_text())
    data = (published / PT).read_bytes()
    (tmp_path / PT).write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"SpeechTokenizer\.pt is damaged"):
        load(tmp_path)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(published, tmp_path):
    class Malicious:
        def __reduce__(self):
            return Path.touch, (tmp_path / "marker",)

    (tmp_path / "config.json").write_text((published / "config.json").read_text())
    weights = torch.load(published / PT, weights_only=True)
    torch.save({**weights, "encoder.model.0.conv.conv.bias": Malicious()}, tmp_path / PT)
    with pytest.raises(CheckpointError, match="would run code when read"):
        load(tmp_path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_filters": 8}, r"model.0.conv.conv.weight_g has shape \(4, 1, 1\), and its config asks for \(8, 1, 1\)"),
        ({"strides": [8, 5, 2, 4]}, r"model.3.conv.conv.weight_v has shape .*and its config asks for \(8, 4, 8\)"),
        ({"codebook_size": 32}, r"layers.0._codebook.embed has shape \(64, 32\), and its config asks for \(32, 32\)"),
        ({"n_q": 9}, r"lacks quantizer.vq.layers.8._codebook.embed"),
        ({"n_q": 7}, r"holds 'quantizer.vq.layers.7._codebook.embed', which its config does not know"),
        ({"activation": "Snake"}, r"lacks encoder.model.1.block.0.alpha"),
        ({"bidirectional": False}, r"has shape .*and its config asks for"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_match_the_weights_says_which_key_and_shapes(published, tmp_path, change, message):
    write = {**SMALL, **change}
    (tmp_path / "config.json").write_text(json.dumps(write))
    (tmp_path / PT).write_bytes((published / PT).read_bytes())
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "ReLU"}, "activation is 'ReLU'; expected 'ELU' or 'Snake'"),
        ({"strides": []}, r"strides is \[\]; expected 1 to 8"),
        ({"strides": [8, "5"]}, "strides is '5'; expected a whole number"),
        ({"n_q": None}, "lacks the field 'n_q'"),
        ({"dimension": 2**40}, "latent_dim is 1099511627776; expected"),
        ({"bidirectional": 1}, "bidirectional is 1; expected true or false"),
    ],
)
def test_a_published_config_that_describes_no_tokenizer_is_refused(published, tmp_path, change, message):
    config = {k: v for k, v in {**SMALL, **change}.items() if v is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / PT).write_bytes((published / PT).read_bytes())
    with pytest.raises(ConfigError, match=message):
        load(tmp_path)
