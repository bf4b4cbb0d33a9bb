"""Fuzzer of manifests: lines of JSON whose fields are not what they should be, and bytes that are no text."""

import json
import random
from typing import Any

import numpy as np

from tests.fuzz.mutate import hostile_value, mutate_bytes, mutate_plain
from tests.fuzz.runner import Fuzzer, Report, run_here
from training.manifest import find_utterances, phones_at, read_manifest


class Inputs(Fuzzer):
    """Bytes of files."""

    def make(self, rng: random.Random) -> bytes:
        lines = [_line(rng) for _ in range(rng.choice([1, 1, 2, 5]))]
        if rng.random() < 0.8:
            at = rng.randrange(len(lines))
            lines[at] = mutate_plain(rng, lines[at], rng.choice([1, 1, 2]))
        ending = rng.choice(["\n", "\n", "\r\n", "\n\n", "\u2028"])
        text = ending.join(json.dumps(line, ensure_ascii=rng.random() < 0.7) for line in lines)
        data = rng.choice([b"", b"", b"", b"\xef\xbb\xbf"]) + text.encode("utf-8", "surrogatepass")
        return mutate_bytes(rng, data) if rng.random() < 0.2 else data

    def passes(self, made: bytes) -> bool:
        try:
            return all(
                isinstance(json.loads(line), dict) for line in made.decode("utf-8-sig").split("\n") if line.strip()
            )
        except (ValueError, RecursionError):
            return False

    def use(self, made: bytes) -> None:
        path = self.folder / "train.jsonl"
        path.write_bytes(made)
        utterances = read_manifest(path)
        for utterance in utterances:
            utterance.audio.is_absolute()
            hash(utterance)
            phones_at(utterance.phones, np.arange(3) / 50, ["AH", "SIL"])
            repr(utterance).encode()
        if utterances:
            train, dev = find_utterances(path)
            assert len(train) + len(dev) >= len(utterances)


def _line(rng: random.Random) -> dict[str, Any]:
    line: dict[str, Any] = {"audio": rng.choice(["a.wav", "sub/b.flac", "/tmp/c.wav", "é.wav"])}
    for name, value in (
        ("id", rng.choice(["a", 7])),
        ("seconds", rng.choice([1, 2.5, 0])),
        ("text", "good morning\u2028é"),
        ("speaker", rng.choice(["s1", 12])),
        ("lang", "en"),
        ("phones", [["SIL", 0, 0.12], ["AH", 0.12, 0.2], ["+NOISE+", 0.2, 1]]),
        ("x", hostile_value(rng)),
    ):
        if rng.random() < (0.03 if name == "x" else 0.5):
            line[name] = value
    return line


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("manifests", count, seed)
