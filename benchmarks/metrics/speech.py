"""A waveform together with features that several metrics use."""

import functools
import importlib
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.metrics.clicks import click_levels
from benchmarks.metrics.comb import comb_levels
from benchmarks.metrics.octaves import octave_levels
from speechtok.dnsmos import Dnsmos, dnsmos
from speechtok.metrics import intelligibility, speaker_embedding

SAMPLE_RATE = 16_000
"""Sample rate of all metrics, in hertz."""

_STOI_RATE = 10_000


class Speech:
    """One waveform. Features are computed on first use and kept.

    Args:
        waveform: ``(S,)`` at 16 kHz, in [-1, 1].
        text: transcript, if known.
        lang: language tag such as ``"en"``, if known.
        transcripts: of recognisers, by name; pass those of the uncut utterance for a piece that differs by some
            milliseconds, so that it is not recognised again.
    """

    def __init__(
        self,
        waveform: Tensor,
        text: str | None = None,
        lang: str | None = None,
        transcripts: dict[str, str] | None = None,
    ) -> None:
        self.waveform, self.text, self.lang = waveform, text, lang
        self.transcripts: dict[str, str] = {} if transcripts is None else transcripts
        self.magnitudes: dict[tuple[int, int], Tensor] = {}
        """Magnitude spectrograms by FFT size and hop length, filled by the spectral metrics."""
        self._intelligibility: tuple[Speech, tuple[float, float]] | None = None

    @functools.cached_property
    def pitch(self) -> np.ndarray:
        """Fundamental frequency every 10 ms in hertz, 60 to 500 Hz, 0 where unvoiced.

        Estimated by DIO and StoneMask of WORLD (Morise et al. 2009; Morise, Yokomori and Ozawa 2016). DIO runs at 8
        kHz, which is three times as fast.
        """
        pyworld: Any = importlib.import_module("pyworld")
        x = self.waveform.numpy().astype(np.float64)
        f0, times = pyworld.dio(x, SAMPLE_RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=10.0, speed=2)
        refined: np.ndarray = pyworld.stonemask(x, f0, times, SAMPLE_RATE)
        return refined

    @functools.cached_property
    def pitch_pyin(self) -> np.ndarray:
        """As :attr:`pitch`, by pYIN (Mauch and Dixon 2014), which works in another way: a second opinion.

        Its steps are a quarter of a semitone, which is three times as fast as the default of a tenth.
        """
        librosa: Any = importlib.import_module("librosa")
        if not self.waveform.any():
            return np.zeros(1 + len(self.waveform) // 160)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of waveforms shorter than a window
            f0: np.ndarray = librosa.pyin(
                self.waveform.numpy(),
                fmin=60.0,
                fmax=500.0,
                sr=SAMPLE_RATE,
                frame_length=1024,
                hop_length=160,
                resolution=0.25,
                fill_na=0.0,
            )[0]
        return f0

    @functools.cached_property
    def at_10_khz(self) -> Tensor:
        """The waveform at 10 kHz, float64, resampled by pystoi for STOI and ESTOI."""
        utils: Any = importlib.import_module("pystoi.utils")
        return torch.from_numpy(utils.resample_oct(self.waveform.numpy(), _STOI_RATE, SAMPLE_RATE))

    def intelligibility(self, original: "Speech") -> tuple[float, float]:
        """STOI and ESTOI against an original; the last result is kept, as each is a metric of its own."""
        if self._intelligibility is None or self._intelligibility[0] is not original:
            self._intelligibility = original, intelligibility(original.at_10_khz, self.at_10_khz, _STOI_RATE)
        return self._intelligibility[1]

    @functools.cached_property
    def comb_levels(self) -> np.ndarray:
        """See :func:`benchmarks.metrics.comb.comb_levels`."""
        return comb_levels(self.waveform.numpy(), SAMPLE_RATE)

    @functools.cached_property
    def click_levels(self) -> np.ndarray:
        """See :func:`benchmarks.metrics.clicks.click_levels`."""
        return click_levels(self.waveform.numpy(), SAMPLE_RATE)

    @functools.cached_property
    def octave_levels(self) -> np.ndarray:
        """See :func:`benchmarks.metrics.octaves.octave_levels`."""
        return octave_levels(self.waveform.numpy(), SAMPLE_RATE)

    @functools.cached_property
    def dnsmos(self) -> Dnsmos:
        """See :func:`speechtok.dnsmos.dnsmos`."""
        return dnsmos(self.waveform.numpy(), SAMPLE_RATE)

    @functools.cached_property
    def speaker_embedding(self) -> np.ndarray | None:
        """See :func:`speechtok.metrics.speaker_embedding`."""
        return speaker_embedding(self.waveform, SAMPLE_RATE)
