"""The tokenizer that the package carries, on the sample that it carries."""

import hashlib
from importlib import resources
from pathlib import Path

import pytest
import torch

import speechtok
from speechtok.fingerprints import DEFAULT_TOKENIZER

ASSETS = Path(str(resources.files("speechtok") / "assets"))


@pytest.fixture(scope="module")
def tokenizer() -> speechtok.ConvNeXtTokenizer:
    return speechtok.load()


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    waveform, sample_rate = speechtok.read_audio(ASSETS / "sample.flac")
    assert sample_rate == 16_000
    return waveform


def test_it_is_what_the_readme_says(tokenizer):
    assert (tokenizer.sample_rate, tokenizer.frame_rate) == (16_000, 50.0)
    assert (tokenizer.num_codebooks, tokenizer.codebook_size) == (8, 1024)
    assert tokenizer.lookahead <= tokenizer.hop_length


def test_its_card_describes_this_very_model_and_it_stays_small(tokenizer):
    assert tokenizer.fingerprint in (ASSETS / DEFAULT_TOKENIZER / "MODEL_CARD.md").read_text(encoding="utf-8")
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*")}
    default = {path.name: size for path, size in sizes.items() if path.parent.name == DEFAULT_TOKENIZER}
    assert sum(default.values()) - default["voice.safetensors"] <= 24_000_000
    assert sum(default.values()) <= 32_000_000
    assert sum(sizes.values()) <= 48_000_000


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.01])
def test_speech_comes_back_as_long_and_as_loud(tokenizer, speech, gain):
    decoded = tokenizer.decode(tokenizer.encode(speech * gain, 16_000))[0]
    assert decoded.shape == speech.shape
    change = 20 * torch.log10(decoded.square().mean().sqrt() / (speech * gain).square().mean().sqrt())
    assert abs(float(change)) < 2.0


def test_speech_is_understood_and_better_with_more_codebooks(tokenizer, speech):
    pytest.importorskip("pystoi")
    from speechtok.metrics import stoi

    tokens = tokenizer.encode(speech, 16_000)
    scores = [stoi(speech, tokenizer.decode(tokens, num_codebooks=q)[0], 16_000) for q in (1, 2, 4, 8)]
    assert scores == sorted(scores)
    assert scores[-1] > 0.85


def test_silence_stays_silent(tokenizer):
    decoded = tokenizer.decode(tokenizer.encode(torch.zeros(16_000), 16_000))
    assert decoded.abs().max() < 0.01


def test_it_loses_nothing_in_half_precision(tokenizer, speech):
    half = speechtok.load().half()
    assert half.fingerprint == tokenizer.fingerprint
    assert torch.equal(half.encode(speech, 16_000).codes, tokenizer.encode(speech, 16_000).codes)


def test_its_codes_of_the_sample_are_the_same_everywhere(tokenizer, speech):
    """The digest was taken on one machine; any other, with any PyTorch, gives it too."""
    tokens = tokenizer.encode(speech, 16_000)
    codes = tokens.codes.numpy().astype("<i8").tobytes()
    audio = (tokenizer.decode(tokens) + 0.0).numpy().astype("<f4").tobytes()
    assert hashlib.sha256(codes).hexdigest()[:16] == "51219be12a2ec96a"
    assert hashlib.sha256(audio).hexdigest()[:16] == "152318a2a0380aaf"


def test_streamed_it_gives_the_same(tokenizer, speech):
    tokens = tokenizer.encode(speech, 16_000)
    with tokenizer.stream() as stream:
        parts = [stream.encode(chunk) for chunk in speech.split(160)]
        codes = torch.cat([*parts, stream.flush()], 2)
        audio = torch.cat([stream.decode(codes[:, :, :10]), stream.decode(codes[:, :, 10:]), stream.drain()], 1)
    assert torch.equal(codes, tokens.codes)
    assert torch.equal(audio[:, : len(speech)], tokenizer.decode(tokens))
