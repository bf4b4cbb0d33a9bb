import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import soundfile
import torch

from benchmarks.codecs import load_codec
from benchmarks.compare import changes, main, read_report
from benchmarks.compare import table as change_table
from benchmarks.evaluate import Item, Result
from benchmarks.metrics import load_metrics
from benchmarks.report import (
    SEMANTICS,
    Report,
    build,
    estimates,
    examples,
    markdown,
    page,
    rate_distortion,
    source_names,
    table,
    write,
)
from speechtok.errors import InputError
from tests.conftest import make_speech


def make_report(gain: float = 0.0) -> Report:
    items = [Item(f"u{i}", Path(f"{i}.wav"), None, "de" if i % 4 == 0 else "en", f"s{i % 3}") for i in range(12)]
    codecs = {"identity": load_codec("identity"), "lowpass": load_codec("lowpass")}
    metrics = load_metrics(["pesq", "mel"])
    results = []
    for i, item in enumerate(items):
        scores = {"pesq": (2.0 + 0.1 * (i % 5) + gain, 1.0), "mel": (float("nan") if i == 3 else 5.0, 1.0)}
        results.append(Result(item.id, "identity", 2.0, 512.0 * 1000, scores, [[0, 1], [2, 2]]))
        failed = Result(item.id, "lowpass", failure="<b>|broken|</b>")
        results.append(failed if i == 0 else Result(item.id, "lowpass", 2.0, 1000.0, scores))
    delays = {"identity": 0, "lowpass": 32}
    return build("python -m x", items, results, codecs, metrics, delays, {"nosuch": "unknown"}, {"wer": "absent"})


def test_numbers_and_what_is_missing_are_told():
    report = make_report()
    json.dumps(report, allow_nan=False)
    found = estimates(report, "identity")
    assert found["kbit/s"].mean == 256
    assert found["mel"].count == 11
    assert report["codecs"]["identity"]["perplexity"] == [pytest.approx(2), pytest.approx(1)]
    assert table(report).splitlines()[0] == "| codec | kbit/s | PESQ-WB ↑ | mel distance, dB ↓ |"
    assert table(report).splitlines()[2].startswith("| identity | 256.00 | 2.1")
    text = markdown(report, ["plot.png"])
    for told in (
        "codec **nosuch** is absent: unknown",
        "metric **wer** is absent: absent",
        "**lowpass** failed on 1 of 12 utterances",
        "u0: <b>|broken|</b>",
        "identity 11",
        "## Language de",
        "## Speaker s2",
        "`python -m x`",
        "PyTorch",
        "2.00 |",  # delay of lowpass, ms
        "![plot](plot.png)",
    ):
        assert told in text, told


def test_codecs_of_one_bitrate_are_drawn_and_told_apart_by_where_they_are():
    report = make_report()
    names = ["speechtok:8@runs/a/tokenizer", "speechtok:8@runs/b/tokenizer", "speechtok:8", "speechtok:7"]
    report["codecs"] = dict.fromkeys(names, report["codecs"]["identity"])
    figure = rate_distortion(report)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["speechtok@a/tokenizer", "speechtok@b/tokenizer", "speechtok"]


def test_sources_have_short_names_that_differ():
    assert source_names(["x/a", "y/b"]) == {"x/a": "a", "y/b": "b"}
    assert source_names(["x/a", "y/a"]) == {"x/a": "x/a", "y/a": "y/a"}
    assert source_names(["a", "/y/a"]) == {"a": "a", "/y/a": "y/a"}
    assert source_names(["a", "a"]) == {"a": "a"}


class Page(HTMLParser):
    """Collects what a page has and refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.sources += [str(values[name]) for name in ("src", "href") if name in values]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_no_other_file_and_its_players_have_the_audio(tmp_path):
    soundfile.write(tmp_path / "0.wav", make_speech(1), 16_000)
    codecs = {"identity": load_codec("identity"), "lowpass": load_codec("lowpass")}
    items = [Item("u0", tmp_path / "0.wav", "5 < 6 & 7"), Item("u1", tmp_path / "none.wav")]
    heard = examples(items, codecs, {"identity": 0, "lowpass": 0}, 2)
    assert [name for name, _ in heard[0][1]] == ["original", "identity", "lowpass"]
    write(make_report(), tmp_path / "out", heard)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.json", "report.md", "report.html", "rate-distortion.png", "distributions.png",
    }  # fmt: skip
    text = (tmp_path / "out" / "report.html").read_text()
    reader = Page()
    reader.feed(text)
    assert reader.open == []
    assert all(source.startswith("data:") for source in reader.sources)
    audio = [source for source in reader.sources if source.startswith("data:audio/flac")]
    decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(audio[0].split(",")[1])))
    assert (len(decoded), rate) == (16_000, 16_000)
    assert torch.allclose(torch.from_numpy(decoded).float(), torch.from_numpy(make_speech(1)), atol=1e-4)
    assert "5 &lt; 6 &amp; 7" in text
    assert "<b>|broken" not in text
    assert not re.search(r"<script", text)


def test_what_was_found_of_codebook_0_is_part_of_the_report(tmp_path):
    report = make_report()
    write(report, tmp_path, [])
    assert "codebook 0" not in (tmp_path / "report.html").read_text()
    (tmp_path / SEMANTICS).write_text(
        "Two tables.\n\n| labels | PNMI |\n|---|---|\n| codebook 0 | 0.5 |\n\n`a command`\n"
    )
    write(report, tmp_path, [])
    html = (tmp_path / "report.html").read_text()
    assert "<p>Two tables.</p>\n<table><tr><th>labels</th><th>PNMI</th></tr><tr><td>codebook 0</td>" in html
    assert "<p><code>a command</code></p>" in html
    assert "| codebook 0 | 0.5 |" in (tmp_path / "report.md").read_text()


def test_a_page_without_metrics_or_examples_is_still_one():
    report = make_report()
    reader = Page()
    reader.feed(page(report, [], []))
    assert reader.open == []


def test_compare_finds_what_changed_and_what_did_not(tmp_path, capsys):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, gain in zip(paths, (0.0, -0.3), strict=True):
        path.write_text(json.dumps(make_report(gain)))
    assert main([str(path) for path in paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| identity | PESQ-WB | 2.17")
    assert "-0.300 (-0.300 to -0.300)" in lines[2]
    assert "worse *" in lines[2]
    assert lines[2].endswith("| 12 |")
    assert "not sure" in lines[3]
    a = read_report(paths[0])
    rows = changes(a, a, [("identity", "lowpass")])
    assert [row.codec for row in rows] == ["identity → lowpass"] * 2
    assert all(row.difference.difference == 0 and row.difference.count < 12 for row in rows)
    assert change_table(rows).count("\n") == 3


def test_reports_that_cannot_be_compared_are_told(tmp_path, capsys):
    report = make_report()
    with pytest.raises(InputError, match="'opus' is not in the report; expected one of identity, lowpass"):
        changes(report, report, [("identity", "opus")])
    with pytest.raises(InputError, match="share 0 codecs, 2 metrics and 12 utterances"):
        changes(report, report | {"codecs": {}})
    other = tmp_path / "x.json"
    other.write_text("[]")
    assert main([str(other), str(tmp_path / "none.json")]) == 1
    assert "no report of format 1" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json"), str(other)]) == 1
    assert "none.json cannot be read" in capsys.readouterr().err
