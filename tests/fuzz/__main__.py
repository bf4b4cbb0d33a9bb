"""Long runs: ``python -m tests.fuzz KIND --count N --seed S --jobs J``."""

import argparse
import concurrent.futures
import itertools
import sys
import tempfile
from pathlib import Path

from speechtok.errors import SpeechtokError
from tests.fuzz.runner import Report, load_fuzzer, make_input, run_isolated

KINDS = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem not in ("runner", "child") and not path.stem.startswith(("_", "test_", "mutate"))
)


def main() -> int:
    """Run one fuzzer; the exit status is 1 if an input did what it must not."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=1000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", type=int, help="run this input alone, in this process, and show its traceback")
    arguments = parser.parse_args()
    if arguments.only is not None:
        return run_one(arguments.kind, arguments.seed, arguments.only)
    bounds = [arguments.count * job // arguments.jobs for job in range(arguments.jobs + 1)]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        parts = [
            pool.submit(run_isolated, arguments.kind, stop - start, arguments.seed, start)
            for start, stop in itertools.pairwise(bounds)
        ]
    report = Report(arguments.kind)
    for part in parts:
        report.add(part.result())
        report.seconds = max(report.seconds, part.result().seconds)
    print(report)
    return int(bool(report.faults))


def run_one(kind: str, seed: int, index: int) -> int:
    """Run one input and show what it is and what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = load_fuzzer(kind, Path(folder))
        made = make_input(fuzzer, seed, index)
        print(f"input: {made!r:.2000}\npasses the first check: {fuzzer.passes(made)}")
        try:
            fuzzer.use(made)
            print("used")
        except SpeechtokError as error:
            print(f"refused: {type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
