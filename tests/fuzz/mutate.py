"""Mutations that the fuzzers share: bytes, plain values, and values that have broken readers before."""

import random
from typing import Any


def hostile_value(rng: random.Random) -> Any:
    """A plain value that JSON can hold and that readers may not expect."""
    return rng.choice(_VALUES)(rng)


_VALUES = (
    lambda rng: None,
    lambda rng: rng.choice([True, False]),
    lambda rng: rng.choice([0, 1, -1, 2, 3, 7, 255, 2**15, 2**16, 2**20, 10**6, 10**9]),
    lambda rng: rng.choice([2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400]),
    lambda rng: rng.choice([0.0, -0.0, 0.5, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"), 3.0]),
    lambda rng: rng.choice(["", "x", "None", "\x00", "\x1b[2J", "\ud800", "é" * 50, "a" * 5000, "../..", "1e400"]),
    lambda rng: [],
    lambda rng: {},
    lambda rng: [rng.choice([0, 1, -1, 2**40, "x", None, 1.5]) for _ in range(rng.randrange(1, 6))],
    lambda rng: {rng.choice(["", "a", "name", "family"]): rng.choice([0, "x", None, [], {}])},
    lambda rng: _nested(rng.choice([3, 30, 150])),
    lambda rng: rng.randrange(-3, 2000),
)


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def mutate_plain(rng: random.Random, value: Any, times: int = 1) -> Any:
    """A copy of plain values in which fields are replaced, dropped, doubled, added or moved."""
    for _ in range(times):
        value = _mutate_once(rng, value)
    return value


def _mutate_once(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value:
        changed = dict(value)
        name = rng.choice(list(changed))
        action = rng.random()
        if action < 0.55:
            changed[name] = _mutate_once(rng, changed[name])
        elif action < 0.75:
            changed[name] = hostile_value(rng)
        elif action < 0.85:
            del changed[name]
        elif action < 0.92:
            changed[name] = changed[rng.choice(list(changed))]
        else:
            changed[rng.choice(["x", "", "\x1b[31m", name + "s", "a" * 300])] = hostile_value(rng)
        return changed
    if isinstance(value, list) and value:
        changed = list(value)
        at = rng.randrange(len(changed))
        action = rng.random()
        if action < 0.6:
            changed[at] = _mutate_once(rng, changed[at])
        elif action < 0.75:
            del changed[at]
        elif action < 0.9:
            changed.insert(at, hostile_value(rng))
        else:
            changed *= rng.choice([0, 2, 50])
        return changed
    if type(value) is int and rng.random() < 0.5:
        return rng.choice([value + 1, value - 1, value * 2, -value, value // 2, value * 10**6, value + 2**32])
    return hostile_value(rng)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bytes that are flipped, cut, doubled, inserted or overwritten."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(changed) + 1)
        action = rng.random()
        if action < 0.4 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif action < 0.55:
            changed[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
        elif action < 0.65:
            del changed[at:]
        elif action < 0.75:
            del changed[at : at + rng.randrange(1, 64)]
        elif action < 0.85:
            changed[at:at] = changed[at : at + rng.randrange(1, 64)]
        else:
            changed[at:at] = rng.choice(_BYTES)
    return bytes(changed)


_BYTES = (
    b"\x00",
    b"\xff\xff\xff\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"[" * 3000,
    b'{"a":' * 1500,
    b"9" * 5000,
    b"\x1b[2J",
    b"\n",
    b"NaN",
    b"1e999",
    b"&a [*a]",
    b"\xe2\x80\xa8",
)
