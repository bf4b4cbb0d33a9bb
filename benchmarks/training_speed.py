"""How many seconds of audio a second a training learns from, without and with what makes it fast.

``python -m benchmarks.training_speed --config training/configs/default.yaml data=DIR`` prints a Markdown table: PyTorch as it
is, then one thing more in each row. The rows take turns, in processes of their own, and the best round of each counts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.arguments import number_from
from speechtok.errors import SpeechtokError
from training.config import load_config
from training.distributed import World
from training.train import Trainer, read_data

WARM_UP_STEPS = 12
"""Steps before the clock runs: compiling, and memory that is new."""

MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OMP_WAIT_POLICY": "active",
}
"""What README.md says to export."""

ROWS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "PyTorch as it is, float32": ({"compile": "false", "bfloat16": "false"}, {}),
    "compiled": ({"compile": "true", "bfloat16": "false"}, {}),
    "compiled, bfloat16": ({"compile": "true", "bfloat16": "true"}, {}),
    "compiled, bfloat16, memory kept": ({"compile": "true", "bfloat16": "true"}, MEMORY),
}
"""Changes to the config, and to the environment."""


def audio_per_second(config: str, overrides: Sequence[str], steps: int) -> float:
    """Seconds of audio that this process learns from in a second."""
    loaded = load_config(config, [*overrides, "quantizer.start_step=0"])
    data = read_data(loaded, World())
    trainer = Trainer(loaded, data.train, None, data.features, data.labels)
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


def elsewhere(row: str, arguments: argparse.Namespace, out: str) -> float:
    """The same in a new process, for a row of the table; ``out`` has the packed audio of all."""
    changes, environment = ROWS[row]
    overrides = [*arguments.overrides, f"out={out}", *(f"{name}={value}" for name, value in changes.items())]
    command = [sys.executable, "-m", "benchmarks.training_speed", "--config", arguments.config, "--alone"]
    command += ["--steps", str(arguments.steps), *overrides]
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SpeechtokError(f"the training {row!r} ended with status {done.returncode}, and has said why")
    return float(done.stdout.split()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file; see training/configs/")
    parser.add_argument("--steps", type=number_from(1), default=40, help="that are timed (40)")
    parser.add_argument("--rounds", type=number_from(1), default=2, help="that count (2)")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="changes to the config, data=DIR first")
    arguments = parser.parse_args(argv)
    try:
        if arguments.alone:
            print(audio_per_second(arguments.config, arguments.overrides, arguments.steps))
            return 0
        best = dict.fromkeys(ROWS, 0.0)
        with tempfile.TemporaryDirectory() as out:
            for _ in range(arguments.rounds):
                for row in ROWS:
                    best[row] = max(best[row], elsewhere(row, arguments, out))
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    first = best[next(iter(ROWS))]
    print("| training | audio, s a second | times the first |\n|---|---|---|")
    for row, value in best.items():
        print(f"| {row} | {value:.1f} | {value / first:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
