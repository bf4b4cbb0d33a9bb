"""Delay of a codec, which is removed before waveforms are compared."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import speechtok
from benchmarks.codecs.interface import Codec
from benchmarks.evaluation.reconstruct import reconstruct
from benchmarks.metrics.speech import SAMPLE_RATE
from speechtok.errors import SpeechtokError
from speechtok.resampling import resample
from training.manifest import Utterance

NUM_UTTERANCES = 8
"""Number of utterances that a delay is measured on."""

MAX_DELAY = SAMPLE_RATE // 10
"""Largest delay in either direction, in samples at 16 kHz."""


def remove_delay(original: Tensor, decoded: Tensor, delay: int) -> tuple[Tensor, Tensor]:
    """Cut two waveforms to the time span that both cover.

    Args:
        original: ``(S,)``.
        decoded: ``(S',)``, ``delay`` samples late.
        delay: in samples; negative if the decoded waveform is early.

    Returns:
        Both waveforms, equally long.
    """
    original, decoded = original[max(0, -delay) :], decoded[max(0, delay) :]
    length = min(len(original), len(decoded))
    return original[:length], decoded[:length]


def find_delay(pairs: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Find the common delay of decoded waveforms, by normalised cross-correlation.

    Args:
        pairs: originals ``(S,)`` and decoded waveforms ``(S',)``.

    Returns:
        The delay in samples with the largest absolute sum of correlations (a codec may invert the polarity); 0 if all
        waveforms are silent.
    """
    total = np.zeros(2 * MAX_DELAY + 1)
    for original, decoded in pairs:
        if not original.any() or not decoded.any():
            continue
        x, y = original.double(), decoded.double()
        length = 2 ** math.ceil(math.log2(len(x) + len(y) + MAX_DELAY))
        spectrum = torch.fft.rfft(y, length) * torch.fft.rfft(x, length).conj()
        correlation = torch.fft.irfft(spectrum, length) / (x.norm() * y.norm())
        total += torch.cat([correlation[-MAX_DELAY:], correlation[: MAX_DELAY + 1]]).numpy()
    best = int(np.argmax(np.abs(total)))
    return best - MAX_DELAY if abs(total[best]) > abs(total[MAX_DELAY]) + 1e-9 else 0


def measure_delays(codecs: dict[str, Codec], utterances: Sequence[Utterance]) -> dict[str, int]:
    """Measure the delay of each codec on the first readable utterances.

    Files and codecs that fail are skipped: the evaluation reports them.

    Args:
        codecs: codecs by specification.
        utterances: the first :data:`NUM_UTTERANCES` that can be read are used.

    Returns:
        Delays by specification, in samples at 16 kHz.
    """
    waveforms = []
    for utterance in utterances:
        try:
            waveforms.append(speechtok.read_audio(utterance.audio))
        except (SpeechtokError, OSError, RuntimeError):
            continue
        if len(waveforms) == NUM_UTTERANCES:
            break
    delays = {}
    for spec, codec in tqdm(codecs.items(), desc="delays", unit="codec"):
        pairs = []
        for waveform, rate in waveforms:
            try:
                decoded = reconstruct(codec, waveform, rate).waveform
            except Exception:  # codecs of other projects raise anything
                continue
            pairs.append((resample(waveform[None], rate, SAMPLE_RATE)[0], decoded))
        delays[spec] = find_delay(pairs)
    return delays
