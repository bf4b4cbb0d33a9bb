"""The plan of a build: which utterances become which part of which shard. It is written before anything is encoded.

A plan depends on the sources and the seed, and not on the workers. Utterances wait in a file while the plan is made, so
that memory holds some numbers of each.
"""

import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechtok.corpus.item import Item
from speechtok.corpus.settings import Layout
from speechtok.files import replacing

MAX_ITEMS, MAX_SECONDS = 128, 600.0
"""Bounds of a part. A part that is interrupted is lost."""

_MAX_SEGMENTS = 4_096
"""Utterances of one recording in a part: it is decoded once for all of them."""

_UNKNOWN_SECONDS = 10.0


@dataclass(frozen=True)
class Part:
    """A line of a plan.

    Attributes:
        shard: index of the shard.
        part: index of the part in the shard.
        seconds: expected duration.
        items: the utterances.
    """

    shard: int
    part: int
    seconds: float
    items: tuple[Item, ...]


@dataclass
class Overview:
    """Sums over a plan.

    Attributes:
        parts: number of parts of each shard.
        seconds: expected duration.
        items: number of utterances.
    """

    parts: dict[int, int]
    seconds: float = 0.0
    items: int = 0


def read_plans(layout: Layout) -> Iterator[Part]:
    """All parts of all plans, in order."""
    number = 0
    while (path := layout.plan(number)).is_file():
        with open(path, "rb") as file:
            for line in file:
                values = json.loads(line)
                items = tuple(Item.from_dict(one) for one in values["items"])
                yield Part(values["shard"], values["part"], values["seconds"], items)
        number += 1


def survey(layout: Layout) -> Overview:
    """Sums over all plans."""
    overview = Overview({})
    for part in read_plans(layout):
        overview.parts[part.shard] = overview.parts.get(part.shard, 0) + 1
        overview.seconds += part.seconds
        overview.items += len(part.items)
    return overview


def extend_plan(layout: Layout, items: Iterable[Item], shard_hours: float, seed: int | None) -> int:
    """Plan the utterances that no plan has yet, as further shards. Returns their number.

    An utterance whose id is that of an earlier one of the same sources is planned as a fault.
    """
    number = 0
    while layout.plan(number).is_file():
        number += 1
    known: set[bytes] = set()
    first_shard = 0
    if number:
        for part in read_plans(layout):
            first_shard = max(first_shard, part.shard + 1)
            known.update(_hash(item.id) for item in part.items)
    with tempfile.TemporaryFile(dir=layout.build) as spool:
        starts, files, seconds = array("q"), array("Q"), array("f")
        seen: set[bytes] = set()
        for item in items:
            key = _hash(item.id)
            if key in known:
                continue
            if key in seen:
                item = Item(item.id, item.audio, item.start, fault=("duplicate_id", "its id is that of an earlier one"))
            seen.add(key)
            starts.append(spool.tell())
            files.append(int.from_bytes(_hash(f"{seed}\n{item.audio}")[:8], "little"))
            seconds.append(item.seconds or item.hint or _UNKNOWN_SECONDS)
            spool.write(json.dumps(item.to_dict()).encode() + b"\n")
        if not starts:
            return 0
        order = np.arange(len(starts)) if seed is None else np.argsort(np.asarray(files), kind="stable")
        with replacing(layout.plan(number)) as file:
            for part in _parts(_read(spool, starts, order), np.asarray(seconds)[order], first_shard, shard_hours):
                values: dict[str, Any] = {"shard": part.shard, "part": part.part, "seconds": round(part.seconds, 3)}
                file.write(json.dumps({**values, "items": [item.to_dict() for item in part.items]}).encode() + b"\n")
    return len(starts)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _read(spool: Any, starts: "array[int]", order: np.ndarray) -> Iterator[Item]:
    for index in order:
        spool.seek(starts[int(index)])
        yield Item.from_dict(json.loads(spool.readline()))


def _parts(items: Iterator[Item], seconds: np.ndarray, shard: int, shard_hours: float) -> Iterator[Part]:
    part, in_shard = 0, 0.0
    mine: list[Item] = []
    total = 0.0
    for item, duration in zip(items, seconds.tolist(), strict=True):
        same = bool(mine) and item.start is not None and mine[-1].audio == item.audio and len(mine) < _MAX_SEGMENTS
        if mine and not same and (len(mine) >= MAX_ITEMS or total + duration > MAX_SECONDS):
            yield Part(shard, part, total, tuple(mine))
            part, in_shard = part + 1, in_shard + total
            mine, total = [], 0.0
            if in_shard >= shard_hours * 3600:
                shard, part, in_shard = shard + 1, 0, 0.0
        mine.append(item)
        total += duration
    if mine:
        yield Part(shard, part, total, tuple(mine))
