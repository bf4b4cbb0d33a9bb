"""Results of a listening test: read, screened and analysed."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bootstrap import RESAMPLES, Estimate
from benchmarks.listen.make import FORMAT, REFERENCE
from speechtok.errors import InputError, quoted

EXPECTED_REFERENCE = 90.0
"""A rating of the hidden reference below this is a miss."""
ALLOWED_MISSES = 0.15
"""Listeners who miss the hidden reference in a larger share of the trials are left out (BS.1534-3, section 4.1.2)."""


@dataclass(frozen=True)
class Ratings:
    """Ratings of one test.

    Attributes:
        codecs: names, the hidden reference and the anchor included.
        listeners: those who are counted.
        left_out: listeners who are not, with the reason.
        values: ``(listeners, trials, codecs)``, 0 to 100.
    """

    codecs: list[str]
    listeners: list[str]
    left_out: dict[str, str]
    values: np.ndarray


def read_ratings(key: Path, results: Sequence[Path]) -> Ratings:
    """Read results.

    Args:
        key: the ``key.json`` of the test.
        results: JSON files of the listeners.

    Raises:
        InputError: a file cannot be read, belongs to another test, or lacks ratings; or a listener appears twice.
    """
    known = _read(key, "the key.json of a listening test")
    codecs = list(dict.fromkeys(known["stimuli"].values()))
    trials = list(known["trials"])
    kept: dict[str, np.ndarray] = {}
    left_out: dict[str, str] = {}
    for path in results:
        found = _read(path, "the ratings of a listening test")
        if found["test"] != known["test"]:
            raise InputError(f"{path} belongs to another test than {key}; expected ratings of test {known['test']}")
        listener = str(found["listener"])
        if listener in kept or listener in left_out:
            raise InputError(f"{path} is a second file of the listener {quoted(listener)}; expected one of each")
        values = np.full((len(trials), len(codecs)), math.nan)
        for trial in found["trials"]:
            for stimulus, rating in trial["ratings"].items():
                if stimulus not in known["stimuli"] or trial["id"] not in trials or not 0 <= rating <= 100:
                    raise InputError(f"{path}, {quoted(trial['id'])}, has a rating that does not fit {key}")
                values[trials.index(trial["id"]), codecs.index(known["stimuli"][stimulus])] = rating
        if np.isnan(values).any():
            raise InputError(f"{path} lacks {int(np.isnan(values).sum())} ratings; expected a complete test")
        misses = float(np.mean(values[:, codecs.index(REFERENCE)] < EXPECTED_REFERENCE))
        if misses > ALLOWED_MISSES:
            left_out[listener] = (
                f"rated the hidden reference below {EXPECTED_REFERENCE:g} in {misses:.0%} of the trials"
            )
        else:
            kept[listener] = values
    values = np.stack(list(kept.values())) if kept else np.empty((0, len(trials), len(codecs)))
    return Ratings(codecs, list(kept), left_out, values)


def _read(path: Path, expected: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); expected {expected}") from error
    fields = {"test": str, "trials": (list, dict), "format": int}
    if not isinstance(found, dict) or any(not isinstance(found.get(name), kind) for name, kind in fields.items()):
        raise InputError(f"{path} has other fields; expected {expected}")
    if found["format"] != FORMAT or ("key" in expected) != isinstance(found.get("stimuli"), dict):
        raise InputError(f"{path} is of another kind or version; expected {expected}")
    return found


def estimate_ratings(ratings: Ratings, seed: int = 0) -> dict[str, Estimate]:
    """Mean rating of each codec, the best first, with a 95 % confidence interval.

    The bootstrap draws listeners and trials anew, as both are samples of what could have been asked.
    """
    listeners, trials, _ = ratings.values.shape
    rng = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, len(ratings.codecs)))
    for row in drawn:
        some, others = rng.integers(listeners, size=listeners), rng.integers(trials, size=trials)
        row[:] = ratings.values[some][:, others].mean((0, 1))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    means = ratings.values.mean((0, 1))
    order = np.argsort(-means)
    return {
        ratings.codecs[i]: Estimate(float(means[i]), float(low[i]), float(high[i]), listeners * trials) for i in order
    }


def ratings_table(ratings: Ratings) -> str:
    """Means as Markdown, and who was left out.

    Raises:
        InputError: no listener is left.
    """
    notes = [f"{name} is left out: {reason}." for name, reason in ratings.left_out.items()]
    if not ratings.listeners:
        raise InputError(f"no listener is left; expected at least one. {' '.join(notes)}")
    lines = ["| codec | rating (95 %) |", "|---|---|"]
    for codec, value in estimate_ratings(ratings).items():
        lines.append(f"| {codec} | {value.mean:.1f} ({value.low:.1f}–{value.high:.1f}) |")
    listeners, trials, _ = ratings.values.shape
    lines += ["", f"{listeners} listeners, {trials} trials each.", *notes]
    return "\n".join(lines)
