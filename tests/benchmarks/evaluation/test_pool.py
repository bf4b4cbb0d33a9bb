import os

import pytest

from benchmarks.evaluation import pool
from benchmarks.evaluation.evaluate import evaluate, usable_codecs, usable_metrics
from benchmarks.evaluation.pool import CRASHED


def score_or_die(task):
    if task[0].id == "b" and "lowpass" in task[1]:
        os._exit(1)
    return pool._score(task)


@pytest.mark.slow
def test_a_process_that_dies_loses_one_result_only(utterances, monkeypatch):
    utterances = [utterance for utterance in utterances if utterance.id in ("a", "b")]
    codecs, _ = usable_codecs(["identity", "lowpass"])
    metrics, _ = usable_metrics(["si_sdr"], "pocketsphinx")
    monkeypatch.setattr(pool, "_score", score_or_die)
    results = evaluate(utterances, codecs, metrics, "pocketsphinx", dict.fromkeys(codecs, 0), set(), 2)
    assert [(r.utterance, r.codec) for r in results] == [(u.id, spec) for u in utterances for spec in codecs]
    assert {(r.utterance, r.codec): r.failure for r in results if r.failure} == {("b", "lowpass"): CRASHED}


def test_workers_are_limited_to_one_thread_and_this_process_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with pool._single_threaded_children():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
