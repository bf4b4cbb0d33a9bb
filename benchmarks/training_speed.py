"""Training throughput in seconds of audio per second, with and without each optimisation.

``python -m benchmarks.training_speed --config training/configs/default.yaml data=DIR`` prints a Markdown table. The
first row is plain PyTorch; each further row adds one optimisation. The rows take turns, in separate processes, and the
best round of each counts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.arguments import integer_from, one_line_errors
from speechtok.errors import SpeechtokError
from training.config import load_config
from training.distributed import World
from training.splits import load_splits
from training.trainer import Trainer

WARM_UP_STEPS = 12
"""Steps before the clock starts, for compilation and the first memory allocations."""

MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OMP_WAIT_POLICY": "active",
}
"""The environment variables that the training documentation recommends on a CPU."""

ROWS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "plain PyTorch, float32": ({"compile": "false", "bfloat16": "false"}, {}),
    "compiled": ({"compile": "true", "bfloat16": "false"}, {}),
    "compiled, bfloat16": ({"compile": "true", "bfloat16": "true"}, {}),
    "compiled, bfloat16, memory kept": ({"compile": "true", "bfloat16": "true"}, MEMORY),
}
"""Changes to the config and to the environment, by row."""


def measure(config: str, overrides: Sequence[str], steps: int) -> float:
    """Train in this process. Returns seconds of audio per second.

    Args:
        config: path of a training config.
        overrides: changes to the config, as ``name=value``.
        steps: timed steps.
    """
    loaded = load_config(config, [*overrides, "quantizer.start_step=0"])
    splits = load_splits(loaded, World())
    trainer = Trainer(loaded, splits.train, None, splits.features, splits.labels, splits.noise)
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(trainer.batch, 0)
        for step in range(WARM_UP_STEPS + steps):
            if step == WARM_UP_STEPS:
                start = time.perf_counter()
            batch = upcoming.result()
            upcoming = pool.submit(trainer.batch, step + 1)
            trainer.run_step(batch)
        seconds = time.perf_counter() - start
    return steps * loaded.batch_size * loaded.crop_seconds / seconds


def measure_row(row: str, arguments: argparse.Namespace, out: str) -> float:
    """Measure one row of the table in a new process.

    Args:
        row: one of :data:`ROWS`.
        arguments: of the command line.
        out: folder for the packed audio, which all rows share.

    Raises:
        SpeechtokError: the process failed.
    """
    changes, environment = ROWS[row]
    overrides = [*arguments.overrides, f"out={out}", *(f"{name}={value}" for name, value in changes.items())]
    command = [sys.executable, "-m", "benchmarks.training_speed", "--config", arguments.config, "--alone"]
    command += ["--steps", str(arguments.steps), *overrides]
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SpeechtokError(f"the training {row!r} ended with status {done.returncode}; its error is printed above")
    return float(done.stdout.split()[-1])


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file; see training/configs/")
    parser.add_argument("--steps", type=integer_from(1), default=40, help="timed steps (40)")
    parser.add_argument("--rounds", type=integer_from(1), default=2, help="rounds, of which the best counts (2)")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="changes to the config, such as data=DIR")
    arguments = parser.parse_args(argv)
    if arguments.alone:
        print(measure(arguments.config, arguments.overrides, arguments.steps))
        return 0
    best = dict.fromkeys(ROWS, 0.0)
    with tempfile.TemporaryDirectory() as out:
        for _ in range(arguments.rounds):
            for row in ROWS:
                best[row] = max(best[row], measure_row(row, arguments, out))
    first = best[next(iter(ROWS))]
    print("| training | audio, seconds per second | speed-up |\n|---|---|---|")
    for row, value in best.items():
        print(f"| {row} | {value:.1f} | {value / first:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
