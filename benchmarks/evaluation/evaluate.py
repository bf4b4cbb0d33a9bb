"""Evaluation of several codecs by several metrics on many utterances."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.codecs.interface import Codec
from benchmarks.codecs.load import load_codec
from benchmarks.evaluation.conditions import CLEAN
from benchmarks.evaluation.journal import append_result, hash_sources, read_journal, result_key
from benchmarks.evaluation.pool import score_all
from benchmarks.evaluation.scoring import Result, Settings
from benchmarks.metrics.load import load_metrics, versions
from benchmarks.metrics.metric import Metric
from benchmarks.metrics.recognisers import identity, load_recogniser
from speechtok.errors import SpeechtokError
from training.manifest import Utterance


def usable_codecs(specs: Sequence[str]) -> tuple[dict[str, Codec], dict[str, str]]:
    """Load codecs.

    Returns:
        Codecs by specification, and an error message for each that cannot be used.
    """
    codecs, failures = {}, {}
    for spec in dict.fromkeys(specs):
        try:
            codecs[spec] = load_codec(spec)
        except (SpeechtokError, ImportError) as error:
            failures[spec] = str(error)
    return codecs, failures


def usable_metrics(names: Sequence[str], recognisers: Sequence[str]) -> tuple[dict[str, Metric], dict[str, str]]:
    """Look up metrics.

    Returns:
        Metrics by name, and an error message for each that cannot be measured.
    """
    metrics, failures = {}, {}
    for name in dict.fromkeys(names):
        try:
            found = load_metrics([name], recognisers)
            if any(metric.slow and not metric.unavailable for metric in found.values()):
                for recogniser in recognisers:  # here, rather than in every worker process for every utterance
                    load_recogniser(recogniser)
        except SpeechtokError as error:
            failures[name] = str(error)
            continue
        for key, metric in found.items():
            if metric.unavailable:
                failures[key] = f"absent: {metric.unavailable}"
            else:
                metrics[key] = metric
    return metrics, failures


def select_slow(utterances: Sequence[Utterance], count: int) -> set[str]:
    """Ids of at most ``count`` utterances for the slow metrics.

    Those with a transcript are preferred. Every language gets an equal part if it has as many utterances; within a
    language, the utterances are spread evenly over the manifest.
    """
    candidates = [utterance for utterance in utterances if utterance.text] or list(utterances)
    languages: dict[str, list[str]] = {}
    for utterance in candidates:
        languages.setdefault(utterance.lang or "", []).append(utterance.id)
    chosen: set[str] = set()
    for index, ids in enumerate(sorted(languages.values(), key=len)):
        share = (count - len(chosen)) // (len(languages) - index)
        positions = np.linspace(0, len(ids) - 1, min(share, len(ids))).round()
        chosen.update(ids[int(position)] for position in positions)
    return chosen


def evaluate(
    utterances: Sequence[Utterance],
    codecs: dict[str, Codec],
    metrics: dict[str, Metric],
    recognisers: Sequence[str],
    delays: dict[str, int],
    slow: set[str],
    workers: int,
    journal: Path | None = None,
    condition: str = CLEAN,
) -> list[Result]:
    """Score every utterance by every codec.

    Args:
        utterances: the utterances.
        codecs: codecs by specification.
        metrics: metrics by name.
        recognisers: names of the recognisers for word and character errors.
        delays: delay of each codec, in samples at 16 kHz.
        slow: ids of the utterances that slow metrics are measured on.
        workers: number of worker processes.
        journal: file to append results to and to reuse results from.
        condition: what is done to every utterance first; see :mod:`benchmarks.evaluation.conditions`.

    Returns:
        Results ordered by utterance, then codec, in the order of the arguments.
    """
    settings = Settings(tuple(codecs), tuple(metrics), tuple(recognisers), delays, condition)
    judges = [identity(name) for name in recognisers] if any(metric.slow for metric in metrics.values()) else []
    common = [sorted(metrics), judges, versions(metrics), torch.__version__, hash_sources(), condition]
    keys = {
        (utterance.id, spec): result_key(utterance, [*common, codec.identity, delays[spec], utterance.id in slow])
        for utterance in utterances
        for spec, codec in codecs.items()
    }
    known = read_journal(journal)
    results = {pair: known[key] for pair, key in keys.items() if key in known}
    tasks = []
    for utterance in utterances:
        missing = tuple(spec for spec in codecs if (utterance.id, spec) not in results)
        if missing:
            tasks.append((utterance, missing, utterance.id in slow))
    tasks.sort(key=lambda task: not task[2])  # longest first, so that no worker idles at the end
    if tasks:
        with tqdm(total=len(utterances), initial=len(utterances) - len(tasks), desc="measuring", unit="file") as bar:
            for found in score_all(tasks, settings, workers):
                for result in found:
                    results[result.utterance, result.codec] = result
                    if journal and result.failure is None:
                        append_result(journal, keys[result.utterance, result.codec], result)
                bar.update()
    return [results[utterance.id, spec] for utterance in utterances for spec in codecs]
