"""Utterances to listen to in a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

import speechtok
from benchmarks.codecs.interface import Codec
from benchmarks.evaluation.conditions import CLEAN, apply_condition
from benchmarks.evaluation.delay import remove_delay
from benchmarks.evaluation.reconstruct import reconstruct
from benchmarks.metrics.speech import SAMPLE_RATE
from benchmarks.report.data import Report, extremes
from speechtok.errors import SpeechtokError
from speechtok.resampling import resample
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
    utterances: Sequence[Utterance],
    codecs: dict[str, Codec],
    delays: dict[str, int],
    count: int,
    condition: str = CLEAN,
) -> list[Example]:
    """Decode ``count`` utterances, spread evenly over the manifest.

    Files and codecs that fail are left out: the evaluation reports them.
    """
    indices = np.linspace(0, len(utterances) - 1, min(count, len(utterances)) + 2).round()[1:-1].astype(int)
    found = (_decode(utterances[index], codecs, delays, condition) for index in indices)
    return [example for example in found if example]


def make_extremes(
    report: Report, utterances: Sequence[Utterance], codecs: dict[str, Codec], delays: dict[str, int]
) -> list[Example]:
    """Decode the best, median and worst utterance of the first codec, by each metric of the summary."""
    spec = next(iter(codecs))
    by_id = {utterance.id: utterance for utterance in utterances}
    decoded: dict[str, Example | None] = {}
    found = []
    for name, metric in report["metrics"].items():
        if not metric["summary"]:
            continue
        for rank, (utterance, value) in extremes(report, spec, name).items():
            if utterance not in decoded:
                decoded[utterance] = _decode(by_id[utterance], {spec: codecs[spec]}, delays, report["condition"])
            example = decoded[utterance]
            if example:
                caption = f"{metric['title']}, {rank}: {value:.{metric['digits']}f}"
                found.append(Example(f"{caption} ({example.caption})", example.waveforms))
    return found


def _decode(utterance: Utterance, codecs: dict[str, Codec], delays: dict[str, int], condition: str) -> Example | None:
    try:
        waveform, rate = apply_condition(condition, *speechtok.read_audio(utterance.audio), utterance.id)
    except (SpeechtokError, OSError, RuntimeError):
        return None
    original = resample(waveform[None], rate, SAMPLE_RATE)[0]
    waveforms = [("original", original)]
    for spec, codec in codecs.items():
        try:
            decoded = reconstruct(codec, waveform, rate).waveform
        except Exception:  # codecs of other projects raise anything
            continue
        waveforms.append((spec, remove_delay(original, decoded, delays[spec])[1]))
    caption = f"{utterance.id}: {utterance.text}" if utterance.text else utterance.id
    return Example(caption, waveforms)
