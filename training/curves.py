"""Plot training curves: ``python -m training.curves runs/default runs/default-decoder --out training.png``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from speechtok.errors import MissingFileError, SpeechtokError
from speechtok.files import replacing

PANELS = {
    "training loss: mel": ("train/mel", "validation/mel"),
    "training loss: spectrum": ("train/spectrum", "validation/spectrum"),
    "codebook 0: labels, features": ("train/labels", "train/features_over_time", "train/features_by_frame"),
    "acoustic dimensions: distance from frozen encoder": ("train/acoustic",),
    "held out: PESQ-WB": ("validation/pesq_wb",),
    "held out: STOI": ("validation/stoi",),
    "held out: PNMI of codebook 0": ("validation/pnmi",),
}
"""Titles of the panels, and the scalars that each shows."""

Curve = tuple[list[int], list[float]]
"""Steps and values of a scalar."""


def read_curves(run: Path) -> dict[str, Curve]:
    """Read the scalars of a run by name.

    Raises:
        MissingFileError: the folder has no TensorBoard files.
    """
    folder = run / "tensorboard"
    if not any(folder.glob("events.*")):
        raise MissingFileError(f"{folder} has no TensorBoard files; expected the folder of a run, out=…")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        name: ([event.step for event in events.Scalars(name)], [event.value for event in events.Scalars(name)])
        for name in events.Tags()["scalars"]
    }


def smooth(values: Sequence[float], share: float = 0.1) -> list[float]:
    """Exponential moving average; each new value has the weight ``share``."""
    averages: list[float] = []
    for value in values:
        averages.append(value if not averages else averages[-1] + share * (value - averages[-1]))
    return averages


def panels(runs: dict[str, dict[str, Curve]]) -> dict[str, list[tuple[str, str, Curve]]]:
    """Lines of each panel by title: run, scalar and curve. Scalars with a single point are left out."""
    shown = {
        title: [
            (run, name, curves[name])
            for run, curves in runs.items()
            for name in names
            if len(curves.get(name, ([], []))[0]) > 1
        ]
        for title, names in PANELS.items()
    }
    return {title: lines for title, lines in shown.items() if lines}


def draw(runs: dict[str, dict[str, Curve]], path: Path) -> None:
    """Plot all panels that have lines; ``runs`` holds the curves of each run by scalar."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = panels(runs)
    rows = -(-len(shown) // 3) or 1
    figure, axes = pyplot.subplots(rows, 3, figsize=(13, 3.4 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis, (title, lines) in zip(axes.flat, shown.items(), strict=False):
        for run, name, (steps, values) in lines:
            group, _, scalar = name.partition("/")
            label = " ".join(part for part in (run if len(runs) > 1 else "", group, scalar) if part)
            held_out = group == "validation"
            axis.plot(steps, values if held_out else smooth(values), marker="." if held_out else None, label=label)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    with replacing(path) as file:
        figure.savefig(file, dpi=100, format="png")
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs (out=…)")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    arguments = parser.parse_args(argv)
    try:
        draw({run.name: read_curves(run) for run in arguments.runs}, arguments.out)
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
