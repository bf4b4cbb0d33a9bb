"""The voice model that the package carries, on the sample that it carries."""

import hashlib
from pathlib import Path

import pytest
import torch

import speechtok
from speechtok.nn.native import use_isa
from speechtok.nn.native.library import available_isas
from speechtok.voice import Prosody, VoiceModel

SAMPLE = Path(speechtok.__file__).parent / "assets" / "sample.flac"


@pytest.fixture(scope="module")
def tok():
    return speechtok.load()


@pytest.fixture(scope="module")
def model(tok):
    return VoiceModel(tok)


@pytest.fixture(scope="module")
def sample():
    waveform, rate = speechtok.read_audio(SAMPLE)
    assert rate == 16_000
    return waveform


@pytest.fixture(scope="module")
def prompt(tok, sample):
    return tok.encode(sample[: 3 * 16_000], 16_000)


@pytest.fixture(scope="module")
def said(tok, sample):
    return tok.encode(sample[-2 * 16_000 :], 16_000, num_codebooks=1)


def measure(tok, tokens):
    return Prosody.of(tok.decode(tokens)[0], tok.sample_rate)


def test_it_speaks_at_the_pitch_of_the_prompt(tok, model, prompt, said):
    completed = model.complete(said, prompt)
    assert completed.generated_by == model.name
    assert torch.equal(completed.semantic, said.semantic)
    found, heard = measure(tok, completed), measure(tok, prompt)
    assert abs(found.median_pitch - heard.median_pitch) < 2


def test_it_follows_a_style(tok, model, prompt, said):
    def styled(**style):
        return measure(tok, model.complete(said, prompt, style))

    assert styled(pitch="very high").median_pitch > styled(pitch="very low").median_pitch + 3
    assert styled(energy="loud").energy > styled(energy="soft").energy + 2
    assert styled(brightness="bright").brightness > styled(brightness="dark").brightness + 2


def test_it_follows_a_contour(tok, model, prompt, said):
    frames = said.codes.shape[2]
    rising = torch.stack([torch.linspace(-4, 4, frames), torch.ones(frames)], 1)
    pitches = []
    for contour in (rising, rising * torch.tensor([-1.0, 1.0])):
        prosody = measure(tok, model.complete(said, prompt, contour=contour))
        first, second = prosody[: frames // 2], prosody[frames // 2 :]
        pitches.append(second.median_pitch - first.median_pitch)
    up, down = pitches
    assert up > down + 4


@pytest.mark.parametrize("isa", available_isas())
def test_its_codes_are_the_same_everywhere(model, prompt, said, isa):
    """The digest was taken on one machine; any other gives it too."""
    with use_isa(isa):
        codes = model.complete(said, prompt, style="a low, loud voice", seed=1).codes
    assert hashlib.sha256(codes.numpy().astype("<i8").tobytes()).hexdigest()[:16] == "e72fc2abbbd9ca4a"
