"""Builds that are killed again and again: ``python -m tests.corpus.kills --engine ray --kills 10``.

A folder of clips is built once without interruption. Then the same build is started, and at random times its driver or
one of its workers gets SIGKILL; a killed driver is started again. With the engine ray, a cluster of two nodes (two
raylets) runs on this machine. In the end, both corpora must be equal, row for row and byte for byte.
"""

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[2]
DAMAGED_EVERY = 100
NODE_CORES = 1
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # of this cluster alone
}


def make_clips(folder: Path, count: int, seconds: float = 2.0) -> None:
    """Write clips, every 100th of them cut off."""
    speech, rate = soundfile.read(ROOT / "speechtok" / "assets" / "sample.flac", dtype="float32")
    speech = np.tile(speech, 2 + int(seconds * rate) // len(speech))
    for index in range(count):
        start = index * 7919 % (len(speech) // 2)
        path = folder / f"{index:05}.wav"
        soundfile.write(path, speech[start : start + int(seconds * rate)] * (0.3 + 0.7 * index / count), rate)
        if index % DAMAGED_EVERY == DAMAGED_EVERY - 1:
            path.write_bytes(path.read_bytes()[:-1_000])


def start_build(source: Path, out: Path, options: list[str], log: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "speechtok", "corpus", "build", str(source), "-o", str(out), *options]
    with open(log, "ab") as file:
        return subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, env=ENVIRONMENT)


def descendants(pid: int) -> list[int]:
    """Processes below ``pid``."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def workers(driver: int, raylets: list[int]) -> list[int]:
    """Worker processes of a build: children of the driver, or actors below the raylets."""
    if not raylets:
        return descendants(driver)
    found = []
    for pid in [one for raylet in raylets for one in descendants(raylet)]:
        try:
            if b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def start_cluster(folder: Path) -> tuple[str, list[int]]:
    """Two nodes on this machine. Returns the address, and the processes of their raylets."""
    before = set(_raylets())
    ray = str(Path(sys.executable).with_name("ray"))
    port = 20_000 + os.getpid() % 10_000
    address = f"127.0.0.1:{port}"
    common = ["--num-cpus", str(NODE_CORES), "--object-store-memory", "200000000", "--disable-usage-stats"]
    head = [ray, "start", "--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(folder)]
    for words in ([*head, *common], [ray, "start", "--address", address, *common]):
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return address, sorted(set(_raylets()) - before)


def _raylets() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "raylet":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def stop_cluster(raylets: list[int], folder: Path) -> None:
    """End the processes of the cluster that belong to ``folder``, and no others."""
    for entry in Path("/proc").iterdir():
        try:
            mine = entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes()
            if mine or entry.name in map(str, raylets):
                os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue


def kill_and_compare(engine: str, kills: int, clips: int, seed: int, log: Path) -> dict[str, int]:
    """Run both builds. Returns how many kills hit the driver and the workers.

    Raises:
        AssertionError: the corpora differ.
    """
    rng = random.Random(seed)
    counts = {"driver": 0, "worker": 0}
    root = Path(tempfile.mkdtemp(prefix="kills", dir=os.environ.get("TMPDIR")))
    cluster = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    raylets: list[int] = []
    try:
        source = root / "clips"
        source.mkdir()
        make_clips(source, clips)
        options = ["--shard-hours", str(clips * 2 / 3600 / 6), "--seed", "1"]
        assert start_build(source, root / "whole", [*options, "-j", "2"], log).wait() == 0
        if engine == "ray":
            address, raylets = start_cluster(cluster)
            options += ["--engine", "ray", "--ray-address", address]
        else:
            options += ["-j", "2"]
        driver = start_build(source, root / "killed", options, log)
        while True:
            # the time counts from when the build has workers: what is killed before loses nothing
            deadline, delay = None, rng.uniform(0, 8)
            while driver.poll() is None and (deadline is None or time.monotonic() < deadline):
                if deadline is None and workers(driver.pid, raylets):
                    deadline = time.monotonic() + delay
                time.sleep(0.1)
            if driver.poll() is not None:
                if driver.returncode == 0:
                    break
                assert driver.returncode == -signal.SIGKILL, f"the build ended with {driver.returncode}; see {log}"
            elif sum(counts.values()) < kills:
                found = workers(driver.pid, raylets)
                kind = rng.choice(["driver", "worker"]) if found else "driver"
                if kind == "worker":
                    os.kill(rng.choice(found), signal.SIGKILL)
                else:
                    driver.kill()
                    driver.wait()
                counts[kind] += 1
            if driver.poll() == -signal.SIGKILL:
                driver = start_build(source, root / "killed", options, log)
        compare(root / "whole", root / "killed", clips)
        return counts
    finally:
        stop_cluster(raylets, cluster)
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(cluster, ignore_errors=True)


def compare(whole: Path, killed: Path, clips: int) -> None:
    """Check that both corpora hold the same, and each clip once."""
    import pyarrow.parquet as pq

    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest == json.loads((killed / "manifest.json").read_text())
    assert manifest["utterances"] + manifest["quarantined"]["total"] == manifest["planned"] == clips
    assert manifest["quarantined"]["truncated"] == manifest["quarantined"]["total"] == clips // DAMAGED_EVERY
    ids: list[str] = []
    for folder in ("data", "quarantine"):
        names = sorted(file.name for file in (whole / folder).iterdir())
        assert names == sorted(file.name for file in (killed / folder).iterdir())
        for name in names:
            one, other = pq.read_table(whole / folder / name), pq.read_table(killed / folder / name)
            assert one.equals(other, check_metadata=True), f"{folder}/{name} differs"
            assert (whole / folder / name).read_bytes() == (killed / folder / name).read_bytes()
            ids += one.column("id").to_pylist()
    assert len(set(ids)) == len(ids) == clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--clips", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("kills.log"))
    args = parser.parse_args()
    start = time.monotonic()
    counts = kill_and_compare(args.engine, args.kills, args.clips, args.seed, args.log)
    print(
        f"engine {args.engine}: {args.clips} clips, SIGKILL {counts['driver']} times to the driver and "
        f"{counts['worker']} times to a worker; equal to an uninterrupted build ({time.monotonic() - start:.0f} s)"
    )


if __name__ == "__main__":
    main()
