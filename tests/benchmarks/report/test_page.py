import base64
import io
import re
from html.parser import HTMLParser

import soundfile
import torch

from benchmarks.codecs.load import load_codec
from benchmarks.report.examples import make_examples
from benchmarks.report.page import page
from benchmarks.report.write import SEMANTICS, write_report
from tests.conftest import make_speech
from training.manifest import Utterance


class Page(HTMLParser):
    """Collects the open elements and the references of a page."""

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


def test_the_page_is_self_contained_and_its_players_hold_the_audio(report, tmp_path):
    soundfile.write(tmp_path / "0.wav", make_speech(1), 16_000)
    codecs = {"identity": load_codec("identity"), "lowpass": load_codec("lowpass")}
    utterances = [Utterance(tmp_path / "0.wav", "u0", text="5 < 6 & 7"), Utterance(tmp_path / "none.wav", "u1")]
    examples = make_examples(utterances, codecs, {"identity": 0, "lowpass": 0}, 2)
    assert [name for name, _ in examples[0].waveforms] == ["original", "identity", "lowpass"]
    write_report(report, tmp_path / "out", examples)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.json", "report.md", "speakers.md", "report.html", "rate-distortion.png", "distributions.png",
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
    assert text.index("<h2>Listen</h2>") < text.index("<h2>Summary</h2>")
    assert "5 &lt; 6 &amp; 7" in text
    assert "<b>|broken" not in text
    assert not re.search(r"<script", text)


def test_the_output_of_semantics_is_part_of_the_report(report, tmp_path):
    write_report(report, tmp_path, [])
    assert "codebook 0" not in (tmp_path / "report.html").read_text()
    (tmp_path / SEMANTICS).write_text(
        "Two tables.\n\n| labels | PNMI |\n|---|---|\n| codebook 0 | 0.5 |\n\n`a command`\n"
    )
    write_report(report, tmp_path, [])
    html = (tmp_path / "report.html").read_text()
    assert "<p>Two tables.</p>\n<table><tr><th>labels</th><th>PNMI</th></tr><tr><td>codebook 0</td>" in html
    assert "<p><code>a command</code></p>" in html
    assert "| codebook 0 | 0.5 |" in (tmp_path / "report.md").read_text()


def test_a_page_without_plots_and_examples_is_well_formed(report):
    reader = Page()
    reader.feed(page(report, [], []))
    assert reader.open == []
