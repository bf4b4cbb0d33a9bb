"""What the results of all cases say: means, shares and correlations with intervals, and the targets they must reach."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from benchmarks.bootstrap import RESAMPLES, Estimate, estimate
from benchmarks.evaluation.scoring import Result
from benchmarks.voice.measures import ALONE, COMPLETED, CONTOUR, MEASURED, SOURCE, TRUE, TWO, WRONG, Setting, key
from speechtok.voice.style import NUM_STEPS, QUANTITIES

CLOSE_PITCH = 1.5
"""Semitones between the mean pitch of a result and that of its prompt."""


class Scores:
    """Scores of many cases.

    Args:
        results: of the cases; those that failed are left out.
        speakers: speaker of each utterance, by id.
    """

    def __init__(self, results: Sequence[Result], speakers: Mapping[str, str]) -> None:
        self.results = [result for result in results if result.failure is None]
        self.speakers = np.array([speakers[result.utterance] for result in self.results])

    def values(self, measure: str, version: str) -> np.ndarray:
        """Value of each case, ``(N,)``; NaN where it has none."""
        return self._column(measure, version, 0, math.nan)

    def weights(self, measure: str, version: str) -> np.ndarray:
        """Weight of each case, ``(N,)``."""
        return self._column(measure, version, 1, 0.0)

    def _column(self, measure: str, version: str, part: int, missing: float) -> np.ndarray:
        name = key(measure, version)
        return np.array([result.scores.get(name, (missing, missing))[part] for result in self.results], float)

    def versions(self, measure: str) -> list[str]:
        """Versions that have scores of a measure, in order."""
        names = (name.partition(": ") for result in self.results for name in result.scores)
        return list(dict.fromkeys(version for found, _, version in names if found == measure))

    def mean(self, measure: str, version: str, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Estimate:
        """Mean of the values, or of what ``change`` makes of them."""
        return self.estimate(change(self.values(measure, version)), self.weights(measure, version))

    def estimate(self, values: np.ndarray, weights: np.ndarray | None = None) -> Estimate:
        """Weighted mean over cases. Its interval draws speakers anew: cases of one speaker are alike."""
        kept = ~np.isnan(values)
        _, places = np.unique(self.speakers[kept], return_inverse=True)
        given = np.ones(len(places)) if weights is None else weights[kept]
        totals = np.bincount(places, given)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.bincount(places, values[kept] * given) / totals
        return dataclasses.replace(estimate(means, totals), count=int(kept.sum()))

    def difference(self, measure: str, version: str, than: str) -> Estimate:
        """How far a version is above another one, over the cases that have both."""
        values = self.values(measure, version) - self.values(measure, than)
        return self.estimate(values, self.weights(measure, than))


def share(won: np.ndarray) -> np.ndarray:
    """1 where a margin is above 0, 0 where it is not; NaN stays."""
    return np.where(np.isnan(won), math.nan, won > 0)


def resynthesis(scores: Scores) -> dict[str, Any]:
    """Means of all measures and versions, and what they say about the voice."""
    names = dict.fromkeys(name.partition(": ")[0] for result in scores.results for name in result.scores)
    measures = {
        name: {version: scores.mean(name, version) for version in scores.versions(name)}
        for name in sorted(names, key=lambda name: (list(MEASURED).index(name.partition("@")[0]), name))
    }
    speaker = {version: scores.values("speaker", version) for version in MEASURED["speaker"]}
    distances = {
        name: {version: np.abs(scores.values(name, version)) for version in MEASURED[name]}
        for name in ("pitch", "pitch_pyin")
        if name in measures
    }
    return {
        "measures": measures,
        "gap_closed": gap_closed(scores, COMPLETED),
        "gap_closed_by_true_codes": gap_closed(scores, TRUE),
        "beats_wrong_prompt": scores.estimate(share(speaker[COMPLETED] - speaker[WRONG])),
        "pitch_distance": {
            name: {version: scores.estimate(apart) for version, apart in versions.items()}
            for name, versions in distances.items()
        },
        "pitch_close": {
            name: {version: scores.estimate(share(CLOSE_PITCH - apart)) for version, apart in versions.items()}
            for name, versions in distances.items()
        },
        "differences": {
            name: scores.difference(name, COMPLETED, than)
            for name in measures
            for measure, than in (("dnsmos", TRUE), ("comb", TRUE), ("wer", TWO))
            if name.partition("@")[0] == measure
        },
    }


def gap_closed(scores: Scores, version: str) -> Estimate:
    """Share of the way of the speaker similarity from codebook 0 alone to real utterances of the speaker.

    The ratio of the mean distances, not the mean of ratios: it is a mean that is weighted with the whole way.
    """
    low, high = scores.values("speaker", ALONE), scores.values("speaker", SOURCE)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (scores.values("speaker", version) - low) / (high - low)
    weights = np.where(np.isfinite(values), high - low, 0.0)
    return scores.estimate(np.where(np.isfinite(values), values, math.nan), weights)


def conversion(scores: Scores) -> dict[str, Any]:
    """Shares of the conversions that are nearer to the new voice, and errors of words."""
    voices = scores.versions("prompt")
    names = dict.fromkeys(name.partition(": ")[0] for result in scores.results for name in result.scores)
    recognition = [name for name in names if name.partition("@")[0] == "wer"]

    def nearer(to: str, than: str, some: Sequence[str]) -> Estimate:
        margins = np.stack([share(scores.values(to, voice) - scores.values(than, voice)) for voice in some])
        counts = (~np.isnan(margins)).sum(0)
        values = np.nansum(margins, 0) / np.maximum(counts, 1)
        return scores.estimate(np.where(counts > 0, values, math.nan), counts.astype(float))

    recordings, speakers = ("prompt", "source"), ("speaker of the prompt", "speaker of the source")
    words: dict[str, Any] = {}
    for name in recognition:
        columns = np.stack([scores.values(name, voice) for voice in voices])
        weights = np.nanmax(np.stack([scores.weights(name, voice) for voice in voices]), 0)
        counts = (~np.isnan(columns)).sum(0)
        values = np.where(counts > 0, np.nansum(columns, 0) / np.maximum(counts, 1), math.nan)
        words[name] = {SOURCE: scores.mean(name, SOURCE), TWO: scores.mean(name, TWO)}
        words[name]["converted"] = scores.estimate(values, weights * counts)
    return {
        "nearer_to_prompt": nearer(*recordings, voices),
        "nearer_to_speaker": nearer(*speakers, voices),
        "voices": {
            voice: {
                "nearer_to_prompt": nearer(*recordings, [voice]),
                "nearer_to_speaker": nearer(*speakers, [voice]),
                **{name: scores.mean(name, voice) for name in (*recordings, *speakers)},
            }
            for voice in voices
        },
        "words": words,
    }


def style(scores: Scores) -> dict[str, Any]:
    """Rank correlation (Spearman) of the asked and the measured steps of each quantity."""
    found = {}
    steps = [str(number) for number in range(1, NUM_STEPS + 1)]
    for quantity in QUANTITIES:
        values = np.stack([scores.values(quantity, step) for step in steps], 1)
        found[quantity] = {
            "correlation": rank_correlation(values, scores.speakers),
            "within": scores.estimate(np.array([_spearman(row[None]) for row in values])),
            "measured": [scores.estimate(column) for column in values.T],
        }
    return found


def rank_correlation(values: np.ndarray, speakers: np.ndarray, seed: int = 0) -> Estimate:
    """Spearman's correlation of the step and the value, over all utterances, ``(N, steps)``; resamples speakers."""
    names = np.unique(speakers)
    rows = [np.flatnonzero(speakers == name) for name in names]
    rng = np.random.default_rng(seed)
    mean = _spearman(values)
    count = int((~np.isnan(values)).any(1).sum())
    if len(names) < 2 or math.isnan(mean):
        return Estimate(mean, math.nan, math.nan, count)
    drawn = [
        _spearman(values[np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))])])
        for _ in range(RESAMPLES)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(mean, float(low), float(high), count)


def _spearman(values: np.ndarray) -> float:
    steps = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    kept = ~np.isnan(values)
    x, y = steps[kept], values[kept]
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return math.nan
    return float(np.corrcoef(scipy.stats.rankdata(x), scipy.stats.rankdata(y))[0, 1])


def ablation(scores: Scores, settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Means of each setting."""
    names = dict.fromkeys(name.partition(": ")[0] for result in scores.results for name in result.scores)
    rows = []
    for setting in settings:
        row: dict[str, Any] = {
            "setting": setting.label,
            **dataclasses.asdict(setting.sampling),
            "gap_closed": gap_closed(scores, setting.label),
            "pitch_distance": scores.mean("pitch", setting.label, np.abs),
        }
        rows.append(row | {name: scores.mean(name, setting.label) for name in names if name != "pitch"})
    return rows


@dataclass(frozen=True)
class Target:
    """What a voice model shall reach.

    Attributes:
        title: what is measured.
        value: the result.
        target: in words.
        reached: ``None`` if it was not measured.
    """

    title: str
    value: Estimate | float | None
    target: str
    reached: bool | None


def targets(found: Mapping[str, Any]) -> list[Target]:
    """The targets, as far as their parts were measured."""
    rows: list[Target] = []

    def at_least(title: str, value: Estimate | float | None, least: float, text: str) -> None:
        rows.append(Target(title, value, text, _holds(value, lambda x: x >= least)))

    def at_most(title: str, value: Estimate | float | None, most: float, text: str) -> None:
        rows.append(Target(title, value, text, _holds(value, lambda x: x <= most)))

    if "resynthesis" in found:
        part = found["resynthesis"]
        measures, differences = part["measures"], part["differences"]
        at_least("gap of the speaker similarity closed", part["gap_closed"], 0.5, "at least 0.5")
        at_least("right prompt beats wrong prompt, share", part["beats_wrong_prompt"], 0.8, "at least 0.8")
        distance = part["pitch_distance"]["pitch"][COMPLETED]
        at_most("mean F0 and that of the prompt, semitones apart", distance, CLOSE_PITCH, f"at most {CLOSE_PITCH:g}")
        at_least("voicing F1", measures.get("voicing_f1", {}).get(COMPLETED), 0.75, "at least 0.75")
        for name, value in differences.items():
            kind, _, judge = name.partition("@")
            if kind == "wer":
                title = f"word errors over two true codebooks{judge and ', '}{judge}"
                at_most(title, value, 0.0, "at most 0")
        at_least("DNSMOS over true codes", differences.get("dnsmos"), -0.15, "at least −0.15")
        at_most("comb excess over true codes, dB", differences.get("comb"), 2.0, "at most 2")
        contour = measures.get("f0_correlation", {}).get(CONTOUR)
        at_least("F0 correlation, contour given", contour, 0.8, "at least 0.8")
    if "conversion" in found:
        part = found["conversion"]
        at_least("converted voice is nearer to the prompt, share", part["nearer_to_prompt"], 0.8, "at least 0.8")
        for name, row in part["words"].items():
            judge = name.partition("@")[2]
            title = f"word errors of converted speech{judge and ', '}{judge}"
            most = row[TWO].mean
            at_most(title, row["converted"], most, f"at most {most:.3f}, those of two true codebooks")
    if "style" in found:
        for quantity in ("pitch", "energy"):
            value = found["style"][quantity]["correlation"]
            at_least(f"style, {quantity}: rank correlation", value, 0.7, "at least 0.7")
    if "speed" in found:
        speed = found["speed"]
        at_least("speed, times real time on one core", 1 / speed.complete, 5.0, "at least 5")
        at_most("first audio, ms after the first semantic code", 1000 * speed.real_time, 250.0, "at most 250")
    return rows


def _holds(value: Estimate | float | None, test: Callable[[float], bool]) -> bool | None:
    mean = value.mean if isinstance(value, Estimate) else value
    return None if mean is None or math.isnan(mean) else test(mean)
