import json

import pytest

from benchmarks.report.page import document
from benchmarks.voice import __main__ as command
from benchmarks.voice import tasks
from benchmarks.voice.__main__ import main
from tests.benchmarks.voice.conftest import make_utterances
from tests.conftest import make_tokenizer
from tests.voice.networks import make_voice_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {"audio": u.audio.name, "id": u.id, "speaker": u.speaker, "gender": u.gender, "lang": u.lang, "text": u.text}
        for u in make_utterances(folder, 3, 0.6)
    ]
    rows.append({"audio": rows[0]["audio"], "id": "lonely", "speaker": "eve"})
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer = make_tokenizer()
    tokenizer.save(folder / "tokenizer")
    make_voice_model(tokenizer, folder / "voice.safetensors")
    return folder


def arguments(folder, out, *more):
    files = ["--data", folder, "--voice-model", folder / "voice.safetensors", "--tokenizer", folder / "tokenizer"]
    return [*map(str, [*files, "--out", out]), *more]


FEW = ("--limit", "2", "--slow", "1", "--conversions", "1", "--voices", "2", "--styles", "1", "--examples", "1")


@pytest.fixture(autouse=True)
def same_sources(monkeypatch):
    """A file that is edited while the tests run must not be a reason to measure again."""
    monkeypatch.setattr(tasks, "hash_sources", lambda *_: "")


@pytest.fixture
def few_metrics(monkeypatch, quick_embeddings):
    """The others take seconds to load."""
    for module in (tasks, command):
        monkeypatch.setattr(module, "METRICS", ("voicing_f1", "comb"))


@pytest.mark.slow
@pytest.mark.usefixtures("few_metrics")
def test_everything_is_measured_once_and_written(folder, tmp_path, capsys, monkeypatch):
    given = arguments(folder, tmp_path, *FEW)
    assert main(given) == 0
    text = capsys.readouterr().out
    for heading in ("## Targets", "## Resynthesis", "## Conversion", "## Style", "## Speed", "## Run"):
        assert heading in text
    assert "2 utterances of 2 speakers; 1 speakers with fewer than 3 utterances" in text
    assert (tmp_path / "voice.md").read_text().strip() == text.strip()
    found = json.loads((tmp_path / "results.json").read_text())
    measured = found["resynthesis"]["measures"]
    assert list(measured) == ["speaker", "pitch", "voicing_f1", "comb"]
    assert measured["comb"]["completed"]["count"] == 2
    assert list(found["style"]) == ["pitch", "range", "energy", "brightness"]
    assert found["speed"]["frames"] == 5
    assert len(list((tmp_path / "audio").glob("1-*.flac"))) == 8
    assert (tmp_path / "voice.html").read_text().count("<audio") == 8
    monkeypatch.setattr(tasks.Bench, "__call__", lambda *_: pytest.fail("measured again"))
    parts = [word for part in ("resynthesis", "conversion", "style") for word in ("--measure", part)]
    assert main([*given, *parts, "--examples", "0"]) == 0
    again = json.loads((tmp_path / "results.json").read_text())
    for part in ("resynthesis", "conversion", "style"):
        assert again[part] == found[part]


@pytest.mark.slow
def test_other_processes_find_what_this_one_finds(folder, tmp_path):
    found = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        assert main(arguments(folder, out, *FEW, "--examples", "0", "--measure", "style", "--workers", workers)) == 0
        found.append(json.loads((out / "results.json").read_text())["style"])
    assert found[0] == found[1]


def test_an_interrupted_run_continues(folder, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(
        tasks.measures, "style", lambda _, case: measured.append(case.source.id) or {"pitch: 1": (1.0, 1.0)}
    )
    given = arguments(folder, tmp_path, *FEW, "--styles", "2", "--examples", "0", "--measure", "style")
    assert main(given) == 0
    lines = (tmp_path / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(lines[: len(lines) - 20])
    assert main(given) == 0
    assert measured == ["ann-0", "bea-0", "bea-0"]


def test_a_seed_or_a_step_more_is_measured_anew(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.measures, "style", lambda *_: {"pitch: 1": (1.0, 1.0)})
    for number, more in enumerate(([], [], ["--seed", "1"], ["--steps", "4"], ["--seed", "1"])):
        main(arguments(folder, tmp_path, *FEW, "--examples", "0", "--measure", "style", *more))
        lines = [line for line in (tmp_path / "results.jsonl").read_text().split("\n") if line]
        assert len(lines) == [1, 1, 2, 3, 3][number]


def test_what_fails_for_all_is_an_error(folder, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise ValueError("no luck")

    monkeypatch.setattr(tasks.measures, "style", fail)
    assert main(arguments(folder, tmp_path, *FEW, "--measure", "style")) == 1
    assert "error: style failed for all of 1 utterances, the first time: ValueError: no luck" in capsys.readouterr().err


def test_a_voice_model_that_is_not_there_is_an_error(folder, tmp_path, capsys):
    given = ["--data", str(folder), "--tokenizer", str(folder / "tokenizer"), "--out", str(tmp_path)]
    assert main([*given, "--voice-model", str(folder / "none.safetensors")]) == 1
    assert "none.safetensors" in capsys.readouterr().err


def test_a_page_has_its_title_as_text():
    assert "<title>a &lt;b&gt;</title>" in document("a <b>", ["<p>c</p>"])
