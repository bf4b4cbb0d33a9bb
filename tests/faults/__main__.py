"""Long runs: ``python -m tests.faults SCENARIO --faults KINDS --trials N --files F --seed S``."""

import argparse
import sys

from tests.faults.runner import FAILING_DISK, FULL_DISK, KILLS, VANISHING, Plan, run

KINDS = {"kill": KILLS, FULL_DISK: (FULL_DISK,), FAILING_DISK: (FAILING_DISK,), VANISHING: (VANISHING,)}


def main() -> int:
    """Run the trials; the exit status is 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("scenario", choices=["encode", "export", "loop", "training"])
    parser.add_argument("--faults", default="kill,full-disk,failing-disk", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--files", type=int, default=10, help="number of input files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-a-row", action="store_true", help="each trial continues where the one before was ended")
    arguments = parser.parse_args()
    plan = Plan(
        arguments.scenario,
        tuple(action for kind in arguments.faults.split(",") for action in KINDS[kind]),
        arguments.trials,
        arguments.files,
        arguments.seed,
        arguments.in_a_row,
    )
    (outcome,) = run(plan)
    print(outcome)
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
