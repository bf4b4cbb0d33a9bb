"""The measures of one case. Scores are values and weights by name, for the journal of the evaluations."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.metrics.load import RECOGNITION
from benchmarks.metrics.metric import Metric, Value
from benchmarks.metrics.speech import SAMPLE_RATE, Speech
from benchmarks.metrics.voice import MIN_VOICED_FRAMES
from benchmarks.voice.cases import PROMPT_SECONDS, Case, Voice
from benchmarks.voice.studio import Studio, similarity
from speechtok.voice.generation import Sampling
from speechtok.voice.prosody import Prosody
from speechtok.voice.style import QUANTITIES, WORDS, Style, measured_values

VERSION = 2
"""Of the measures; kept results of another version are measured again."""

SOURCE, TRUE, TWO, ALONE = "recording", "true codes", "two true codebooks", "codebook 0 alone"
COMPLETED, WRONG, CONTOUR = "completed", "completed, wrong prompt", "completed, contour given"

Scores = dict[str, Value]

MEASURED: dict[str, tuple[str, ...]] = {
    "speaker": (SOURCE, TRUE, ALONE, COMPLETED, WRONG),
    "pitch": (SOURCE, TRUE, COMPLETED),
    "pitch_pyin": (SOURCE, TRUE, COMPLETED),
    "voicing_f1": (TRUE, ALONE, COMPLETED),
    "f0_correlation": (TRUE, ALONE, COMPLETED, CONTOUR),
    "f0_pyin": (TRUE, COMPLETED, CONTOUR),
    "wer": (SOURCE, TRUE, TWO, ALONE, COMPLETED),
    "dnsmos": (SOURCE, TRUE, ALONE, COMPLETED),
    "comb": (TRUE, ALONE, COMPLETED),
}
"""Versions of an utterance that each measure of the resynthesis hears."""

METRICS = ("voicing_f1", "f0_correlation", "f0_pyin", "wer", "dnsmos", "comb")
"""Those of :data:`MEASURED` that are metrics of :mod:`benchmarks.metrics`."""

ABLATED = ("voicing_f1", "wer", "dnsmos", "comb")


def key(measure: str, version: str) -> str:
    """Name of a score."""
    return f"{measure}: {version}"


def resynthesis(studio: Studio, case: Case, metrics: Mapping[str, Metric], slow: bool) -> Scores:
    """An utterance from its codebook 0 and a prompt of the same voice, beside what it could be at best and at worst."""
    source, tokens = studio.recording(case.source), studio.tokens(case.source)
    prompt, heard = studio.prompt(case.voice)
    versions = {
        SOURCE: source,
        TRUE: studio.decode(tokens, source),
        TWO: studio.decode(tokens, source, 2),
        ALONE: studio.decode(tokens, source, 1),
        COMPLETED: studio.complete(tokens, prompt, source),
        CONTOUR: studio.complete(tokens, prompt, source, studio.contour(case.source)),
    }
    if case.wrong is not None:
        versions[WRONG] = studio.complete(tokens, studio.prompt(case.wrong)[0], source)
    scores = {}
    for version, speech in versions.items():
        if version in MEASURED["speaker"]:
            scores[key("speaker", version)] = studio.likeness(speech, case.voice.others), 1.0
        if version in MEASURED["pitch"]:
            scores[key("pitch", version)] = mean_interval(heard.pitch, speech.pitch), 1.0
        if version in MEASURED["pitch_pyin"] and "f0_pyin" in metrics:
            scores[key("pitch_pyin", version)] = mean_interval(heard.pitch_pyin, speech.pitch_pyin), 1.0
        scores |= _measure(metrics, slow, source, speech, version)
    return scores


def _measure(metrics: Mapping[str, Metric], slow: bool, source: Speech, speech: Speech, version: str) -> Scores:
    return {
        key(name, version): metric.measure(source, speech)
        for name, metric in metrics.items()
        if version in MEASURED[name.partition("@")[0]] and (slow or not metric.slow)
    }


def conversion(
    studio: Studio, case: Case, voices: Sequence[Voice], metrics: Mapping[str, Metric], slow: bool
) -> Scores:
    """An utterance in the voices of other speakers: likeness to them and to its own speaker, and word errors."""
    source, tokens = studio.recording(case.source), studio.tokens(case.source)
    recognition = {name: metric for name, metric in metrics.items() if name.partition("@")[0] in RECOGNITION}
    scores: Scores = {}
    for version, speech in ((SOURCE, source), (TWO, studio.decode(tokens, source, 2))):
        scores |= _measure(recognition, slow, source, speech, version)
    for voice in voices:
        if voice.speaker == case.source.speaker:
            continue
        prompt, heard = studio.prompt(voice)
        converted = studio.complete(tokens, prompt, source)
        pair = [similarity(converted.speaker_embedding, x.speaker_embedding) for x in (heard, source)]
        speakers = [studio.likeness(converted, others) for others in (voice.others, case.voice.others)]
        scores |= {
            key("prompt", voice.speaker): (pair[0], 1.0),
            key("source", voice.speaker): (pair[1], 1.0),
            key("speaker of the prompt", voice.speaker): (speakers[0], 1.0),
            key("speaker of the source", voice.speaker): (speakers[1], 1.0),
        }
        if slow:
            scores |= {key(name, voice.speaker): m.measure(source, converted) for name, m in recognition.items()}
    return scores


def style(studio: Studio, case: Case) -> Scores:
    """What is measured in the result when each step of each quantity is asked for."""
    source, tokens = studio.recording(case.source), studio.tokens(case.source)
    prompt, _ = studio.prompt(case.voice)
    scores = {}
    for quantity in QUANTITIES:
        styles = [Style(**{quantity: word}) for word in WORDS[quantity]]
        for number, speech in enumerate(studio.styled(tokens, prompt, source, styles), 1):
            found = measured_values(Prosody.of(speech.waveform, SAMPLE_RATE))[quantity]
            scores[key(quantity, str(number))] = found, 1.0
    return scores


@dataclasses.dataclass(frozen=True)
class Setting:
    """How the voice model is used in the ablation.

    Attributes:
        label: what differs from the settings that are measured otherwise.
        sampling: of the voice model.
        prompt_seconds: length of the prompt.
    """

    label: str
    sampling: Sampling
    prompt_seconds: float = PROMPT_SECONDS


def settings(base: Sampling) -> list[Setting]:
    """The settings of the ablation: ``base``, and one value after the other changed."""
    found = [Setting("as measured", base)]
    changes: dict[str, tuple[Any, ...]] = {
        "steps": (1, 2, 4, 8, 16),
        "guidance": (1.0, 1.5, 2.5, 4.0),
        "temperature": (0.2, 0.35, 0.5, 0.8),
    }
    for name, values in changes.items():
        found += [
            Setting(f"{name} {value}", dataclasses.replace(base, **{name: value}))
            for value in values
            if value != getattr(base, name)
        ]
    return [*found, *(Setting(f"prompt {seconds:g} s", base, seconds) for seconds in (1.0, 6.0))]


def ablation(studio: Studio, case: Case, metrics: Mapping[str, Metric], slow: bool) -> Scores:
    """The resynthesis in all settings."""
    source, tokens = studio.recording(case.source), studio.tokens(case.source)
    seconds = len(source.waveform) / SAMPLE_RATE
    scores = {
        key("speaker", version): (studio.likeness(speech, case.voice.others), 1.0)
        for version, speech in ((SOURCE, source), (ALONE, studio.decode(tokens, source, 1)))
    }
    for setting in settings(studio.sampling):
        prompt, heard = studio.prompt(case.voice, setting.prompt_seconds)
        start = time.process_time()
        speech = studio.complete(tokens, prompt, source, sampling=setting.sampling)
        spent = time.process_time() - start
        scores |= {
            key("cpu", setting.label): (spent / seconds, seconds),
            key("prompt seconds", setting.label): (len(heard.waveform) / SAMPLE_RATE, 1.0),
            key("speaker", setting.label): (studio.likeness(speech, case.voice.others), 1.0),
            key("pitch", setting.label): (mean_interval(heard.pitch, speech.pitch), 1.0),
        }
        scores |= {
            key(name, setting.label): metric.measure(source, speech)
            for name, metric in metrics.items()
            if name.partition("@")[0] in ABLATED and (slow or not metric.slow)
        }
    return scores


def mean_interval(a: np.ndarray, b: np.ndarray) -> float:
    """Mean log F0 of the pitch ``b`` over that of ``a``, in semitones; NaN if one of them is hardly voiced."""
    means = []
    for pitch in (a, b):
        voiced = pitch[pitch > 0]
        if len(voiced) < MIN_VOICED_FRAMES:
            return math.nan
        means.append(float(np.log2(voiced).mean()))
    return 12 * (means[1] - means[0])
