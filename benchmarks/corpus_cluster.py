"""How much of a cluster's cores the engine ``ray`` of ``speechtok corpus build`` keeps busy, in a simulation.

``python -m benchmarks.corpus_cluster`` starts Ray on this machine and tells it that there are many cores. The engine
schedules parts as in a build, but its actors sleep for as long as encoding would take. The table says what the
scheduling costs; it says nothing of disks and networks.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import speechtok
from benchmarks.arguments import integer_from, one_line_errors, positive
from speechtok.corpus.encoding import PartEncoder, Task
from speechtok.corpus.engines.ray_data import RayEngine
from speechtok.corpus.settings import Settings
from speechtok.parquet import CodesFormat

PART_SECONDS = 600.0
"""Audio of a part."""


class Sleeper:
    """Takes as long for a part as an actor that encodes, and no processor."""

    speed = 1.0

    def __init__(self, *ignored: Any) -> None: ...

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """See the actor of the engine."""
        names, results = [], []
        for text in batch["task"]:
            task = Task(**json.loads(str(text)))
            time.sleep(float(task.items))
            names.append(f"{task.shard}/{task.part}/{task.index}")
            results.append(json.dumps({"rows": 1, "seconds": task.seconds, "faults": {}}))
        return {"name": names, "done": results}


class Simulation(RayEngine):
    """The engine with actors that sleep."""

    actor = Sleeper


def simulate(cores: int, parts: int, seconds: float) -> tuple[float, float]:
    """Run parts that take ``seconds`` each.

    Returns:
        Seconds until the first part was done, and from its begin to the end of the last one.
    """
    import ray

    ray.init(num_cpus=cores, log_to_driver=False, include_dashboard=False, configure_logging=False)
    with TemporaryDirectory() as folder:
        tok = speechtok.load()
        codes = CodesFormat(tok.sample_rate, tok.hop_length, tok.codebook_size, tok.num_codebooks, tok.fingerprint)
        engine = Simulation(PartEncoder(tok, Settings(codes), Path(folder)))
        tasks = (Task(0, part, str(seconds), seconds=PART_SECONDS) for part in range(parts))
        start = time.perf_counter()
        times = [time.perf_counter() - start for _ in engine.run(tasks)]
        engine.close()
    ray.shutdown()
    return times[0], times[-1] - times[0] + seconds


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus_cluster", description=__doc__)
    parser.add_argument(
        "--cores", type=integer_from(1), action="append", help="simulated cores, repeatable (default: 8, 32)"
    )
    parser.add_argument("--speed", type=positive, default=359.0, help="audio a second of one core (default: 359)")
    parser.add_argument("--rounds", type=integer_from(2), default=30, help="parts of each core (default: 30)")
    arguments = parser.parse_args(argv)
    seconds = PART_SECONDS / arguments.speed
    print("| simulated cores | parts | first part after, s | share of the cores' time |\n|---|---|---|---|")
    for cores in arguments.cores or (8, 32):
        parts = arguments.rounds * cores
        first, rest = simulate(cores, parts, seconds)
        print(f"| {cores} | {parts} | {first:.1f} | {parts * seconds / cores / rest:.0%} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
