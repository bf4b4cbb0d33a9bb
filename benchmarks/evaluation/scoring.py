"""Scores of one utterance."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

import speechtok
from benchmarks.codecs.interface import Codec
from benchmarks.codecs.load import load_codec
from benchmarks.evaluation.conditions import CLEAN, apply_condition
from benchmarks.evaluation.delay import remove_delay
from benchmarks.evaluation.reconstruct import reconstruct
from benchmarks.metrics.load import load_metrics
from benchmarks.metrics.metric import Metric, Value
from benchmarks.metrics.speech import SAMPLE_RATE, Speech
from speechtok.errors import InputError, SpeechtokError
from speechtok.resampling import resample
from training.manifest import Utterance


@dataclass(frozen=True)
class Settings:
    """What is measured. Every worker process receives a copy.

    Attributes:
        codecs: specifications.
        metrics: names.
        recognisers: names of the recognisers for word and character errors.
        delays: delay of each codec, in samples at 16 kHz.
        condition: what is done to every utterance first; see :mod:`benchmarks.evaluation.conditions`.
    """

    codecs: tuple[str, ...]
    metrics: tuple[str, ...]
    recognisers: tuple[str, ...]
    delays: dict[str, int]
    condition: str = CLEAN


@dataclass(frozen=True)
class Result:
    """Scores of one utterance and one codec.

    Attributes:
        utterance: id of the utterance.
        codec: specification of the codec.
        seconds: duration of the utterance.
        bits: size of the encoded utterance.
        scores: value and weight of each metric.
        codes: ``(Q, T)`` as nested lists; ``None`` for codecs without codebooks.
        failure: error message; ``None`` if the utterance was scored.
    """

    utterance: str
    codec: str
    seconds: float = 0.0
    bits: float = 0.0
    scores: dict[str, Value] = field(default_factory=dict)
    codes: list[list[int]] | None = None
    failure: str | None = None


class Scorer:
    """Scores utterances one by one, on one thread."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        self.settings = settings
        self.codecs: dict[str, Codec] = {spec: load_codec(spec) for spec in settings.codecs}
        self.metrics = _select_metrics(settings)

    def __call__(self, utterance: Utterance, specs: Sequence[str], slow: bool) -> list[Result]:
        """Score one utterance.

        Args:
            utterance: the utterance.
            specs: codecs to score.
            slow: whether to measure slow metrics.
        """
        try:
            waveform, sample_rate = speechtok.read_audio(utterance.audio)
            if not len(waveform):
                raise InputError(f"{utterance.audio} has no samples; expected at least one")
            waveform, sample_rate = apply_condition(self.settings.condition, waveform, sample_rate, utterance.id)
        except (SpeechtokError, OSError, RuntimeError) as error:
            return [Result(utterance.id, spec, failure=str(error)) for spec in specs]
        whole = resample(waveform[None], sample_rate, SAMPLE_RATE)[0]
        shared = Speech(whole, utterance.text, utterance.lang)
        seconds = len(waveform) / sample_rate
        results = []
        for spec in specs:
            try:
                reconstruction = reconstruct(self.codecs[spec], waveform, sample_rate)
                before, after = remove_delay(whole, reconstruction.waveform, self.settings.delays[spec])
                if not len(before):
                    raise InputError("no samples are left after the delay of the codec is removed")
                # codecs without a delay share the features of the original
                original = shared if len(before) == len(whole) else _piece(before, shared)
                decoded = original if torch.equal(before, after) else Speech(after.contiguous())
                scores = {
                    name: metric.measure(original, decoded)
                    for name, metric in self.metrics.items()
                    if not metric.unavailable and (slow or not metric.slow)
                }
                codes = None if reconstruction.codes is None else reconstruction.codes.tolist()
                results.append(Result(utterance.id, spec, seconds, reconstruction.bits, scores, codes))
            except Exception as error:  # codecs and libraries of other projects raise anything
                results.append(Result(utterance.id, spec, seconds, failure=f"{type(error).__name__}: {error}"))
        return results


def _select_metrics(settings: Settings) -> dict[str, Metric]:
    names = dict.fromkeys(name.split("@")[0] for name in settings.metrics)
    found = load_metrics(list(names), settings.recognisers)
    return {name: found[name] for name in settings.metrics}


def _piece(waveform: Tensor, whole: Speech) -> Speech:
    return Speech(waveform, whole.text, whole.lang, whole.transcripts)
