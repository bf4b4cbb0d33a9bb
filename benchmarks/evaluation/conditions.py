"""Conditions: what is done to an utterance before a codec receives it, such as noise or a telephone band.

The reference of the metrics is the changed utterance, as the codec receives it.

| condition | what is done |
|---|---|
| ``clean`` | nothing |
| ``noise:10`` | noise at 10 dB SNR, a different one for each utterance |
| ``reverb`` | a room with a reverberation time of 0.4 s |
| ``gain:-20`` | 20 dB less; samples beyond full scale are clipped |
| ``telephone`` | 300 to 3400 Hz |
| ``rate:8000`` | resampled to 8 kHz, which is then the sample rate of the source |
| ``shift:5`` | 5 ms of silence before the utterance |
| ``music`` | the utterance is replaced by notes of three voices |
| ``silence`` | the utterance is replaced by faint noise at -75 dBFS |
"""

import argparse
import hashlib
from collections.abc import Callable

import numpy as np
import scipy.signal
import torch
from torch import Tensor

from speechtok.errors import InputError, quoted
from speechtok.resampling import resample

CLEAN = "clean"

CONDITIONS = (CLEAN, "noise:DB", "reverb", "gain:DB", "telephone", "rate:HZ", "shift:MS", "music", "silence")

NOISE_SLOPE = 0.5
"""Exponent of the amplitude spectrum of the noise over frequency: pink, as most rooms are."""
REVERBERATION = 0.4
"""Time in which the reverberation falls by 60 dB, in seconds."""
SILENCE_LEVEL = -75.0
"""Level of silence, in dBFS: a good microphone in a quiet room."""


def apply_condition(name: str, waveform: Tensor, sample_rate: int, utterance: str) -> tuple[Tensor, int]:
    """Change a waveform.

    Args:
        name: of the condition.
        waveform: ``(S,)``.
        sample_rate: in hertz.
        utterance: id of the utterance, which random numbers depend on.

    Returns:
        A waveform ``(S',)`` and its sample rate.

    Raises:
        InputError: there is no such condition.
    """
    kind, number = parse_condition(name)
    if kind == CLEAN:
        return waveform, sample_rate
    if kind == "rate":
        return resample(waveform[None], sample_rate, round(number))[0], round(number)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(utterance.encode()).digest()[:8], "little"))
    changed = _CHANGES[kind](waveform.double().numpy(), sample_rate, number, rng)
    return torch.from_numpy(changed.clip(-1, 1)).float(), sample_rate


def parse_condition(name: str) -> tuple[str, float]:
    """Kind and number of a condition; the number is 0 if the condition has none.

    Raises:
        InputError: there is no such condition.
    """
    kind, _, text = name.partition(":")
    form = {condition.partition(":")[0]: condition for condition in CONDITIONS}.get(kind)
    try:
        number = float(text) if text else 0.0
    except ValueError:
        number = float("nan")
    smallest, largest = {"rate": (4_000, 384_000), "shift": (0, 1_000)}.get(kind, (-100, 100))
    if form is None or bool(text) != (":" in form) or not smallest <= number <= largest:
        raise InputError(
            f"condition is {quoted(name)}; expected one of {', '.join(CONDITIONS)}, where DB is -100 to 100, HZ is "
            "4000 to 384000 and MS is 0 to 1000"
        )
    return kind, number


def condition(text: str) -> str:
    """An argparse type: the name of a condition."""
    try:
        parse_condition(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _noise(x: np.ndarray, rate: int, decibels: float, rng: np.random.Generator) -> np.ndarray:
    noise = pink_noise(len(x), rng)
    power = float(np.mean(x**2))
    return x + noise * np.sqrt(power / max(float(np.mean(noise**2)), 1e-12)) * 10 ** (-decibels / 20)


def pink_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise ``(S,)`` whose power falls by 3 dB per octave."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** NOISE_SLOPE, samples)


def _reverb(x: np.ndarray, rate: int, _: float, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(round(REVERBERATION * rate)) / rate
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / REVERBERATION)
    tail[: round(0.005 * rate)] = 0.0  # the first reflection comes after 5 ms
    response = np.concatenate([[1.0], tail[1:] / np.sqrt(np.sum(tail**2))])  # as much energy as the direct sound
    wet = scipy.signal.fftconvolve(x, response)[: len(x)]
    return wet * np.sqrt(np.mean(x**2) / max(float(np.mean(wet**2)), 1e-12))


def _gain(x: np.ndarray, rate: int, decibels: float, rng: np.random.Generator) -> np.ndarray:
    return x * 10 ** (decibels / 20)


def _telephone(x: np.ndarray, rate: int, _: float, rng: np.random.Generator) -> np.ndarray:
    sections = scipy.signal.butter(6, [300, min(3_400, 0.49 * rate)], "bandpass", fs=rate, output="sos")
    return scipy.signal.sosfilt(sections, x)


def _shift(x: np.ndarray, rate: int, milliseconds: float, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([np.zeros(round(milliseconds * rate / 1000)), x])


def _music(x: np.ndarray, rate: int, _: float, rng: np.random.Generator) -> np.ndarray:
    """Plucked notes of a pentatonic scale in three voices, each with eight decaying harmonics."""
    y, time = np.zeros(len(x)), np.arange(len(x)) / rate
    for octave, length in ((110.0, 0.8), (220.0, 0.4), (440.0, 0.2)):
        for start in np.arange(0.0, len(x) / rate, length):
            pitch = octave * 2 ** (rng.choice([0, 2, 4, 7, 9]) / 12)
            t = time[round(start * rate) :][: round(2 * length * rate)] - start
            for harmonic in range(1, 9):
                tone = np.sin(2 * np.pi * harmonic * pitch * t) * np.exp(-(2.0 + harmonic) * t) / harmonic
                y[round(start * rate) :][: len(t)] += tone * (harmonic * pitch < rate / 2)
    return 0.3 * y / max(float(np.abs(y).max()), 1e-12)


def _silence(x: np.ndarray, rate: int, _: float, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(len(x)) * 10 ** (SILENCE_LEVEL / 20)


_CHANGES: dict[str, Callable[[np.ndarray, int, float, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "reverb": _reverb,
    "gain": _gain,
    "telephone": _telephone,
    "shift": _shift,
    "music": _music,
    "silence": _silence,
}
