"""Runs the trials of a scenario in a process with the library of faults."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

KILLS = ("kill-before", "kill-after")
FULL_DISK, FAILING_DISK, VANISHING = "full-disk", "failing-disk", "vanishing-inputs"
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Folder in memory, where it costs nothing to wait until files are on the disk."""


def available() -> bool:
    """Whether this machine can run the trials."""
    return COMPILER is not None and sys.platform == "linux"


@dataclass(frozen=True)
class Plan:
    """Trials of one scenario.

    Attributes:
        scenario: a name of :data:`tests.faults.scenarios.SCENARIOS`.
        actions: kinds of faults to draw from.
        trials: number of runs with a fault.
        files: number of input files.
        seed: of the faults.
        in_a_row: whether each trial continues where the one before was ended, with one run without faults at the end.
            Otherwise each trial starts from the same files, and has a run without faults after it.
    """

    scenario: str
    actions: tuple[str, ...]
    trials: int
    files: int = 10
    seed: int = 0
    in_a_row: bool = False


@dataclass(frozen=True)
class Outcome:
    """What the trials found.

    Attributes:
        trials: number of runs with a fault.
        calls: of a run without a fault: those that create, write, sync or rename a file.
        killed: runs that were killed.
        reported: runs that ended with exit status 1 and a message.
        completed: runs that ended as if nothing had happened.
        faults: what was wrong.
    """

    trials: int
    calls: int
    killed: int
    reported: int
    completed: int
    faults: list[str]

    def __str__(self) -> str:
        text = (
            f"{self.trials} trials over {self.calls} calls: {self.killed} killed, {self.reported} reported, "
            f"{self.completed} completed, {len(self.faults)} faults"
        )
        return "\n".join([text, *self.faults])


def run(*plans: Plan) -> list[Outcome]:
    """Run trials in one process. Returns the outcome of each plan."""
    assert COMPILER is not None
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        library = Path(folder) / "faults.so"
        source = Path(__file__).with_name("shim.c")
        subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.trials", json.dumps([asdict(plan) for plan in plans])],
            cwd=ROOT,
            env=os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "TMPDIR": folder},
            stdout=subprocess.PIPE,
            check=True,
        )
    return [Outcome(**values) for values in json.loads(done.stdout)]
