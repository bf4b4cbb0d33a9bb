"""Fuzzer of saved vocabularies: the plain values of :meth:`speechtok.AudioVocabulary.to_dict`, and their use."""

import contextlib
import random
from collections.abc import Mapping
from typing import Any

import torch

from speechtok import AudioVocabulary
from speechtok.errors import InputError
from tests.fuzz.mutate import hostile_value, mutate_plain
from tests.fuzz.runner import Fuzzer, Report, run_here


class Inputs(Fuzzer):
    """Plain values."""

    def make(self, rng: random.Random) -> Any:
        values = _valid(rng)
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            values = _mutate(rng, values)
        if rng.random() < 0.02:
            return hostile_value(rng)
        return values

    def passes(self, made: Any) -> bool:
        return isinstance(made, Mapping) and {"pattern", "num_codebooks", "offset", "tokenizer"} <= made.keys()

    def use(self, made: Any) -> None:
        vocabulary = AudioVocabulary.from_dict(made)
        assert AudioVocabulary.from_dict(vocabulary.to_dict()) == vocabulary
        repr(vocabulary)
        books = vocabulary.num_codebooks
        codes = torch.arange(books * 3).reshape(1, books, 3) % vocabulary.codebook_size
        ids = vocabulary.to_ids(codes)
        assert torch.equal(vocabulary.to_codes(ids).codes, codes)
        vocabulary.to_codes(ids.flip(1), strict=False)
        vocabulary.continuations(ids[0, :2])
        parser = vocabulary.parser()
        for step in (ids[0, 1:4] - vocabulary.first_code).tolist():
            with contextlib.suppress(InputError):  # padding of delayed codebooks is no step of codes
                parser.feed(step if vocabulary.is_grid else [step])
        try:
            if vocabulary.size < 50_000:  # names of a million tokens are right, and take long
                assert len(vocabulary.tokens) == vocabulary.size
            vocabulary.spans(ids[0])
        except InputError:
            assert vocabulary.is_grid


def _valid(rng: random.Random) -> dict[str, Any]:
    books = rng.choice([1, 2, 4, 8, 8, 32])
    pattern = rng.choice(["flatten", "semantic", "coarse_first", "delay", "parallel"])
    values: dict[str, Any] = {"name": pattern}
    if pattern in ("delay", "parallel"):
        values["delays"] = rng.choice([None, list(range(books)), [0] + [rng.randrange(9) for _ in range(books - 1)]])
    if pattern == "semantic":
        values["longest_run"] = rng.choice([1, 4, 100])
    return {
        "pattern": values,
        "num_codebooks": 1
        if pattern == "semantic"
        else rng.randrange(1, books + 1)
        if "delays" not in values
        else books,
        "offset": 0 if pattern == "parallel" else rng.choice([0, 0, 100, 150_000]),
        "tokenizer": {
            "sample_rate": rng.choice([16_000, 24_000, 44_100]),
            "hop_length": rng.choice([320, 512, 1920]),
            "codebook_size": rng.choice([2, 32, 1024]),
            "num_codebooks": books,
            "fingerprint": f"{rng.getrandbits(64):016x}",
            "aliases": rng.choice([[], ["18d457da55bebdd2"]]),
        },
    }


def _mutate(rng: random.Random, values: dict[str, Any]) -> dict[str, Any]:
    action = rng.random()
    if action < 0.3:
        return {**values, "tokenizer": mutate_plain(rng, values["tokenizer"])}
    if action < 0.6:
        return {**values, "pattern": mutate_plain(rng, values["pattern"])}
    if action < 0.8:
        name = rng.choice(["num_codebooks", "offset"])
        return {**values, name: rng.choice([1, 9, 2**16, 2**40, hostile_value(rng)])}
    if action < 0.9:
        sizes = {"num_codebooks": rng.choice([8, 8, 32, 1024]), "codebook_size": rng.choice([1024, 8192, 32_768])}
        tokenizer = values["tokenizer"]
        if isinstance(tokenizer, dict):
            return {**values, "tokenizer": {**tokenizer, **sizes}, "num_codebooks": sizes["num_codebooks"]}
    doubled: Any = [hostile_value(rng)]
    for _ in range(rng.choice([2, 5, 100])):
        doubled = [doubled, doubled]
    pattern = values["pattern"] if isinstance(values["pattern"], dict) else {}
    return {**values, "pattern": {**pattern, rng.choice(["delays", "x", "name"]): doubled}}


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("vocabularies", count, seed)
