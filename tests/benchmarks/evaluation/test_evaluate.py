from pathlib import Path

import pytest

from benchmarks.evaluation import pool
from benchmarks.evaluation.evaluate import evaluate, select_slow, usable_codecs, usable_metrics
from benchmarks.evaluation.scoring import Scorer, Settings
from benchmarks.metrics.load import METRICS
from tests.benchmarks.evaluation.conftest import InProcess
from training.manifest import Utterance


@pytest.mark.slow
def test_scores_do_not_depend_on_the_number_of_workers_and_an_interrupted_run_continues(
    utterances, tmp_path, monkeypatch
):
    codecs, _ = usable_codecs(["identity", "lowpass"])
    metrics, _ = usable_metrics(["stoi"], ("pocketsphinx",))
    delays = dict.fromkeys(codecs, 0)
    journal = tmp_path / "results.jsonl"
    one = evaluate(utterances, codecs, metrics, ("pocketsphinx",), delays, set(), 1, journal)
    two = evaluate(utterances, codecs, metrics, ("pocketsphinx",), delays, set(), 2)
    assert [(r.utterance, r.codec) for r in one] == [(u.id, spec) for u in utterances for spec in codecs]
    assert repr(one) == repr(two)  # NaN does not equal itself

    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:4], lines[4][:50]]))  # interrupted while writing
    scorer, asked = Scorer(Settings(tuple(codecs), tuple(metrics), ("pocketsphinx",), delays)), []
    monkeypatch.setattr(pool, "ProcessPoolExecutor", InProcess)
    monkeypatch.setattr(pool, "_score", lambda task: asked.append(task[0].id) or scorer(*task))
    again = evaluate(utterances, codecs, metrics, ("pocketsphinx",), delays, set(), 1, journal)
    assert repr(again) == repr(one)
    assert "a" not in asked
    assert {"silent", "short", "broken", "missing"} <= set(asked)
    asked.clear()
    evaluate(utterances, codecs, metrics, ("pocketsphinx",), delays, set(), 1, journal)
    assert asked == ["broken", "missing"]  # failures are tried again
    asked.clear()
    evaluate(utterances[:1], codecs, metrics, ("pocketsphinx",), dict.fromkeys(codecs, 5), set(), 1, journal)
    assert asked == ["a"]  # another delay gives other scores


def test_slow_metrics_are_measured_on_utterances_spread_over_the_manifest(utterances):
    assert select_slow(utterances, 2) == {"a", "missing"}
    assert select_slow(utterances, 100) == {utterance.id for utterance in utterances}
    assert select_slow(utterances, 0) == set()


def test_slow_metrics_have_transcripts_and_as_many_utterances_of_each_language_as_possible():
    def row(name: str, lang: str, text: str | None) -> Utterance:
        return Utterance(Path(name), name, text=text, lang=lang)

    english, german = ([row(f"{lang}{i}", lang, "x") for i in range(n)] for lang, n in (("en", 100), ("de", 4)))
    silent = [row(f"silent{i}", "en", None) for i in range(50)]
    chosen = select_slow([*silent, *english, *german], 20)
    assert {utterance.id for utterance in german} < chosen
    assert len(chosen) == 20
    assert not any(name.startswith("silent") for name in chosen)


def test_results_of_another_condition_or_recogniser_are_not_reused(utterances, tmp_path, monkeypatch):
    codecs, _ = usable_codecs(["identity"])
    metrics, _ = usable_metrics(["level"], ())
    monkeypatch.setattr(pool, "ProcessPoolExecutor", InProcess)
    asked = []
    for condition in ("clean", "gain:-6", "clean", "gain:-6"):
        scorer = Scorer(Settings(tuple(codecs), tuple(metrics), (), {"identity": 0}, condition))
        monkeypatch.setattr(pool, "_score", lambda task, scorer=scorer: asked.append(1) or scorer(*task))
        arguments = (utterances[:1], codecs, metrics, (), {"identity": 0}, set(), 1, tmp_path / "journal", condition)
        evaluate(*arguments)
    assert len(asked) == 2


def test_a_recogniser_that_cannot_be_loaded_is_named(tmp_path):
    metrics, failures = usable_metrics(["wer", "level"], (f"whisper:{tmp_path}",))
    assert list(metrics) == ["level"]
    assert "cannot be loaded by transformers" in failures["wer"]


def test_unusable_codecs_and_metrics_are_reported(monkeypatch):
    codecs, failures = usable_codecs(["identity", "nosuch", "opus:1000"])
    assert list(codecs) == ["identity"]
    assert "unknown" in failures["nosuch"]
    assert "1000" in failures["opus:1000"]
    unavailable = METRICS["stoi"].__class__("X", "higher", 1, METRICS["stoi"].measure, ("no_such_library",), "")
    monkeypatch.setitem(METRICS, "x", unavailable)
    metrics, failures = usable_metrics(["pesq", "nope", "x"], ("pocketsphinx",))
    assert list(metrics) == ["pesq"]
    assert "unknown" in failures["nope"]
    assert failures["x"].startswith("absent: needs no_such_library")
