"""What each part of a training is worth: short trainings that differ in one thing.

``python -m training.ablation --config training/configs/default.yaml --runs training/configs/ablation.yaml --out DIR
data=DIR steps=600`` trains each run that ``ablation.yaml`` names, with its changes to the config, and prints a Markdown
table of what they reach on the dev split; it is also in ``ablation.md`` of the folder. Interrupt it at any moment and
run the same command again: what is done stays, and a training goes on from its last checkpoint. Delete a run's folder
to train it again.
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
from speechtok.errors import ConfigError, OutputError, SpeechtokError
from speechtok.files import replacing
from training.config import TrainingConfig, load_config, read_values
from training.distributed import World
from training.losses import ReconstructionLoss
from training.train import read_data
from training.validation import validate

COLUMNS = {
    "pesq_wb": ("PESQ-WB", 3),
    "stoi": ("STOI", 4),
    "mel": ("mel distance", 3),
    "pnmi": ("PNMI", 3),
    "perplexity_0": ("perplexity of codebook 0", 0),
}
"""Titles of what a validation finds, and digits."""

UTTERANCES = 60
"""Of the dev split, that reconstruction is measured on."""

_OF_THE_MACHINE = {"device", "compile", "workers", "accumulate", "validation_utterances"}
"""What may differ when a run goes on."""


def read_runs(path: str) -> dict[str, list[str]]:
    """Names of runs, and their ``name=value`` changes.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it is no YAML of names, each with a list of changes.
    """
    runs = read_values(path)
    for name, changes in runs.items():
        if not isinstance(changes, list) or not all(isinstance(change, str) for change in changes):
            raise ConfigError(f"{path}: {name} is {changes!r}; expected a list of changes, such as [speed=1.0]")
    return runs


def train_run(config: str, overrides: Sequence[str], out: Path) -> TrainingConfig:
    """Train one, or go on with it, in a process of its own. Returns its config.

    Raises:
        SpeechtokError: it failed, and has said why.
    """
    changes = [*overrides, f"out={out}"]
    loaded = load_config(config, changes)
    script = Path(__file__).with_name("train.py")
    if status := in_a_process([sys.executable, str(script), "--config", config, *changes]):
        raise SpeechtokError(f"the training {out.name} ended with status {status}; run the same command to go on")
    return loaded


def in_a_process(command: Sequence[str]) -> int:
    """Run it, and return its status; Ctrl-C reaches it too, and it may take its time to save."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def _share_audio(run: Path) -> None:
    """All trainings read the audio that the first has packed."""
    shared, own = run.parent / "audio", run / "audio"
    try:
        for folder in (shared, run):
            folder.mkdir(parents=True, exist_ok=True)
        if not own.exists():
            own.symlink_to(Path("..") / "audio", target_is_directory=True)
    except OSError as error:
        raise OutputError(f"{run} cannot be written ({error}); expected a folder for trainings") from error


def result(config: str, overrides: Sequence[str], out: Path) -> dict[str, float]:
    """Train one and measure it; or read what was measured of it, if it is done.

    Raises:
        ConfigError: the folder has a run of another config.
        SpeechtokError: it failed, and has said why.
    """
    path = out / "measured.json"
    wanted = json.loads(json.dumps(load_config(config, [*overrides, f"out={out}"]).to_dict()))
    done: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # there is none yet, or it is not whole
        read = json.loads(path.read_text(encoding="utf-8"))
        done = {"config": dict(read["config"]), "values": read["values"]}
    if done:
        names = [name for name in wanted | done["config"] if wanted.get(name) != done["config"].get(name)]
        names = [name for name in names if name not in _OF_THE_MACHINE and not name.endswith("_every")]
    else:
        names = []
    if names:
        # a training that is done would do nothing for the new one
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
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(measured), encoding="utf-8")


def measure(config: TrainingConfig) -> dict[str, float]:
    """What the tokenizer of a training reaches on its dev split."""
    data = read_data(config, World())
    tokenizer = speechtok.load(Path(config.out) / "tokenizer")
    loss = ReconstructionLoss(config.model.sample_rate)
    return validate(tokenizer, loss, data.dev, data.alignments, UTTERANCES, config.distillation.delay).values


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown, a row for each run."""
    rows = ["| run | " + " | ".join(title for title, _ in COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, values in found.items():
        cells = [
            "" if math.isnan(values.get(key, math.nan)) else f"{values[key]:.{digits}f}"
            for key, (_, digits) in COLUMNS.items()
        ]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file of the training that the runs change")
    parser.add_argument("--runs", required=True, help="YAML file of names, each with a list of changes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings, and of the table")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="changes to all: data=DIR, steps=600")
    arguments = parser.parse_args(argv)
    found = {}
    try:
        for name, changes in read_runs(arguments.runs).items():
            overrides = [*arguments.overrides, *changes]
            found[name] = result(arguments.config, overrides, arguments.out / name)
            with replacing(arguments.out / "ablation.md") as temporary:
                temporary.write_text(table(found), encoding="utf-8")
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(found), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
