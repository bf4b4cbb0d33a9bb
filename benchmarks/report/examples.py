"""Utterances to listen to in a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

import speechtok
from benchmarks.codecs.interface import Codec
from benchmarks.evaluation.delay import remove_delay
from benchmarks.evaluation.reconstruct import reconstruct
from benchmarks.metrics.speech import SAMPLE_RATE
from speechtok.audio import resample
from speechtok.errors import SpeechtokError
from training.manifest import Utterance


@dataclass(frozen=True)
class Example:
    """One utterance, original and decoded.

    Attributes:
        caption: id and transcript.
        waveforms: the name and ``(S,)`` at 16 kHz of the original and of each codec.
    """

    caption: str
    waveforms: list[tuple[str, Tensor]]


def make_examples(
    utterances: Sequence[Utterance], codecs: dict[str, Codec], delays: dict[str, int], count: int
) -> list[Example]:
    """Decode ``count`` utterances, spread evenly over the manifest.

    Files and codecs that fail are left out: the evaluation reports them.
    """
    found: list[Example] = []
    indices = np.linspace(0, len(utterances) - 1, min(count, len(utterances)) + 2).round()[1:-1].astype(int)
    for utterance in (utterances[index] for index in indices):
        try:
            waveform, rate = speechtok.read_audio(utterance.audio)
        except (SpeechtokError, OSError, RuntimeError):
            continue
        original = resample(waveform[None], rate, SAMPLE_RATE)[0]
        waveforms = [("original", original)]
        for spec, codec in codecs.items():
            try:
                decoded = reconstruct(codec, waveform, rate).waveform
            except Exception:  # codecs of other projects raise anything
                continue
            waveforms.append((spec, remove_delay(original, decoded, delays[spec])[1]))
        caption = f"{utterance.id}: {utterance.text}" if utterance.text else utterance.id
        found.append(Example(caption, waveforms))
    return found
