"""The documentation says what the results say."""

import json

import pytest

from benchmarks.publish.__main__ import main
from benchmarks.publish.pages import PAGES, figure_is_current, fill
from benchmarks.publish.results import FOLDER, collect, read_results, without_folders
from benchmarks.publish.tables import TABLES, codec_name
from speechtok.errors import InputError

published = pytest.mark.skipif(not (FOLDER / "results.json").is_file(), reason="no results are published yet")


@published
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_of_the_documentation_are_those_of_its_results(page):
    text = page.read_text(encoding="utf-8")
    assert fill(text, read_results(), page.name) == text, "run `python -m benchmarks.publish`"


@published
def test_the_figure_of_the_documentation_shows_its_results():
    assert figure_is_current(read_results(), FOLDER / "rate-distortion.png"), "run `python -m benchmarks.publish`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_documentation_has_marked_tables(page):
    assert "<!-- benchmarks: " in page.read_text(encoding="utf-8")


@pytest.fixture
def measured(new_report, tmp_path):
    """A folder with what the benchmarks write."""
    folder = tmp_path / "report"
    folder.mkdir()
    report = new_report(recognition=True)
    report["codecs"]["speechtok:8@/somewhere/model"] = report["codecs"]["lowpass"]
    (folder / "report.json").write_text(json.dumps(report))
    row = {"bits": 500.0, "order_0_bits": 400.0, "words": None}
    (folder / "tokens.json").write_text(json.dumps({"codecs": {"speechtok:8": row}}))
    value = {"mean": 1.5, "low": 1.0, "high": 2.0, "count": 3}
    conditions = {
        "utterances": {"clean": 3, "noise:0": 3},
        "versions": {"pesq": "1"},
        "metrics": {"pesq": {"title": "PESQ-WB", "better": "higher", "digits": 3}},
        "conditions": {name: {"opus:6": {"pesq": value}} for name in ("clean", "noise:0")},
    }
    (folder / "conditions.json").write_text(json.dumps(conditions))
    labels = [{"name": "codebook 0", "all": {"pnmi": 0.5, "phone_purity": 0.6}}]
    units = [{"name": "codebook 0", "abx_within": 0.1, "abx_across": None}]
    features = {"features of MFCC": {"abx_within": 0.2, "abx_across": 0.3}}
    (folder / "semantics.json").write_text(json.dumps({"labels": labels, "units": units, "features": features}))
    return folder


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    marks = "\n".join(f"Before {name}.\n<!-- benchmarks: {name} -->\nold\n<!-- end -->" for name in TABLES)
    (folder / "index.md").write_text(f"# Title\n\n{marks}\n\nAfter.\n")
    return folder


@pytest.mark.slow
def test_one_command_writes_results_tables_and_figure_and_a_second_one_finds_them_current(measured, docs, capsys):
    page = docs / "index.md"
    assert main([str(measured)], docs, [page]) == 0
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("# Title\n\nBefore summary.\n")
    assert text.endswith("After.\n")
    for line in (
        "| codec | kbit/s | WER gap ↓* | PESQ-WB ↑ | mel distance, dB ↓ |",
        "| speechtok, 8 codebooks | 0.50 | 0.000 | 2.191 | 5.00 |",
        "| base | de | original | 3 | 0.400 | 0.000 (0.000–0.000) | 0.000 (0.000–0.000) |",
        "| speechtok, 8 codebooks | 500 | 400 | – |",
        "| PESQ-WB ↑ | Opus, asked for 6 kbit/s | 1.500 | 1.500 |",
        "| codebook 0 | 0.500 | 0.600 | 10.0 | – |",
        "| features of MFCC | – | – | 20.0 | 30.0 |",
        "- 12 utterances, 0.4 minutes",
    ):
        assert line in text, line
    results = json.loads((docs / "results.json").read_text())
    assert "scores" not in json.dumps(results)
    for file in docs.glob("*.*[dn]"):
        assert "/somewhere" not in file.read_text(), file
    assert main(["--check"], docs, [page]) == 0
    assert main([], docs, [page]) == 0
    assert page.read_text() == text


def test_codecs_that_a_report_lacks_keep_their_results(measured, docs, capsys):
    page = docs / "index.md"
    assert main([str(measured)], docs, [page]) == 0
    report = json.loads((measured / "report.json").read_text())
    row = report["codecs"].pop("speechtok:8@/somewhere/model")
    row["scores"]["pesq"] = [4.0] * len(row["scores"]["pesq"])
    report["codecs"] = {"speechtok:8@/somewhere/model": row}
    (measured / "report.json").write_text(json.dumps(report))
    conditions = json.loads((measured / "conditions.json").read_text())
    value = {"mean": 2.5, "low": 1.0, "high": 3.0, "count": 3}
    conditions["conditions"] = {name: {"speechtok:8": {"pesq": value}} for name in ("clean", "noise:0")}
    (measured / "conditions.json").write_text(json.dumps(conditions))
    (measured / "tokens.json").unlink()
    before = json.loads((docs / "results.json").read_text())
    assert main([str(measured), "--keep"], docs, [page]) == 0
    after = json.loads((docs / "results.json").read_text())
    codecs = after["reconstruction"]["codecs"]
    assert list(codecs) == list(before["reconstruction"]["codecs"])
    assert codecs.pop("speechtok:8@model")["groups"]["all"]["pesq"][0] == 4.0
    del before["reconstruction"]["codecs"]["speechtok:8@model"]
    assert codecs == before["reconstruction"]["codecs"]
    assert after["tokens"] == before["tokens"]
    assert after["conditions"]["conditions"]["clean"]["opus:6"] == before["conditions"]["conditions"]["clean"]["opus:6"]
    text = page.read_text()
    assert "| PESQ-WB ↑ | speechtok, 8 codebooks | 2.500 | 2.500 |" in text
    assert "| PESQ-WB ↑ | Opus, asked for 6 kbit/s | 1.500 | 1.500 |" in text
    capsys.readouterr()
    for name, found in {"conditions": conditions, "report": report}.items():
        found["versions"]["pesq"] = "another"
        (measured / f"{name}.json").write_text(json.dumps(found))
        assert main([str(measured), "--keep"], docs, [page]) == 1
        assert f"the {name} ha" in (error := capsys.readouterr().err)
        assert "other versions" in error
    assert page.read_text() == text


@pytest.mark.slow
def test_what_is_out_of_date_is_named_and_not_touched(measured, docs, capsys):
    page = docs / "index.md"
    assert main([str(measured)], docs, [page]) == 0
    results = json.loads((docs / "results.json").read_text())
    results["reconstruction"]["codecs"]["identity"]["groups"]["all"]["pesq"][0] = 9.0
    (docs / "results.json").write_text(json.dumps(results))
    text = page.read_text()
    capsys.readouterr()
    assert main(["--check"], docs, [page]) == 1
    out = capsys.readouterr().out
    assert "index.md: out of date" in out
    assert "rate-distortion.png: out of date" in out
    assert page.read_text() == text


def test_tables_without_results_stay_and_wrong_marks_are_named(measured):
    (measured / "tokens.json").unlink()
    results = collect(measured)
    kept = "<!-- benchmarks: tokens -->\nold\n<!-- end -->"
    assert fill(kept, results, "x.md") == kept
    with pytest.raises(InputError, match=r"x\.md has the mark 'nosuch'; expected one of summary"):
        fill("<!-- benchmarks: nosuch -->\n<!-- end -->", results, "x.md")
    with pytest.raises(InputError, match=r"x\.md has a mark without an end"):
        fill("<!-- benchmarks: summary -->\n", results, "x.md")
    (measured / "tokens.json").write_text("{")
    with pytest.raises(InputError, match=r"tokens\.json cannot be read"):
        collect(measured)


def test_folders_of_a_machine_are_not_published():
    found = without_folders({"lyra:3200@/a/b/lyra": ["--data '/x/y z' whisper:/m/whisper-base opus:6", 1, None]})
    assert found == {"lyra:3200@lyra": ["--data 'y z' whisper:whisper-base opus:6", 1, None]}
    for kept in ("kbit/s", "hubert/snac", "2/3, 1/2", "https://a.org/b/c", "a and/or b", "mimi:8@kyutai/mimi"):
        assert without_folders(kept) == kept
    with pytest.raises(InputError, match="differ by their folders only"):
        without_folders({"x@/a/model": 1, "x@/b/model": 2})


def test_missing_results_are_named(tmp_path, capsys):
    assert main([], tmp_path, []) == 1
    assert "results.json cannot be read" in capsys.readouterr().err
    assert main([str(tmp_path)], tmp_path, []) == 1
    assert "report.json cannot be read" in capsys.readouterr().err
    (tmp_path / "results.json").write_text("[]")
    assert main([], tmp_path, []) == 1
    assert "of another format" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("speechtok:1@/a/b", "speechtok, 1 codebook"),
        ("lyra:9200@/a", "Lyra V2, 9.2 kbit/s"),
        ("opus:12", "Opus, asked for 12 kbit/s"),
        ("identity", "original"),
        ("mimi:8@kyutai/mimi", "mimi 8"),
    ],
)
def test_codecs_are_named_in_words(spec, name):
    assert codec_name(spec) == name
