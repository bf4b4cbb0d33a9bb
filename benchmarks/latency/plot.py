"""The waterfall as a picture."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.latency.waterfall import Waterfall


def plot(rows: Sequence[Waterfall], path: Path) -> None:
    """Draw each time as a row of bars, one after the other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    height = sum(len(row.parts) + 1.3 for row in rows)
    figure, axes = pyplot.subplots(figsize=(10, 0.6 + 0.3 * height), layout="constrained")
    place, ticks, labels = 0.0, [], []
    for row in rows:
        begin = 0.0
        axes.text(0, place, row.name, fontweight="bold", va="center")
        place += 1
        for part in row.parts:
            axes.barh(place, part.median, left=begin, color="#d26a1b" if part.added else "#4552c8", height=0.7)
            axes.text(begin + part.median + 5, place, f"{part.median:.0f}", va="center", fontsize=9)
            begin += part.median
            ticks.append(place)
            labels.append(part.name)
            place += 1
        place += 0.3
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.set(xlabel="ms after the last sample of the question (medians; orange: added by speechtok)")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
