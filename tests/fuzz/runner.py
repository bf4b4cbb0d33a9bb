"""The runner that all fuzzers share: makes inputs from a seed, uses them, and reports what came out.

An input is wrong if it makes the package raise an exception that is not ours, crash, take more than 5 seconds of
processor time, or allocate more than 1 GB. An input that the package uses, or refuses with an error of
:mod:`speechtok.errors`, is right.
"""

import collections
import contextlib
import importlib
import json
import mmap
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechtok.errors import SpeechtokError

MAX_SECONDS = 5.0
"""Processor time that an input may take."""
MAX_BLOCKED_SECONDS = 30.0
"""Time that an input may wait, for example in a read from a pipe. Waiting for a processor does not count."""
MAX_BYTES = 2**30
"""Memory that an input may take."""

_OUT_OF_MEMORY = "allocate memory", "bad_alloc", "not enough memory", "out of memory"
_PROGRESS = struct.Struct("<q")
_ROOT = Path(__file__).parents[2]


class Fuzzer(ABC):
    """Makes and uses inputs of one kind.

    Args:
        folder: empty folder for files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def make(self, rng: random.Random) -> Any:
        """Make an input; the same one for the same random state."""

    @abstractmethod
    def passes(self, made: Any) -> bool:
        """Whether an input passes the first check: the container can be read, and what is wrong lies deeper."""

    @abstractmethod
    def use(self, made: Any) -> None:
        """Use an input as a user would. May raise errors of :mod:`speechtok.errors` only."""


@dataclass
class Report:
    """Outcome of a run.

    Attributes:
        kind: name of the fuzzer.
        inputs: inputs made.
        checked: inputs of which it is known whether they pass the first check: every tenth one of a long run.
        passed: those that passed it.
        used: inputs that were used without an error.
        refused: inputs refused with an error of ours.
        faults: what went wrong, the number of inputs, and the first of them.
        peak_bytes: largest growth of memory, in a run of its own process.
        seconds: duration.
    """

    kind: str
    inputs: int = 0
    checked: int = 0
    passed: int = 0
    used: int = 0
    refused: int = 0
    faults: dict[str, list[int]] = field(default_factory=dict)
    peak_bytes: int = 0
    seconds: float = 0.0

    def fault(self, what: str, index: int) -> None:
        """Count a fault."""
        count, first = self.faults.get(what, (0, index))
        self.faults[what] = [count + 1, first]

    def add(self, other: "Report") -> None:
        """Add the counts of another part of the same run."""
        for name in ("inputs", "checked", "passed", "used", "refused"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for what, (count, first) in other.faults.items():
            have = self.faults.get(what, (0, first))
            self.faults[what] = [have[0] + count, min(have[1], first)]
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)

    def __str__(self) -> str:
        share = 100 * self.passed / max(1, self.checked)
        lines = [
            f"{self.kind}: {self.inputs} inputs, {share:.1f} % passed the first check, {self.used} used, "
            f"{self.refused} refused, {sum(count for count, _ in self.faults.values())} faults, "
            f"peak {self.peak_bytes / 1e6:.0f} MB, {self.seconds:.0f} s"
        ]
        lines += [f"  {count} x {what}, first: --only {first}" for what, (count, first) in sorted(self.faults.items())]
        return "\n".join(lines)


def load_fuzzer(kind: str, folder: Path) -> Fuzzer:
    """The fuzzer ``tests/fuzz/KIND.py``."""
    fuzzer: Fuzzer = importlib.import_module(f"tests.fuzz.{kind}").Inputs(folder)
    return fuzzer


def make_input(fuzzer: Fuzzer, seed: int, index: int) -> Any:
    """Input number ``index`` of a run."""
    return fuzzer.make(random.Random(f"{seed}-{index}"))


def run_here(kind: str, count: int, seed: int = 0) -> Report:
    """Run in this process, without limits: for a few inputs."""
    report, began = Report(kind), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = load_fuzzer(kind, Path(folder))
        for index in range(count):
            _step(fuzzer, seed, index, report)
    report.seconds = time.monotonic() - began
    return report


def run_isolated(kind: str, count: int, seed: int = 0, start: int = 0) -> Report:
    """Run in a process with limits on memory and time. It is started again after an input that ends it."""
    report, began, stop = Report(kind), time.monotonic(), start + count
    while start < stop:
        with tempfile.TemporaryDirectory() as folder:
            start = _run_child(kind, seed, start, stop, Path(folder), report)
    report.seconds = time.monotonic() - began
    return report


def _step(fuzzer: Fuzzer, seed: int, index: int, report: Report, every: int = 1) -> None:
    made = make_input(fuzzer, seed, index)
    report.inputs += 1
    if index % every == 0:
        report.checked += 1
        report.passed += fuzzer.passes(made)
    try:
        fuzzer.use(made)
        report.used += 1
    except BaseException as error:  # panics of libraries in Rust are not an Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        if _out_of_memory(error):
            report.fault(f"out of memory: {_where(error)}", index)
        elif isinstance(error, SpeechtokError):
            report.refused += 1
        else:
            report.fault(f"foreign {type(error).__name__}: {str(error)[:100]!r} {_where(error)}", index)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _out_of_memory(error: BaseException) -> bool:
    return any(
        isinstance(one, MemoryError) or any(text in str(one) for text in _OUT_OF_MEMORY) for one in _chain(error)
    )


def _where(error: BaseException) -> str:
    """The last line of ours that the exception passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{_ROOT}/" in frame.filename and ".venv" not in frame.filename] or frames
    return f"at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def _run_child(kind: str, seed: int, start: int, stop: int, folder: Path, report: Report) -> int:
    """Run inputs from ``start`` on in a process. Returns the number of the next input."""
    progress, output = folder / "progress", folder / "report.jsonl"
    progress.write_bytes(_PROGRESS.pack(start))
    command = [sys.executable, "-m", "tests.fuzz.child", kind, str(seed), str(start), str(stop), str(folder)]
    child = subprocess.Popen(command, cwd=_ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    index, cpu, awake, hung = -1, 0.0, time.monotonic(), False
    with open(progress, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        while child.poll() is None:
            time.sleep(0.1)
            current = _PROGRESS.unpack_from(memory)[0]
            now, waits = _activity(child.pid)
            if current != index or not waits:
                awake = time.monotonic()
            if current != index:
                index, cpu = current, now
            blocked = time.monotonic() - awake > MAX_BLOCKED_SECONDS
            if current >= 0 and (now - cpu > MAX_SECONDS or blocked):
                hung = True
                child.send_signal(signal.SIGABRT)  # faulthandler prints where
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(5)
                child.kill()
                child.wait()
        last = _PROGRESS.unpack_from(memory)[0]
    done = json.loads(output.read_text().splitlines()[-1]) if output.exists() else None
    if done is not None:
        report.add(Report(**done))
    if child.returncode == 0:
        return stop
    assert last >= 0 or done is not None, f"the process of {kind} ended with {child.returncode} before its first input"
    report.fault("hang" if hung else f"crash, status {child.returncode}", last)
    report.inputs += 1
    return last + 1


def _activity(pid: int) -> tuple[float, bool]:
    """Processor time of a process in seconds, and whether it waits for something other than a processor."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, False
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), fields[0] in "SD"


def run_child(kind: str, seed: int, start: int, stop: int, folder: Path) -> None:
    """The other side of :func:`run_isolated`. Reports every 100 inputs, so that a crash loses few counts."""
    (folder / "files").mkdir()
    with open(folder / "progress", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        _PROGRESS.pack_into(memory, 0, -1)
        fuzzer = load_fuzzer(kind, folder / "files")
        fuzzer.passes(make_input(fuzzer, seed, start))  # late imports do not count as memory of an input
        _try(fuzzer, make_input(fuzzer, seed, start))
        status = _status()
        resource.setrlimit(resource.RLIMIT_AS, (status["VmSize"] + MAX_BYTES,) * 2)
        report = Report(kind)
        for index in range(start, stop):
            _PROGRESS.pack_into(memory, 0, index)
            _step(fuzzer, seed, index, report, every=10)
            if (index + 1) % 100 == 0 or index + 1 == stop or report.faults:
                report.peak_bytes = max(0, _status()["VmHWM"] - status["VmRSS"])
                with open(folder / "report.jsonl", "a") as output:
                    output.write(json.dumps(asdict(report)) + "\n")


def _try(fuzzer: Fuzzer, made: Any) -> None:
    with contextlib.suppress(Exception):
        fuzzer.use(made)


def _status() -> dict[str, int]:
    """Sizes of this process in bytes."""
    sizes: dict[str, int] = collections.defaultdict(int)
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            sizes[name] = 1024 * int(value.split()[0])
    return sizes
