"""Trials of scenarios: ``python -m tests.faults.trials PLANS``, with the library of faults loaded.

Each run is a process of its own, forked from this one, in which everything is imported.
"""

import ctypes
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from speechtok.errors import SpeechtokError
from tests.faults.runner import KILLS, VANISHING, Outcome, Plan
from tests.faults.scenarios import SCENARIOS, Scenario, restore

MAX_SECONDS = 600
"""Time after which a run hangs."""


@dataclass(frozen=True)
class Ending:
    """How a run ended: its exit status, negative for a signal; the calls that it made; what it printed."""

    status: int
    calls: int
    printed: str


def run_forked(scenario: Scenario, log: Path, settings: dict[str, str], vanish: random.Random | None = None) -> Ending:
    """Run a scenario in a process of its own, with a fault."""
    counter = log.with_name("counter")
    counter.write_bytes(bytes(8))
    sys.stdout.flush()
    process = os.fork()
    if not process:
        status = 70
        try:
            os.setsid()
            with open(log, "wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.environ.update(settings, FAULT_COUNTER=str(counter))
            ctypes.CDLL(None).fault_arm()
            status = _run(scenario)
        finally:
            os._exit(status)
    if vanish is not None:
        _remove_inputs(scenario, vanish)
    status = _wait(process)
    calls = int.from_bytes(counter.read_bytes(), sys.byteorder)
    return Ending(status, calls, log.read_text(errors="replace"))


def _run(scenario: Scenario) -> int:
    try:
        return scenario.run()
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit as error:
        return int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _wait(process: int) -> int:
    """Wait for a process, and for the workers of its group if it was killed."""
    end = time.monotonic() + MAX_SECONDS
    while time.monotonic() < end:
        finished, status = os.waitpid(process, os.WNOHANG)
        if finished:
            while time.monotonic() < end:
                try:
                    os.killpg(process, 0)
                except (ProcessLookupError, PermissionError):
                    break
                time.sleep(0.01)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return 71


def _remove_inputs(scenario: Scenario, rng: random.Random) -> None:
    """Remove half of the inputs while they are read."""
    inputs = sorted((scenario.folder / "in").iterdir())
    for path in rng.sample(inputs, len(inputs) // 2):
        path.unlink()
        if rng.random() < 0.1:
            time.sleep(0.01)


def orphans(scenario: Scenario) -> list[str]:
    """Temporary files that are left."""
    return [f"{path.relative_to(scenario.folder)} is left" for path in scenario.folder.rglob(".speechtok-*.tmp")]


def run_trials(plan: Plan, folder: Path) -> Outcome:
    """Run a scenario without faults, then with faults, then without faults again, and compare the files."""
    rng, counts, faults = random.Random(plan.seed), Counter[str](), []
    scenario, log, before = SCENARIOS[plan.scenario](folder, plan.files), folder / "log", folder / "before"
    scenario.prepare()
    shutil.copytree(scenario.out, before)
    clean = {"FAULT_FOLDER": str(scenario.out), "FAULT_ACTION": "none", "FAULT_CALL": "0"}
    ending = run_forked(scenario, log, clean)
    if ending.status:
        faults.append(f"without a fault, the run ends with {ending.status}: {ending.printed[-2000:]}")
        return Outcome(0, ending.calls, 0, 0, 0, faults)
    all_calls = ending.calls
    scenario.remember()
    restore(scenario, before)

    def complete(what: str) -> None:
        ending = run_forked(scenario, log, clean)
        found = scenario.check(complete=True) + orphans(scenario)
        if ending.status:
            found.append(f"it ends with {ending.status}: {ending.printed[-500:]}")
        faults.extend(f"the run after {what}: {fault}" for fault in found[:5])
        restore(scenario, before)

    for _ in range(plan.trials):
        action = rng.choice(plan.actions)
        # a run that continues has fewer calls left: spread the faults over all of them
        last = all_calls // plan.trials if plan.in_a_row else all_calls
        call, length = rng.randint(1, max(1, last)), rng.choice([1, 3, 40])
        what = f"{action} at call {call}"
        settings = clean | {"FAULT_ACTION": action, "FAULT_CALL": str(call), "FAULT_LENGTH": str(length)}
        saved = None
        if action == VANISHING:
            saved = folder / "saved"
            shutil.copytree(folder / "in", saved)
        ending = run_forked(scenario, log, settings, rng if saved else None)
        if saved:
            shutil.rmtree(folder / "in")
            saved.rename(folder / "in")
        counts[{-signal.SIGKILL: "killed", 1: "reported", 0: "completed"}.get(ending.status, "other")] += 1
        found = scenario.check(complete=False)
        if action not in KILLS:
            found += orphans(scenario)
        if ending.status not in ((0, -signal.SIGKILL) if action in KILLS else (0, 1)):
            found.append(f"it ends with {ending.status}: {ending.printed[-2000:]}")
        if "Traceback" in ending.printed and "Exception in thread" not in ending.printed:
            found.append(f"a foreign exception: {ending.printed[-2000:]}")
        if ending.status == 1 and "error" not in ending.printed:
            found.append(f"no word about the error: {ending.printed[-500:]}")
        faults.extend(f"{what}: {fault}" for fault in found[:5])
        print(f"{plan.scenario}: {what}: status {ending.status}, {len(found)} faults", file=sys.stderr, flush=True)
        if not plan.in_a_row:
            complete(what)
    if plan.in_a_row:
        complete("the last fault")
    return Outcome(plan.trials, all_calls, counts["killed"], counts["reported"], counts["completed"], faults)


def main() -> None:
    """Run the trials that the command line describes, and print the outcomes as JSON."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    outcomes = []
    for values in json.loads(sys.argv[1]):
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(asdict(run_trials(Plan(**values), Path(folder).resolve())))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
