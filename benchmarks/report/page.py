"""A report as one HTML page, with images and audio inside."""

import base64
import html
import io
from collections.abc import Sequence

import soundfile

from benchmarks.metrics.speech import SAMPLE_RATE
from benchmarks.report.data import Report, short_specs
from benchmarks.report.examples import Example
from benchmarks.report.markdown import EXTREMES, SUMMARY, TITLE, facts, sections, speakers
from benchmarks.report.plots import spectrogram

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5em auto; max-width: 1250px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .25em .6em; text-align: right; white-space: nowrap }
th { white-space: normal; min-width: 4em; vertical-align: bottom }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
img { max-width: 100% } code { background: #f3f3f3; padding: .1em .3em; overflow-wrap: anywhere }
h3 { overflow-wrap: anywhere } details { margin: 1em 0 } summary { cursor: pointer; font-weight: 600 }
.listen { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(280px, 100%), 1fr)); gap: 1em }
figure { margin: 0 } figcaption { font-weight: 600; overflow-wrap: anywhere }
audio { width: 100% } figure img { width: 100%; height: 110px }
"""


def page(
    report: Report,
    plots: Sequence[tuple[str, bytes]],
    examples: Sequence[Example],
    semantics: str = "",
    extremes: Sequence[Example] = (),
) -> str:
    """Format a report.

    Args:
        report: see :func:`benchmarks.report.data.build_report`.
        plots: names and contents of PNG files.
        examples: utterances to listen to.
        semantics: output of ``benchmarks.semantics``.
        extremes: best, median and worst utterances to listen to.
    """
    amount, *further = facts(report)
    body = [f"<h1>{TITLE}</h1>", f"<p>{_inline(amount)}.</p>"]
    if examples:
        body += ["<h2>Listen</h2>", *listen(examples)]
    for heading, text in sections(report, semantics):
        body.append(f"<h2>{html.escape(heading)}</h2>\n{blocks(text)}")
        if heading == SUMMARY:
            body += [f'<p><img alt="{name}" src="{_data_url("image/png", content)}"></p>' for name, content in plots]
        if heading == EXTREMES and extremes:
            body.append(f"<details><summary>Listen to them</summary>{''.join(listen(extremes))}</details>")
    single = [f"<h2>{html.escape(heading)}</h2>\n{blocks(text)}" for heading, text in speakers(report)]
    if single:
        body.append(f"<details><summary>{len(single)} speakers</summary>{''.join(single)}</details>")
    body += ["<h2>Run</h2>", "<ul>", *(f"<li>{_inline(fact)}</li>" for fact in further), "</ul>"]
    return document(TITLE, body)


def document(title: str, body: Sequence[str]) -> str:
    """A page with elements as its body."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def listen(examples: Sequence[Example]) -> list[str]:
    """Elements with a heading for each example, and its waveforms with spectrograms."""
    lines = []
    for example in examples:
        short = short_specs([name for name, _ in example.waveforms])
        lines += [f"<h3>{html.escape(example.caption)}</h3>", '<div class="listen">']
        for name, waveform in example.waveforms:
            file = io.BytesIO()
            soundfile.write(file, waveform.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            lines.append(
                f"<figure><figcaption>{html.escape(short[name])}</figcaption>"
                f'<img alt="spectrogram" src="{_data_url("image/png", spectrogram(waveform))}">'
                f'<audio controls preload="metadata" src="{_data_url("audio/flac", file.getvalue())}"></audio></figure>'
            )
        lines.append("</div>")
    return lines


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def blocks(text: str) -> str:
    """Convert the Markdown of :func:`benchmarks.report.markdown.sections`: tables, lists and paragraphs."""
    return "\n".join(_block(block.splitlines()) for block in text.strip().split("\n\n"))


def _block(lines: list[str]) -> str:
    if lines[0].startswith("- "):
        return "<ul>" + "".join(f"<li>{_inline(line.strip().removeprefix('- '))}</li>" for line in lines) + "</ul>"
    if not lines[0].startswith("|"):
        return f"<p>{_inline(' '.join(lines))}</p>"
    rows = []
    for number, line in enumerate(lines):
        if number != 1:
            cell = "th" if number == 0 else "td"
            cells = (f"<{cell}>{_inline(value.strip())}</{cell}>" for value in line.strip("|").split("|"))
            rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _inline(text: str) -> str:
    escaped = html.escape(text).replace("\\*", "*")
    for mark, tag in (("**", "strong"), ("`", "code")):
        pieces = escaped.split(mark)
        if len(pieces) % 2:  # an even number of marks
            escaped = "".join(p if i % 2 == 0 else f"<{tag}>{p}</{tag}>" for i, p in enumerate(pieces))
    return escaped
