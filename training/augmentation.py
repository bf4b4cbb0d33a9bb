"""Disturbed views of crops: rooms, noise and band limits, from which codebook 0 learns the codes of the clean crops."""

import fnmatch
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import AudioError
from training.config import AugmentationConfig
from training.dataset import Corpus, pack
from training.manifest import find_utterances, read_manifest

TELEPHONE_HZ = 300.0, 3_400.0
"""Narrowest band that is left, and the band of half of the views with a limited band."""
COLOURED_SHARE, BABBLE_SHARE = 0.4, 0.2
"""Shares of the noises that are made; the others are recordings, if there are any, or more babble."""
MAX_REVERBERATION_SECONDS = 0.6
MAX_TALKERS = 4
"""Largest number of voices in babble."""


def load_noise(config: AugmentationConfig, sample_rate: int, directory: Path) -> Corpus | None:
    """Decode the noises of a config, those held out excepted; ``None`` if it needs none.

    Args:
        config: names the noises.
        sample_rate: of the corpus, in hertz.
        directory: folder of the packed audio.

    Raises:
        MissingFileError: ``config.noise`` does not exist.
        AudioError: no noise is left, or none can be read.
    """
    if not config.active or not config.noise:
        return None
    path = Path(config.noise)
    found = read_manifest(path) if path.is_file() else [u for split in find_utterances(path) for u in split]
    kept = [u.audio for u in found if not fnmatch.fnmatch(u.id, config.noise_held_out)]
    if not kept:
        raise AudioError(
            f"augmentation.noise is {config.noise!r}, all of whose {len(found)} recordings augmentation.noise_held_out "
            f"({config.noise_held_out!r}) leaves out; expected noise to train on"
        )
    return pack(kept, sample_rate, directory)


class Disturber:
    """Disturbs crops of speech, in the order of nature: a room, noise, and a channel that limits the band.

    Args:
        config: shares and ranges.
        speech: utterances from which babble is mixed.
        noise: recordings of noise; coloured noise and babble are made in any case.
        sample_rate: in hertz.
    """

    def __init__(self, config: AugmentationConfig, speech: Corpus, noise: Corpus | None, sample_rate: int) -> None:
        self.config, self.speech, self.noise, self.sample_rate = config, speech, noise, sample_rate

    def __call__(self, waveform: Tensor, seed: int, step: int, rows: slice = slice(None)) -> Tensor:
        """Disturb each row of ``(B, S)``. The result depends on the arguments alone, and stays within [-1, 1].

        Args:
            waveform: clean crops.
            seed: seed of the training.
            step: number of the step.
            rows: rows of the whole batch that ``waveform`` has.
        """
        disturbed = np.empty_like(waveform.numpy())
        for row, clean in enumerate(waveform.numpy()):
            rng = np.random.default_rng((seed, step, 5, (rows.start or 0) + row))
            disturbed[row] = self._disturb(clean, rng)
        return torch.from_numpy(disturbed)

    def _disturb(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        c = self.config
        room, band = rng.random() < c.room_share, rng.random() < c.band_share
        noisy = rng.random() < c.noise_share or not (room or band)  # no view stays clean
        heard = reverberate(clean, self.sample_rate, rng) if room else clean
        if noisy:
            heard = mix(heard, self._noise(len(clean), rng), rng.uniform(c.snr_low_db, c.snr_high_db))
        if band:
            heard = limit_band(heard, self.sample_rate, rng)
        return heard / max(1.0, float(np.abs(heard).max()))

    def _noise(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Coloured noise, babble or a recording, of any level, float32 ``(S,)``."""
        kind = rng.random()
        if kind < COLOURED_SHARE:
            return coloured_noise(rng, samples)
        if kind < COLOURED_SHARE + BABBLE_SHARE or self.noise is None:
            talkers = range(rng.integers(1, MAX_TALKERS + 1))
            return cast(np.ndarray, sum(_excerpt(self.speech, samples, rng) for _ in talkers))
        return _excerpt(self.noise, samples, rng)


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise to speech at a ratio of their energies, float32 ``(S,)`` each."""
    energies = float(np.square(speech).mean()), float(np.square(noise).mean())
    gain = np.sqrt(energies[0] / max(energies[1], 1e-10)) * 10 ** (-snr_db / 20)
    return speech + np.float32(gain) * noise


def reverberate(speech: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Put speech into a random room: the direct sound, then noise that decays exponentially (Polack 1988).

    The direct sound is neither delayed nor changed in level.
    """
    seconds = rng.uniform(0.1, MAX_REVERBERATION_SECONDS)  # until the energy has fallen by 60 dB
    samples = int(seconds * sample_rate)
    tail = rng.standard_normal(samples).astype(np.float32) * np.exp(-6.9 * np.arange(samples) / samples)
    tail[: int(rng.uniform(0.002, 0.01) * sample_rate)] = 0  # before the first reflection
    direct_to_reverberant_db = rng.uniform(-3, 12)
    tail *= 10 ** (-direct_to_reverberant_db / 20) / np.sqrt(np.square(tail).sum() + 1e-10)
    tail[0] = 1
    length = len(speech) + samples
    wet = np.fft.irfft(np.fft.rfft(speech, length) * np.fft.rfft(tail, length), length)
    return wet[: len(speech)].astype(np.float32)


def limit_band(speech: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Keep a band only, with soft edges: the telephone's, or a random wider one."""
    low, high = TELEPHONE_HZ
    if rng.random() < 0.5:
        low, high = rng.uniform(0, low), rng.uniform(high, max(high, 0.45 * sample_rate))
    frequencies = np.fft.rfftfreq(len(speech), 1 / sample_rate)
    gain = np.clip((high + 200 - frequencies) / 400, 0, 1) * np.clip((frequencies - low + 50) / 100, 0, 1)
    return np.fft.irfft(np.fft.rfft(speech) * gain, len(speech)).astype(np.float32)


def coloured_noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise of power 1 whose spectrum falls by 0 to 6 dB per octave, chosen at random; float32 ``(S,)``."""
    spectrum = np.fft.rfft(rng.standard_normal(max(2, samples)).astype(np.float32))
    spectrum *= (np.arange(len(spectrum)) + 20.0) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, max(2, samples))[:samples]
    return (noise / np.sqrt(np.mean(noise**2) + 1e-12)).astype(np.float32)


def _excerpt(corpus: Corpus, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A random excerpt, repeated if the recording is shorter; float32 ``(S,)``."""
    index = int(rng.integers(0, len(corpus)))
    first, end = corpus.offsets[index], corpus.offsets[index + 1]
    start = int(rng.integers(0, max(1, end - first - samples + 1)))
    piece = corpus.samples[first + start : min(first + start + samples, end)].astype(np.float32) / 32_768
    return np.resize(piece, samples) if len(piece) else np.zeros(samples, np.float32)
