import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.metrics import speech as metrics_speech
from benchmarks.voice.studio import Studio
from speechtok import SpeechTokens
from speechtok.voice.generation import Sampling
from tests.voice.voices import make_voice
from training.manifest import Utterance

RATE, HOP, CODEBOOKS = 16_000, 320, 4
PITCHES = {"ann": 210.0, "bea": 260.0, "carl": 100.0, "dan": 130.0}
GENDERS = {"ann": "f", "bea": "f", "carl": "m", "dan": "m"}


class LookupTokenizer:
    """Codes are the numbers of the waveforms that were encoded: codebook 0 says which content, codebook 1 which voice.

    Codebook 0 alone is noise. Content in another voice is the waveform of that voice, at the length of the content:
    pitch and speaker are right, and the words are lost.
    """

    sample_rate, hop_length = RATE, HOP

    def __init__(self):
        self.waveforms = []

    def encode(self, waveform, sample_rate):
        assert sample_rate == RATE
        self.waveforms.append(torch.as_tensor(waveform))
        number, frames = len(self.waveforms) - 1, -(-len(waveform) // HOP)
        codes = torch.zeros(1, CODEBOOKS, frames, dtype=torch.int64)
        codes[:, :2] = number
        lengths, samples = torch.tensor([frames]), torch.tensor([len(waveform)])
        return SpeechTokens(codes, lengths, samples, RATE, HOP, 1024, "lookup")

    def decode(self, tokens, num_codebooks=None):
        codes = tokens.codes[0, :num_codebooks]
        length = int(tokens.num_samples[0])
        if len(codes) == 1:
            return 0.05 * torch.randn(1, length, generator=torch.Generator().manual_seed(int(codes[0, 0])))
        if len(codes) > 2 and int(codes[2, 0]):  # a style
            pitch, tilt = 80 * 2 ** (int(codes[2, 0]) / 5), -16 + float(codes[3, 0])
            return torch.from_numpy(make_voice(pitch, length / RATE, tilt))[None]
        voice = self.waveforms[int(codes[1, 0])]
        return voice.repeat(-(-length // len(voice)))[None, :length]


class LookupModel:
    """A voice model for :class:`LookupTokenizer`.

    Args:
        hears_prompt: whether it speaks with the voice of the prompt; else it finds the true codes.
        hears_contour: whether it finds the true codes if it is given a contour.
        obeys: whether it does as the style says.
    """

    def __init__(self, hears_prompt=False, hears_contour=False, obeys=False):
        self.hears_prompt, self.hears_contour, self.obeys = hears_prompt, hears_contour, obeys

    def complete(self, semantic, prompt, style=None, seed=0, sampling=None, contour=None):
        assert semantic.num_codebooks == 1
        codes = semantic.codes.repeat(1, CODEBOOKS, 1)
        codes[:, 2:] = 0
        if self.hears_prompt and not (self.hears_contour and contour is not None):
            codes[:, 1] = prompt.codes[0, 0, 0]
        for row, asked in enumerate(style or []):
            if self.obeys:
                pitch, _, energy, _ = asked.steps().tolist()
                codes[row, 2], codes[row, 3] = pitch or 4, energy or 4
        return dataclasses.replace(semantic, codes=codes, generated_by="lookup")


def fake_embedding(waveform, sample_rate):
    """A unit vector that says where the energy is below 1 kHz."""
    if not waveform.any():
        return None
    power = np.abs(np.fft.rfft(waveform.numpy(), 4 * sample_rate))[: 4 * 1_000] ** 2
    bands = np.sqrt(power.reshape(100, -1).mean(1))
    return bands / np.linalg.norm(bands)


@pytest.fixture
def quick_embeddings(monkeypatch):
    monkeypatch.setattr(metrics_speech, "speaker_embedding", fake_embedding)


def make_utterances(folder: Path, count: int = 4, seconds: float = 1.0) -> list[Utterance]:
    """Utterances of :data:`PITCHES`; each has a melody of its own."""
    utterances = []
    for speaker, hertz in PITCHES.items():
        for number in range(count):
            path = folder / f"{speaker}-{number}.wav"
            melody = lambda t, f=hertz, n=number: f * 2 ** (0.1 * np.sin(2 * np.pi * (1 + n) * t))  # noqa: E731
            waveform = make_voice(melody, seconds + 0.1 * number)
            soundfile.write(path, waveform, RATE, subtype="FLOAT")
            utterances.append(
                Utterance(
                    path,
                    path.stem,
                    len(waveform) / RATE,
                    "one two",
                    speaker=speaker,
                    lang="en",
                    gender=GENDERS[speaker],
                )
            )
    return utterances


@pytest.fixture(scope="session")
def utterances(tmp_path_factory):
    return make_utterances(tmp_path_factory.mktemp("voices"))


@pytest.fixture
def new_studio():
    """``new_studio(hears_prompt=…, …)``: a studio with a :class:`LookupModel`."""
    return lambda **options: Studio(LookupTokenizer(), LookupModel(**options), Sampling())
