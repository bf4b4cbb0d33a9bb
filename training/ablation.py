"""Ablations: short trainings that each change one part of a config.

Run ``python -m training.ablation --config training/configs/default.yaml --runs training/configs/ablation.yaml --out DIR
data=DIR steps=600``. It trains each run that ``ablation.yaml`` lists, and prints a Markdown table of their results on
the dev split, which is also written to ``ablation.md`` in the folder. After an interruption, the same command keeps
completed runs and resumes the others. Delete the folder of a run to train it again.
"""

import argparse
import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import speechtok
from speechtok.errors import ConfigError, OutputError, SpeechtokError, quoted
from speechtok.files import replacing
from training.config import TrainingConfig, load_config, read_values, rename_old_fields
from training.distributed import World
from training.losses import ReconstructionLoss
from training.splits import load_splits
from training.validation import validate

COLUMNS = {
    "pesq_wb": ("PESQ-WB", 3),
    "stoi": ("STOI", 4),
    "mel": ("mel distance", 3),
    "pnmi": ("PNMI", 3),
    "perplexity_0": ("perplexity of codebook 0", 0),
}
"""Columns of the table: title and digits of each validation result."""

UTTERANCES = 60
"""Utterances of the dev split on which reconstruction is measured."""

_FREE_FIELDS = {"device", "compile", "workers", "accumulate", "validation_utterances"}
"""Fields that may change when a run is resumed, beside those that end in ``_every``."""


def read_runs(path: str) -> dict[str, list[str]]:
    """Read the names of runs, each with a list of ``name=value`` overrides.

    Raises:
        MissingFileError: the file does not exist.
        ConfigError: the file is not YAML, or a run is not a list of overrides.
    """
    runs = read_values(path)
    for name, changes in runs.items():
        if not isinstance(changes, list) or not all(isinstance(change, str) for change in changes):
            raise ConfigError(f"{path}: {name} is {quoted(changes)}; expected a list of overrides, such as [speed=1.0]")
    return runs


def train_run(config: str, overrides: Sequence[str], out: Path) -> TrainingConfig:
    """Run or resume a training in its own process. Returns its config.

    Raises:
        SpeechtokError: the training failed, and has printed the reason.
    """
    changes = [*overrides, f"out={out}"]
    loaded = load_config(config, changes)
    if status := run_process([sys.executable, "-m", "training.train", "--config", config, *changes]):
        raise SpeechtokError(f"the training {out.name} ended with status {status}; run the same command to resume")
    return loaded


def run_process(command: Sequence[str]) -> int:
    """Run a command and return its exit status. After Ctrl-C, which the command gets too, wait until it has ended."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def _share_audio(run: Path) -> None:
    """Let all runs share the audio that the first one packs."""
    shared, own = run.parent / "audio", run / "audio"
    try:
        for folder in (shared, run):
            folder.mkdir(parents=True, exist_ok=True)
        if not own.exists():
            own.symlink_to(Path("..") / "audio", target_is_directory=True)
    except OSError as error:
        raise OutputError(f"{run} cannot be written ({error}); choose another --out") from error


def result(config: str, overrides: Sequence[str], out: Path) -> dict[str, float]:
    """Train and validate a run, or read its result if it is complete.

    Raises:
        ConfigError: the folder holds a run with another config.
        SpeechtokError: the training failed, and has printed the reason.
    """
    path = out / "measured.json"
    wanted = json.loads(json.dumps(load_config(config, [*overrides, f"out={out}"]).to_dict()))
    done: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # missing or incomplete
        read = json.loads(path.read_text(encoding="utf-8"))
        done = {"config": rename_old_fields(read["config"]), "values": read["values"]}
    if done:
        names = [name for name in wanted | done["config"] if wanted.get(name) != done["config"].get(name)]
        names = [name for name in names if name not in _FREE_FIELDS and not name.endswith("_every")]
    else:
        names = []
    if names:
        # resuming a completed training would return its result for another config
        raise ConfigError(
            f"{out} has a run with another {' and '.join(names)}; delete the folder to train it again, or choose "
            "another --out"
        )
    if done and done["values"] is not None:
        return dict(done["values"])
    _share_audio(out)
    _write(path, {"config": wanted, "values": None})
    values = measure(train_run(config, overrides, out))
    _write(path, {"config": wanted, "values": values})
    return values


def _write(path: Path, measured: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(measured).encode())


def measure(config: TrainingConfig) -> dict[str, float]:
    """Validate the tokenizer of a training on its dev split."""
    splits = load_splits(config, World())
    tokenizer = speechtok.load(Path(config.out) / "tokenizer")
    loss = ReconstructionLoss(config.model.sample_rate)
    return validate(tokenizer, loss, splits.dev, splits.alignments, UTTERANCES, config.distillation.delay).values


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown table with a row for each run."""
    rows = ["| run | " + " | ".join(title for title, _ in COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, values in results.items():
        cells = [
            "" if math.isnan(values.get(key, math.nan)) else f"{values[key]:.{digits}f}"
            for key, (_, digits) in COLUMNS.items()
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file of the training that all runs change")
    parser.add_argument("--runs", required=True, help="YAML file of runs, each with a list of overrides")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of the table")
    parser.add_argument(
        "overrides", nargs="*", metavar="name=value", help="overrides of all runs, such as data=DIR steps=600"
    )
    arguments = parser.parse_args(argv)
    results = {}
    try:
        for name, changes in read_runs(arguments.runs).items():
            overrides = [*arguments.overrides, *changes]
            results[name] = result(arguments.config, overrides, arguments.out / name)
            with replacing(arguments.out / "ablation.md") as file:
                file.write(table(results).encode())
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
