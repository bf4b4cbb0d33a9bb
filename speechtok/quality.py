"""How much of speech came back, by well-kept libraries (the ``bench`` extra), guarded against what they stumble on."""

import importlib
import math
import warnings
from typing import Any

import numpy as np
from torch import Tensor

from speechtok.audio import resample

_PESQ_RATE = 16_000
_PESQ_SECONDS = 20  # the pesq library overruns its memory at 50 stretches of speech; this long cannot hold as many


def pesq_wb(before: Tensor, after: Tensor, sample_rate: int) -> float:
    """PESQ-WB (ITU-T P.862.2) of ``after`` against ``before``, ``(S,)`` each, at 16 kHz.

    Returns:
        1.0 to 4.64, the mean over equal pieces of at most 20 s; NaN where PESQ finds no speech, or less than a quarter
        of a second.

    Raises:
        ImportError: the pesq library is not installed.
    """
    pesq: Any = importlib.import_module("pesq")
    pair = [resample(x[None], sample_rate, _PESQ_RATE)[0].numpy() for x in (before, after)]
    pieces = -(-len(pair[0]) // (_PESQ_SECONDS * _PESQ_RATE))
    scores = []
    for x, y in zip(*(np.array_split(waveform, pieces) for waveform in pair), strict=True):
        if not x.any() or not y.any():
            continue  # it would divide by their peak
        try:
            scores.append(float(pesq.pesq(_PESQ_RATE, x, y, "wb")))
        except (RuntimeError, ValueError):  # no speech, or too little
            continue
    return float(np.mean(scores)) if scores else math.nan


def stoi(before: Tensor, after: Tensor, sample_rate: int) -> float:
    """Short-time objective intelligibility (Taal et al. 2011) of ``after`` against ``before``, ``(S,)`` each.

    Returns:
        0 to 1; NaN where there are too few frames of speech.

    Raises:
        ImportError: the pystoi library is not installed.
    """
    pystoi: Any = importlib.import_module("pystoi")
    if not before.any():
        return math.nan
    try:
        with warnings.catch_warnings():
            # it warns, and returns a number, where it has too few frames
            warnings.simplefilter("error", RuntimeWarning)
            return float(pystoi.stoi(before.numpy(), after.numpy(), sample_rate))
    except (RuntimeWarning, ValueError):
        return math.nan
