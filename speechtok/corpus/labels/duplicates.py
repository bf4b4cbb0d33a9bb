"""Duplicates, by a fingerprint of what is said: MinHash of the n-grams of codebook 0."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from speechtok.corpus.labels.label import Clip, CorpusLabel, Label

HASHES = 32
"""Hashes of an utterance."""
BANDS = 8
"""Utterances with one band of hashes in common are compared."""
NGRAM = 4
"""Codes of an n-gram. Runs of one code count once, so that pauses do not make utterances alike."""
SAME = 0.7
"""Share of equal hashes from which an utterance is a duplicate: it estimates the share of common n-grams."""

_rng = np.random.default_rng(20_240_601)
_FACTORS = _rng.integers(1, 2**61 - 1, HASHES, dtype=np.uint64) | np.uint64(1)
_SHIFTS = _rng.integers(0, 2**61 - 1, HASHES, dtype=np.uint64)


class MinHash(Label):
    """``minhash``: 32 hashes of the n-grams of codebook 0; ``None`` where it is too short or does not change."""

    columns: ClassVar[Mapping[str, str]] = {"minhash": "list<uint32>"}

    def __call__(self, clip: Clip) -> Mapping[str, Any]:
        """See :class:`Label`."""
        hashes = minhash(clip.codes[0])
        return {} if hashes is None else {"minhash": hashes.tolist()}


class Duplicates(CorpusLabel):
    """``duplicate_of``: id of the first utterance that says the same in the same way; ``None`` for all others."""

    columns: ClassVar[Mapping[str, str]] = {"duplicate_of": "string"}
    needs = ("minhash",)

    def __init__(self) -> None:
        self._buckets: dict[bytes, list[int]] = {}
        self._firsts: list[tuple[str, np.ndarray]] = []
        self._found: list[str | None] = []
        self._given = 0

    def observe(self, table: Any) -> None:
        """See :class:`CorpusLabel`."""
        for name, hashes in zip(table.column("id").to_pylist(), table.column("minhash").to_pylist(), strict=True):
            self._found.append(None if hashes is None else self._find(name, np.asarray(hashes, np.uint32)))

    def values(self, table: Any) -> Mapping[str, Any]:
        """See :class:`CorpusLabel`."""
        start, self._given = self._given, self._given + len(table)
        return {"duplicate_of": self._found[start : self._given]}

    def _find(self, name: str, hashes: np.ndarray) -> str | None:
        keys = [bytes([band]) + part.tobytes() for band, part in enumerate(hashes.reshape(BANDS, -1))]
        candidates = sorted({index for key in keys for index in self._buckets.get(key, ())})
        for index in candidates:
            first, others = self._firsts[index]
            if float((others == hashes).mean()) >= SAME:
                return first
        for key in keys:
            self._buckets.setdefault(key, []).append(len(self._firsts))
        self._firsts.append((name, hashes))
        return None


def minhash(codes: np.ndarray) -> np.ndarray | None:
    """Hashes of a sequence ``(T,)``, uint32 ``(HASHES,)``."""
    changed = codes[np.flatnonzero(np.diff(codes.astype(np.int64), prepend=-1))].astype(np.uint64)
    if len(changed) < 2 * NGRAM:
        return None
    grams = np.zeros(len(changed) - NGRAM + 1, np.uint64)
    for offset in range(NGRAM):
        grams = grams * np.uint64(65_537) + changed[offset : offset + len(grams)]
    grams = np.unique(grams)
    mixed = grams[:, None] * _FACTORS + _SHIFTS
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    result: np.ndarray = (mixed >> np.uint64(32)).astype(np.uint32).min(0)
    return result
