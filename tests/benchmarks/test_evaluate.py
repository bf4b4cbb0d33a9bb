import json
import os
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks import evaluate as module
from benchmarks.codecs import Coded, Identity, Spec
from benchmarks.evaluate import (
    DELAY_UTTERANCES,
    Evaluation,
    Settings,
    align,
    evaluate,
    find_delay,
    measure_delays,
    read_items,
    slow_items,
    usable_codecs,
    usable_metrics,
)
from benchmarks.metrics import METRICS
from speechtok.errors import InputError
from tests.conftest import make_speech


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rates, a silent and a very short utterance, one that is no audio, and one that is missing."""
    folder = tmp_path_factory.mktemp("data")
    soundfile.write(folder / "a.wav", make_speech(1.5, seed=1), 16_000)
    soundfile.write(folder / "b.wav", make_speech(1.5, seed=2, sample_rate=44_100), 44_100)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "short.wav", make_speech(0.1), 16_000)
    (folder / "broken.wav").write_text("no audio")
    names = ("a", "b", "silent", "short", "broken", "missing")
    rows = [{"id": name, "audio": f"{name}.wav", "lang": "en", "speaker": "s"} for name in names]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "test.jsonl"


class Late(Identity):
    """20 ms late; fails where told to."""

    def __call__(self, waveform: torch.Tensor) -> Coded:
        if not waveform.any():
            raise KeyError("silence")
        return Coded(torch.nn.functional.pad(waveform, (320, 0)), 1.0)


def test_delay_is_taken_away_and_changes_no_score(manifest, monkeypatch):
    items = read_items(str(manifest))[:2]
    late, prompt = Late(Spec("identity", None, None)), Identity(Spec("identity", None, None))
    delays = measure_delays({"late": late, "prompt": prompt}, items)
    assert delays == {"late": 320, "prompt": 0}
    monkeypatch.setattr(module, "load_codec", {"late": late, "prompt": prompt}.__getitem__)
    names = tuple(METRICS.keys() - {"dnsmos"})
    scorer = Evaluation(Settings(("late", "prompt"), names, "pocketsphinx", delays))
    for item in items:
        one, other = scorer(item, ("late", "prompt"), True)
        assert one.failure is None
        assert one.scores == other.scores


def test_delay_of_a_codec_that_turns_waveforms_over_or_is_early_or_silent():
    x = torch.from_numpy(make_speech(1))
    for delay in (-40, 0, 1, 777):
        y = torch.nn.functional.pad(x, (delay, 0)) if delay >= 0 else x[-delay:]
        for sign in (1, -1):
            assert find_delay([(x, sign * y)] * 2) == delay
        before, after = align(x, y, delay)
        assert torch.equal(before, after)
    assert find_delay([(x, torch.zeros(16_000))]) == 0
    assert find_delay([]) == 0


def test_what_fails_is_named_and_the_rest_is_done(manifest, monkeypatch):
    late = Late(Spec("identity", None, None))
    monkeypatch.setattr(module, "load_codec", lambda spec: late)
    scorer = Evaluation(Settings(("late",), ("pesq", "stoi", "si_sdr"), "pocketsphinx", {"late": 320}))
    found = {item.id: scorer(item, ("late",), False)[0] for item in read_items(str(manifest))}
    assert found["silent"].failure == "KeyError: 'silence'"
    assert "broken.wav" in str(found["broken"].failure)
    assert "missing.wav" in str(found["missing"].failure)
    assert {name for name, result in found.items() if result.failure is None} == {"a", "b", "short"}
    assert np.isnan(found["short"].scores["pesq"][0])
    assert found["short"].scores["si_sdr"][0] == 100
    assert found["b"].seconds == pytest.approx(1.5)


def test_numbers_are_the_same_with_1_or_2_workers_and_a_run_goes_on_where_it_stopped(manifest, tmp_path, monkeypatch):
    items = read_items(str(manifest))
    codecs, _ = usable_codecs(["identity", "lowpass"])
    metrics, _ = usable_metrics(["stoi"], "pocketsphinx")
    delays = dict.fromkeys(codecs, 0)
    journal = tmp_path / "results.jsonl"
    one = evaluate(items, codecs, metrics, "pocketsphinx", delays, set(), 1, journal)
    two = evaluate(items, codecs, metrics, "pocketsphinx", delays, set(), 2)
    assert [(r.item, r.codec) for r in one] == [(item.id, spec) for item in items for spec in codecs]
    assert repr(one) == repr(two)  # NaN is not itself

    whole = journal.read_text().splitlines()
    journal.write_text("\n".join([*whole[:4], whole[4][:50]]))  # stopped while it wrote
    asked = []
    monkeypatch.setattr(module, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(module, "_score", lambda task: asked.append(task[0].id) or Evaluation(
        Settings(tuple(codecs), tuple(metrics), "pocketsphinx", delays))(*task))  # fmt: skip
    again = evaluate(items, codecs, metrics, "pocketsphinx", delays, set(), 1, journal)
    assert repr(again) == repr(one)
    assert "a" not in asked
    assert {"silent", "short", "broken", "missing"} <= set(asked)
    asked.clear()
    evaluate(items, codecs, metrics, "pocketsphinx", delays, set(), 1, journal)
    assert asked == ["broken", "missing"]  # failures are tried again
    asked.clear()
    evaluate(items[:1], codecs, metrics, "pocketsphinx", dict.fromkeys(codecs, 5), set(), 1, journal)
    assert asked == ["a"]  # another delay is another measurement


class Here:
    """Stands in for a pool, in this process."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function, task) -> Future:
        future: Future = Future()
        future.set_result(function(task))
        return future


def score_or_die(task):
    if task[0].id == "b" and "lowpass" in task[1]:
        os._exit(1)
    return module._score(task)


def test_a_process_that_dies_takes_nothing_else_with_it(manifest, monkeypatch):
    items = [item for item in read_items(str(manifest)) if item.id in ("a", "b")]
    codecs, _ = usable_codecs(["identity", "lowpass"])
    metrics, _ = usable_metrics(["si_sdr"], "pocketsphinx")
    monkeypatch.setattr(module, "_score", score_or_die)
    results = evaluate(items, codecs, metrics, "pocketsphinx", dict.fromkeys(codecs, 0), set(), 2)
    assert [(r.item, r.codec) for r in results] == [(item.id, spec) for item in items for spec in codecs]
    assert {(r.item, r.codec): r.failure for r in results if r.failure} == {
        ("b", "lowpass"): "its process died: of a fault in native code, or for want of memory"
    }


def test_slow_metrics_are_measured_on_utterances_spread_over_the_manifest(manifest):
    items = read_items(str(manifest))
    assert slow_items(items, 2) == {"a", "missing"}
    assert slow_items(items, 100) == {item.id for item in items}
    assert slow_items(items, 0) == set()
    assert DELAY_UTTERANCES > 1


def test_unusable_codecs_and_metrics_are_told_apart(monkeypatch):
    codecs, failures = usable_codecs(["identity", "nosuch", "opus:1000"])
    assert list(codecs) == ["identity"]
    assert "unknown" in failures["nosuch"]
    assert "1000" in failures["opus:1000"]
    absent = METRICS["stoi"].__class__("X", "higher", 1, METRICS["stoi"].measure, ("no_such_library",), "")
    monkeypatch.setitem(METRICS, "x", absent)
    metrics, failures = usable_metrics(["pesq", "nope", "x"], "pocketsphinx")
    assert list(metrics) == ["pesq"]
    assert "unknown" in failures["nope"]
    assert failures["x"].startswith("absent: needs no_such_library")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "line 1 is '{}'; expected JSON with an 'audio' path"),
        ("no json", "line 1 is 'no json'"),
        ('{"audio": "a"}\n{"audio": "a"}', "line 2 has the id 'a' a second time"),
        ("\n", "has no line"),
    ],
)
def test_a_manifest_that_is_none_is_told(tmp_path, text, says):
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_items(str(path))


def test_workers_find_one_thread_for_linear_algebra_and_this_process_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with module._one_thread_in_new_processes():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
