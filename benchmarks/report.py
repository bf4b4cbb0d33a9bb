"""The report of a run: JSON of everything, Markdown, and one HTML page that needs no other file.

``report.json`` has every score of every utterance, so that :mod:`benchmarks.compare` can pair two runs.
"""

import base64
import html
import io
import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

import speechtok
from benchmarks.bootstrap import Estimate, estimate, perplexity
from benchmarks.codecs import Codec
from benchmarks.evaluate import Item, Result, align, code
from benchmarks.metrics import RATE, Metric, version, versions
from speechtok.audio import resample
from speechtok.errors import SpeechtokError
from speechtok.files import replacing

Report = dict[str, Any]
"""What ``report.json`` has; every value is JSON, NaN is null."""

BITRATE = "kbit/s"

SEMANTICS = "semantics.md"
"""What ``benchmarks.semantics`` writes beside a report."""


def build(
    command: str,
    items: Sequence[Item],
    results: Sequence[Result],
    codecs: dict[str, Codec],
    metrics: dict[str, Metric],
    delays: dict[str, int],
    absent_codecs: dict[str, str],
    absent_metrics: dict[str, str],
) -> Report:
    """Everything that was measured.

    Args:
        command: that was run.
        items: utterances.
        results: of every utterance and codec.
        codecs: by specification.
        metrics: by name.
        delays: of each codec, in samples at 16 kHz.
        absent_codecs: why codecs that were asked for could not be used.
        absent_metrics: why metrics that were asked for could not be measured.
    """
    found = {(result.item, result.codec): result for result in results}
    rows: dict[str, Any] = {}
    for spec, codec in codecs.items():
        mine = [found[item.id, spec] for item in items]
        good = [result for result in mine if result.failure is None]
        codes = [np.array(result.codes) for result in good if result.codes is not None]
        grid = np.concatenate(codes, 1) if codes else np.empty((0, 0), int)
        rows[spec] = {
            "identity": codec.identity,
            "sample_rate": codec.sample_rate,
            "delay_ms": 1000 * delays[spec] / RATE,
            "codebook_size": codec.codebook_size,
            "perplexity": [perplexity(row) for row in grid],
            "failures": {result.item: result.failure for result in mine if result.failure is not None},
            "seconds": [None if r.failure is not None else r.seconds for r in mine],
            "bits": [None if r.failure is not None else r.bits for r in mine],
            "scores": {name: [_value(r, name) for r in mine] for name in metrics},
            "weights": {name: [_weight(r, name) for r in mine] for name in metrics},
        }
    return {
        "format": 1,
        "command": command,
        "machine": machine(),
        "versions": {
            "speechtok": version("speechtok"),
            "Python": platform.python_version(),
            "PyTorch": torch.__version__,
            "NumPy": np.__version__,
            "libsndfile": soundfile.__libsndfile_version__,
            **versions(metrics),
        },
        "utterances": [{"id": i.id, "speaker": i.speaker, "language": i.language} for i in items],
        "metrics": {
            name: {"title": m.title, "better": m.better, "digits": m.digits, "about": m.about, "slow": m.slow}
            for name, m in metrics.items()
        },
        "absent": {"codecs": absent_codecs, "metrics": absent_metrics},
        "codecs": rows,
    }


def _value(result: Result, name: str) -> float | None:
    value = result.scores.get(name, (math.nan, 0.0))[0]
    return None if math.isnan(value) else value


def _weight(result: Result, name: str) -> float:
    return result.scores.get(name, (math.nan, 0.0))[1]


def machine() -> str:
    """Processor, cores and system."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def estimates(report: Report, spec: str, chosen: Sequence[bool] | None = None) -> dict[str, Estimate]:
    """Mean and interval of the bit rate and each metric of a codec.

    Args:
        report: of :func:`build`.
        spec: the codec.
        chosen: which utterances count; all if not given.
    """
    row = report["codecs"][spec]
    keep = np.ones(len(report["utterances"]), bool) if chosen is None else np.array(chosen)
    seconds = array(row["seconds"])
    found = {BITRATE: estimate((array(row["bits"]) / seconds / 1000)[keep], seconds[keep])}
    for name in report["metrics"]:
        found[name] = estimate(array(row["scores"][name])[keep], array(row["weights"][name])[keep])
    return found


def array(values: Sequence[float | None]) -> np.ndarray:
    """Float64, with NaN for None."""
    return np.array([math.nan if value is None else value for value in values], float)


def table(report: Report, chosen: Sequence[bool] | None = None, intervals: bool = False) -> str:
    """A row for each codec, as Markdown; ``*`` after a metric that was measured on some utterances only."""
    metrics = report["metrics"]
    titles = [
        f"{m['title']} {'↑' if m['better'] == 'higher' else '↓'}{'*' if m['slow'] else ''}" for m in metrics.values()
    ]
    lines = [f"| codec | kbit/s | {' | '.join(titles)} |", "|---" * (2 + len(titles)) + "|"]
    for spec in report["codecs"]:
        found = estimates(report, spec, chosen)
        cells = [_cell(found[BITRATE], 2, False)]
        cells += [_cell(found[name], m["digits"], intervals) for name, m in metrics.items()]
        lines.append(f"| {spec} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Estimate, digits: int, interval: bool) -> str:
    if math.isnan(value.mean):
        return "–"
    text = f"{value.mean:.{digits}f}"
    return f"{text} ({value.low:.{digits}f}–{value.high:.{digits}f})" if interval and value.count > 1 else text


def notes(report: Report) -> list[str]:
    """What did not work or was not there, and how many utterances the metrics have, as lines of Markdown."""
    lines = []
    for kind, absent in report["absent"].items():
        lines += [f"- {kind[:-1]} **{name}** is absent: {reason}" for name, reason in absent.items()]
    for spec, row in report["codecs"].items():
        failures = list(row["failures"].items())
        if failures:
            lines.append(f"- **{spec}** failed on {len(failures)} of {len(report['utterances'])} utterances:")
            lines += [f"  - {name}: {reason}" for name, reason in failures[:20]]
            lines += [f"  - and {len(failures) - 20} more, which report.json names"] if len(failures) > 20 else []
    for name, metric in report["metrics"].items():
        counts = {spec: int((~np.isnan(array(row["scores"][name]))).sum()) for spec, row in report["codecs"].items()}
        if any(count < len(report["utterances"]) for count in counts.values()):
            told = ", ".join(f"{spec} {count}" for spec, count in counts.items())
            told = str(next(iter(counts.values()))) + " each" if len(set(counts.values())) == 1 else told
            lines.append(f"- {metric['title']}: utterances with a value, of {len(report['utterances'])}: {told}")
    return lines


def groups(report: Report, key: str) -> dict[str, list[bool]]:
    """Which utterances have each value of ``speaker`` or ``language``, if there are two values or more."""
    values = [utterance[key] for utterance in report["utterances"]]
    names = sorted({value for value in values if value is not None})
    return {name: [value == name for value in values] for name in names} if len(names) > 1 else {}


def _facts(report: Report) -> list[str]:
    seconds = max(np.nansum(array(row["seconds"])) for row in report["codecs"].values())
    told = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        f"{len(report['utterances'])} utterances, {seconds / 60:.1f} minutes",
        f"machine: {report['machine']}",
        f"versions: {told}",
        f"command: `{report['command']}`",
    ]


def _codec_table(report: Report) -> str:
    lines = ["| codec | what | Hz | delay, ms | perplexity of the codebooks |", "|---|---|---|---|---|"]
    for spec, row in report["codecs"].items():
        used = ", ".join(f"{value:.0f}" for value in row["perplexity"])
        used = f"{used} (of {row['codebook_size']})" if used else ""
        lines.append(f"| {spec} | {row['identity']} | {row['sample_rate']} | {row['delay_ms']:.2f} | {used} |")
    return "\n".join(lines)


def sections(report: Report, semantics: str = "") -> list[tuple[str, str]]:
    """Headings and Markdown of the report, without pictures; ``semantics`` is what ``benchmarks.semantics`` wrote."""
    parts = [("Summary", table(report))]
    if semantics:
        parts.append(("What codebook 0 knows of phones and speakers", semantics))
    warned = notes(report)
    if warned:
        parts.append(("What is missing", "\n".join(warned)))
    parts.append(("With 95 % confidence intervals", table(report, intervals=True)))
    parts += [(f"Language {name}", table(report, chosen)) for name, chosen in groups(report, "language").items()]
    parts.append(("Codecs", _codec_table(report)))
    meanings = [f"- {m['title']}, {m['better']} is better: {m['about']}" for m in report["metrics"].values()]
    if any(m["slow"] for m in report["metrics"].values()):
        meanings.append("- \\*: measured on some utterances only, the same for all codecs")
    meanings.append(
        "- kbit/s: measured bits of all utterances over their duration, without containers. Everything is compared at "
        "16 kHz, after the delay of each codec is taken away. Intervals: bootstrap over utterances."
    )
    parts.append(("Metrics", "\n".join(meanings)))
    parts += [(f"Speaker {name}", table(report, chosen)) for name, chosen in groups(report, "speaker").items()]
    return parts


def markdown(report: Report, pictures: Sequence[str], semantics: str = "") -> str:
    """The report; ``pictures`` are files beside it."""
    lines = ["# Codecs compared", "", *(f"- {fact}" for fact in _facts(report)), ""]
    for heading, text in sections(report, semantics):
        lines += [f"## {heading}", "", text, ""]
        if heading == "Summary":
            lines += [f"![{Path(name).stem}]({name})\n" for name in pictures]
    return "\n".join(lines)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def source_names(sources: Sequence[str]) -> dict[str, str]:
    """Each source by the end of its path, of as many parts as tell them apart."""
    parts = 1
    while True:
        names = {source: "/".join(Path(source).parts[-parts:]) for source in sources}
        if len(set(names.values())) == len(names) or parts > max(len(Path(source).parts) for source in sources):
            return names
        parts += 1


def rate_distortion(report: Report) -> Any:
    """Every metric over the bit rate, with 95 % intervals; codecs of one family are joined by a line with a band."""
    pyplot = _pyplot()
    names = list(report["metrics"])
    columns = min(3, len(names))
    figure, axes = pyplot.subplots(
        -(-len(names) // columns),
        columns,
        figsize=(4.6 * columns, 3.3 * -(-len(names) // columns)),
        layout="constrained",
        squeeze=False,
    )
    found = {spec: estimates(report, spec) for spec in report["codecs"]}
    names_of = source_names([spec.partition("@")[2] for spec in found])
    families: dict[str, list[str]] = {}
    for spec in found:
        name, _, source = spec.partition("@")
        families.setdefault(name.split(":")[0] + ("@" + names_of[source] if source else ""), []).append(spec)
    for axis, name in zip(axes.flat, names, strict=False):
        for colour, (family, specs) in enumerate(families.items()):
            measured = [(found[s][BITRATE].mean, found[s][name]) for s in specs if found[s][name].count]
            points = sorted(measured, key=lambda point: point[0])  # of one bitrate, in the order given
            if not points:
                continue
            rates, values = [p[0] for p in points], [p[1] for p in points]
            means, lows, highs = ([getattr(v, part) for v in values] for part in ("mean", "low", "high"))
            axis.plot(rates, means, "o-", ms=4, color=f"C{colour}", label=family)
            axis.fill_between(rates, lows, highs, color=f"C{colour}", alpha=0.2)
            axis.vlines(rates, lows, highs, color=f"C{colour}", alpha=0.5)
        metric = report["metrics"][name]
        better = "higher" if metric["better"] == "higher" else "lower"
        axis.set(xscale="log", xlabel="kbit/s", title=f"{metric['title']} ({better} is better)")
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    axes.flat[0].legend(fontsize=8)
    return figure


def distributions(report: Report) -> Any:
    """Every metric over the utterances, a box for each codec (quartiles, and whiskers from 5 to 95 %)."""
    pyplot = _pyplot()
    names, specs = list(report["metrics"]), list(report["codecs"])
    columns = min(3, len(names))
    height = 1.0 + 0.28 * len(specs)
    figure, axes = pyplot.subplots(
        -(-len(names) // columns),
        columns,
        figsize=(4.6 * columns, height * -(-len(names) // columns)),
        layout="constrained",
        squeeze=False,
    )
    for axis, name in zip(axes.flat, names, strict=False):
        values = [array(report["codecs"][spec]["scores"][name]) for spec in specs]
        kept = [(place, v[~np.isnan(v)]) for place, v in enumerate(values) if (~np.isnan(v)).any()]
        if kept:
            axis.boxplot(
                [v for _, v in kept],
                positions=[p for p, _ in kept],
                orientation="horizontal",
                whis=(5, 95),
                flierprops={"ms": 2},
                widths=0.6,
            )
        axis.set_yticks(range(len(specs)), [_short(spec) for spec in specs], fontsize=7)
        axis.invert_yaxis()
        axis.set_title(report["metrics"][name]["title"], fontsize=10)
        axis.grid(alpha=0.3, axis="x")
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    return figure


def _short(spec: str) -> str:
    name, _, source = spec.partition("@")
    return name + ("@" + Path(source).name if source else "")


def spectrogram(waveform: Tensor) -> bytes:
    """PNG of ``(S,)`` at 16 kHz, 0 to 8 kHz from bottom to top, 80 dB from the loudest."""
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(3.6, 1.4), dpi=90)
    padded = torch.nn.functional.pad(waveform, (0, max(0, 512 - len(waveform))))
    spectrum = torch.stft(padded, 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    decibels = 20 * torch.log10(spectrum.clamp_min(1e-5))
    axis.imshow(decibels, origin="lower", aspect="auto", vmin=float(decibels.max()) - 80, cmap="magma")
    axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1)
    return _png(figure)


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    _pyplot().close(figure)
    return file.getvalue()


def examples(
    items: Sequence[Item], codecs: dict[str, Codec], delays: dict[str, int], count: int
) -> list[tuple[str, list[tuple[str, Tensor]]]]:
    """Utterances spread over the manifest: a caption, and the waveforms ``(S,)`` at 16 kHz of the original and of each
    codec; what fails is left out, for the results name it.
    """
    found: list[tuple[str, list[tuple[str, Tensor]]]] = []
    for place in np.linspace(0, len(items) - 1, min(count, len(items)) + 2).round()[1:-1].astype(int):
        item = items[place]
        try:
            waveform, rate = speechtok.read_audio(item.path)
        except (SpeechtokError, OSError, RuntimeError):
            continue
        original = resample(waveform[None], rate, RATE)[0]
        rows = [("original", original)]
        for spec, codec in codecs.items():
            try:
                rows.append((spec, align(original, code(codec, waveform, rate)[0], delays[spec])[1]))
            except Exception:  # as in the evaluation, which names it
                continue
        found.append((f"{item.id}: {item.text}" if item.text else item.id, rows))
    return found


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .25em .7em; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
img { max-width: 100% } code { background: #f3f3f3; padding: .1em .3em; overflow-wrap: anywhere }
.listen { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 1em }
figure { margin: 0 } figcaption { font-weight: 600 } audio { width: 100% } figure img { width: 100%; height: 110px }
"""


def page(
    report: Report,
    plots: Sequence[tuple[str, bytes]],
    heard: Sequence[tuple[str, list[tuple[str, Tensor]]]],
    semantics: str = "",
) -> str:
    """The report as one HTML page, with pictures and audio inside.

    Args:
        report: of :func:`build`.
        plots: names and PNG files.
        heard: of :func:`examples`.
        semantics: what ``benchmarks.semantics`` wrote.
    """
    body = ["<h1>Codecs compared</h1>", "<ul>", *(f"<li>{_inline(fact)}</li>" for fact in _facts(report)), "</ul>"]
    speakers = []
    for heading, text in sections(report, semantics):
        part = f"<h2>{html.escape(heading)}</h2>\n{_html(text)}"
        if heading.startswith("Speaker "):
            speakers.append(part)
            continue
        body.append(part)
        if heading == "Summary":
            body += [f'<p><img alt="{name}" src="{_data("image/png", png)}"></p>' for name, png in plots]
            body += _listen(heard)
    if speakers:
        body.append(f"<details><summary>{len(speakers)} speakers</summary>{''.join(speakers)}</details>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Codecs compared</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _listen(heard: Sequence[tuple[str, list[tuple[str, Tensor]]]]) -> list[str]:
    lines = ["<h2>Listen</h2>"] if heard else []
    for caption, rows in heard:
        lines += [f"<h3>{html.escape(caption)}</h3>", '<div class="listen">']
        for name, waveform in rows:
            file = io.BytesIO()
            soundfile.write(file, waveform.numpy(), RATE, format="FLAC", subtype="PCM_16")
            lines.append(
                f"<figure><figcaption>{html.escape(name)}</figcaption>"
                f'<img alt="spectrogram" src="{_data("image/png", spectrogram(waveform))}">'
                f'<audio controls preload="metadata" src="{_data("audio/flac", file.getvalue())}"></audio></figure>'
            )
        lines.append("</div>")
    return lines


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _inline(text: str) -> str:
    escaped = html.escape(text).replace("\\*", "*")
    for mark, tag in (("**", "strong"), ("`", "code")):
        pieces = escaped.split(mark)
        if len(pieces) % 2:  # pairs only
            escaped = "".join(p if i % 2 == 0 else f"<{tag}>{p}</{tag}>" for i, p in enumerate(pieces))
    return escaped


def _html(text: str) -> str:
    """Tables, lists and paragraphs, with blank lines between them."""
    return "\n".join(_html_block(block.splitlines()) for block in text.strip().split("\n\n"))


def _html_block(lines: list[str]) -> str:
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


def write(report: Report, folder: Path, heard: Sequence[tuple[str, list[tuple[str, Tensor]]]]) -> None:
    """``report.json``, ``report.md`` with its pictures, and ``report.html``; each replaces its predecessor at once.

    What ``benchmarks.semantics`` wrote into the folder is part of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = [("rate-distortion", _png(rate_distortion(report))), ("distributions", _png(distributions(report)))]
    if not report["metrics"]:
        plots = []
    for name, png in plots:
        put(folder / f"{name}.png", png)
    put(folder / "report.json", json.dumps(report, allow_nan=False).encode())
    found = folder / SEMANTICS
    semantics = found.read_text(encoding="utf-8") if found.is_file() else ""
    put(folder / "report.md", markdown(report, [f"{name}.png" for name, _ in plots], semantics).encode())
    put(folder / "report.html", page(report, plots, heard, semantics).encode())


def put(path: Path, content: bytes) -> None:
    """Write a file; its predecessor stays until it is whole.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
