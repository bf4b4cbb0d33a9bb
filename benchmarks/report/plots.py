"""Figures of a report."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.bootstrap import Estimate
from benchmarks.report.data import BITRATE, Report, estimates, is_anchor, short_sources, short_specs, to_array

_COLUMNS = 3

DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "zero": "best at 0"}


def rate_distortion(report: Report, names: Sequence[str] | None = None) -> Figure:
    """The figure of :func:`draw_rate_distortion` for a report.

    Args:
        report: see :func:`benchmarks.report.data.build_report`.
        names: of the metrics; those of the summary by default.
    """
    names = list(names or [name for name, m in report["metrics"].items() if m["summary"]] or report["metrics"])
    found = {spec: estimates(report, spec) for spec in report["codecs"]}
    return draw_rate_distortion(report["metrics"], found, names)


def draw_rate_distortion(
    metrics: Mapping[str, Any], found: Mapping[str, Mapping[str, Estimate]], names: Sequence[str]
) -> Figure:
    """Metrics over the bitrate, with 95 % confidence intervals; a line joins the codecs of one family.

    The axes follow the codecs. The original is a dashed line, or a note at the edge if it lies outside.

    Args:
        metrics: of the report, by name.
        found: bitrate and metrics of each codec.
        names: of the metrics that are drawn.
    """
    figure, axes = _grid(len(names), 3.3)
    families = _families([spec for spec in found if not is_anchor(spec)] or list(found))
    for axis, name in zip(axes, names, strict=False):
        for colour, (family, specs) in enumerate(families.items()):
            measured = [(found[s][BITRATE].mean, found[s][name]) for s in specs if found[s][name].count]
            points = sorted(measured, key=lambda point: point[0])  # estimates of equal bitrate have no order
            if not points:
                continue
            rates, values = [p[0] for p in points], [p[1] for p in points]
            means, lows, highs = ([getattr(v, part) for v in values] for part in ("mean", "low", "high"))
            axis.plot(rates, means, "o-", ms=4, color=f"C{colour}", label=family)
            axis.fill_between(rates, lows, highs, color=f"C{colour}", alpha=0.2)
            axis.vlines(rates, lows, highs, color=f"C{colour}", alpha=0.5)
        metric = metrics[name]
        axis.set(xscale="log", xlabel="kbit/s", title=f"{metric['title']} ({DIRECTIONS[metric['better']]})")
        axis.grid(alpha=0.3)
        if "identity" in found and found["identity"][name].count:
            _draw_original(axis, found["identity"][name].mean, metric["digits"])
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0].legend(handles.values(), handles.keys(), fontsize=8)
    return figure


def _draw_original(axis: Any, value: float, digits: int) -> None:
    low, high = axis.get_ylim()
    margin = 0.15 * (high - low)
    if low - margin <= value <= high + margin:
        axis.axhline(value, color="0.5", ls="--", lw=1, label="original")
    else:
        above = value > high
        text = f"original: {value:.{digits}f} {'↑' if above else '↓'}"
        place = (0.98, 0.97 if above else 0.03)
        axis.text(*place, text, transform=axis.transAxes, ha="right", va="top" if above else "bottom", color="0.4")


def _families(specs: Sequence[str]) -> dict[str, list[str]]:
    """Specifications by name, and by source if one name has several."""
    sources = short_sources([spec.partition("@")[2] for spec in specs])
    named: dict[str, set[str]] = {}
    for spec in specs:
        name, _, source = spec.partition("@")
        named.setdefault(name.split(":")[0], set()).add(source)
    families: dict[str, list[str]] = {}
    for spec in specs:
        name, _, source = spec.partition("@")
        kind = name.split(":")[0]
        distinct = source and len(named[kind]) > 1
        families.setdefault(f"{kind}@{sources[source]}" if distinct else kind, []).append(spec)
    return families


def distributions(report: Report, names: Sequence[str] | None = None) -> Figure:
    """Metrics over the utterances: one box for each codec (quartiles, whiskers from 5 to 95 %).

    The anchors are left out: they would squash the axes.

    Args:
        report: see :func:`benchmarks.report.data.build_report`.
        names: of the metrics; those of the summary by default.
    """
    names = list(names or [name for name, m in report["metrics"].items() if m["summary"]] or report["metrics"])
    specs = [spec for spec in report["codecs"] if not is_anchor(spec)] or list(report["codecs"])
    figure, axes = _grid(len(names), 1.0 + 0.28 * len(specs))
    for axis, name in zip(axes, names, strict=False):
        values = [to_array(report["codecs"][spec]["scores"][name]) for spec in specs]
        present = [(row, v[~np.isnan(v)]) for row, v in enumerate(values) if (~np.isnan(v)).any()]
        if present:
            axis.boxplot(
                [v for _, v in present],
                positions=[row for row, _ in present],
                orientation="horizontal",
                whis=(5, 95),
                showfliers=False,
                widths=0.6,
            )
        axis.set_yticks(range(len(specs)), [short_specs(specs)[spec] for spec in specs], fontsize=7)
        axis.invert_yaxis()
        axis.set_title(report["metrics"][name]["title"], fontsize=10)
        axis.grid(alpha=0.3, axis="x")
    return figure


def _grid(count: int, height: float) -> tuple[Figure, list[Any]]:
    """A figure with ``count`` visible axes, each ``height`` inches high."""
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.6 * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes


def spectrogram(waveform: Tensor) -> bytes:
    """PNG of the spectrogram of ``(S,)`` at 16 kHz: 0 to 8 kHz, 80 dB below the maximum, without axes."""
    figure = Figure(figsize=(3.6, 1.4), dpi=90)
    axis = figure.subplots()
    padded = torch.nn.functional.pad(waveform, (0, max(0, 512 - len(waveform))))
    spectrum = torch.stft(padded, 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    decibels = 20 * torch.log10(spectrum.clamp_min(1e-5))
    axis.imshow(decibels.numpy(), origin="lower", aspect="auto", vmin=float(decibels.max()) - 80, cmap="magma")
    axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1)
    return png(figure)


def png(figure: Figure) -> bytes:
    """Content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
