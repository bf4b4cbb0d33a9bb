"""Entropy coding of codes with a context model of whole numbers: the same bytes and the same codes on every machine.

The probability of a code is a mixture: from the frequencies of its codebook, from the code of the frame before, and
from the code of the codebook before in the same frame. A context is a class of codes, so that tables stay small.
Frequencies and weights are integers, and a range variant of asymmetric numeral systems (Duda 2013; rANS with states of
64 bits and words of 32) writes the codes. An utterance is cut into blocks of :data:`BLOCK` frames, which are coded side
by side. The page on file formats specifies the bytes.
"""

import functools
import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from speechtok.errors import TokensError, quoted
from speechtok.limits import MAX_CODEBOOK_SIZE, MAX_CODEBOOKS, MAX_FINGERPRINT
from speechtok.parsing import ParseError, parse_json

FORMAT = "speechtok-codes-model-1"
MAGIC = b"STCM"

BLOCK = 512
"""Frames of a block. Blocks share nothing, so a long utterance is decoded block beside block."""

TABLE_BITS = 16
"""Each table of frequencies has the sum ``2 ** TABLE_BITS``."""
WEIGHT_BITS = 4
"""The weights of a codebook have the sum ``2 ** WEIGHT_BITS``."""
_TOTAL_BITS = TABLE_BITS + WEIGHT_BITS

_LOW = 1 << 31
"""Smallest state of the coder between two codes."""

_MAX_CLASSES = 4_096
_MAX_MODEL_BYTES = 256 * 2**20

# contexts of a code: (codebooks back, frames back); a code outside of the block is class 0
CONTEXTS = ((0, 0), (0, 1), (1, 0))
"""Contexts in the order of the tables: none, the frame before, the codebook before."""


@dataclass(frozen=True, eq=False)
class Table:
    """Frequencies of the codes of a codebook in each class of one context.

    Attributes:
        classes: class of each code of the context, uint16 ``(N,)``; no context has one class.
        cumulative: sums of the frequencies before each code, int64 ``(C + 1, N + 1)``; row 0 is for a context outside
            of the block.
    """

    classes: np.ndarray
    cumulative: np.ndarray


@dataclass(frozen=True, eq=False)
class ContextModel:
    """Frequencies of codes, for one tokenizer.

    Attributes:
        fingerprint: of the tokenizer.
        codebook_size: entries ``N`` of each codebook.
        tables: for each codebook, the tables of :data:`CONTEXTS`.
        weights: of these tables, int64 ``(Q, 3)``.
    """

    fingerprint: str
    codebook_size: int
    tables: tuple[tuple[Table, ...], ...]
    weights: np.ndarray

    @property
    def num_codebooks(self) -> int:
        """Codebooks ``Q`` that the model knows; it codes the first ones of them."""
        return len(self.tables)

    @functools.cached_property
    def digest(self) -> str:
        """Short hash of the model, which names it in files."""
        return hashlib.sha256(self._body()).hexdigest()[:16]

    def encode(self, rows: Sequence[np.ndarray]) -> list[bytes]:
        """Bytes of utterances ``(Q, T)``.

        Raises:
            TokensError: the codes do not fit the model.
        """
        for row in rows:
            if row.ndim != 2 or not 1 <= len(row) <= self.num_codebooks:
                raise TokensError(f"codes has shape {row.shape}; expected (Q, T) with Q from 1 to {self.num_codebooks}")
            if row.size and not 0 <= int(row.min()) <= int(row.max()) < self.codebook_size:
                raise TokensError(f"codes holds values beyond 0 to {self.codebook_size - 1}; expected codes")
        results: list[bytes] = [b""] * len(rows)
        for num_codebooks in {len(row) for row in rows}:
            chosen = [index for index, row in enumerate(rows) if len(row) == num_codebooks]
            for index, data in zip(chosen, self._encode([rows[i] for i in chosen], num_codebooks), strict=True):
                results[index] = data
        return results

    def decode(
        self, data: Sequence[bytes], lengths: Sequence[int], num_codebooks: int | None = None
    ) -> list[np.ndarray]:
        """Inverse of :meth:`encode`: codes of utterances, uint16 ``(Q, T)``.

        Args:
            data: of each utterance.
            lengths: frames of each utterance.
            num_codebooks: codebooks that were coded; by default all of the model.

        Raises:
            TokensError: the bytes are damaged.
        """
        num_codebooks = self.num_codebooks if num_codebooks is None else num_codebooks
        words: list[np.ndarray] = []
        frames: list[int] = []
        for one, length in zip(data, lengths, strict=True):
            blocks = -(-int(length) // BLOCK)
            words += _split(one, blocks)
            frames += [min(BLOCK, int(length) - start * BLOCK) for start in range(blocks)]
        decoded = self._decode_blocks(words, frames, num_codebooks)
        rows, at = [], 0
        for length in lengths:
            blocks = -(-int(length) // BLOCK)
            parts = [np.zeros((num_codebooks, 0), np.uint16), *decoded[at : at + blocks]]
            rows.append(np.concatenate(parts, 1))
            at += blocks
        return rows

    def _encode(self, rows: Sequence[np.ndarray], num_codebooks: int) -> list[bytes]:
        blocks = [row[:, start : start + BLOCK] for row in rows for start in range(0, row.shape[1], BLOCK)]
        coded = self._encode_blocks(blocks, num_codebooks)
        results, at = [], 0
        for row in rows:
            count = -(-row.shape[1] // BLOCK)
            mine = coded[at : at + count]
            at += count
            sizes = b"".join(struct.pack("<I", len(words)) for words in mine[:-1])
            results.append(sizes + b"".join(words.astype("<u4").tobytes() for words in mine))
        return results

    def _encode_blocks(self, blocks: Sequence[np.ndarray], num_codebooks: int) -> list[np.ndarray]:
        """Words of each block, in the order in which they are read."""
        if not blocks:
            return []
        order = sorted(range(len(blocks)), key=lambda index: -blocks[index].shape[1])  # the longest first
        frames = np.array([blocks[index].shape[1] for index in order])
        longest = int(frames[0])
        grid = np.zeros((len(order), num_codebooks, longest), np.int64)
        for lane, index in enumerate(order):
            grid[lane, :, : blocks[index].shape[1]] = blocks[index]
        states = np.full(len(order), _LOW, np.uint64)
        lanes: list[tuple[np.ndarray, np.ndarray]] = []  # pairs of lanes and words, in the order of writing
        for frame in range(longest - 1, -1, -1):
            active = int(np.searchsorted(-frames, -frame, side="left"))
            for q in range(num_codebooks - 1, -1, -1):
                codes = grid[:active, q, frame]
                rows = self._table_rows(grid[:active], q, frame)
                low = self._mixed(q, rows, codes)
                frequency = (self._mixed(q, rows, codes + 1) - low).astype(np.uint64)
                state = states[:active]
                full = state >= frequency << np.uint64(63 - _TOTAL_BITS)
                if full.any():
                    where = full.nonzero()[0]
                    lanes.append((where, (state[where] & np.uint64(0xFFFFFFFF)).astype(np.uint32)))
                    state[where] >>= np.uint64(32)
                state[:] = (state // frequency << np.uint64(_TOTAL_BITS)) + state % frequency + low.astype(np.uint64)
        owners = np.concatenate([np.zeros(0, np.int64), *(where for where, _ in lanes)])
        written = np.concatenate([np.zeros(0, np.uint32), *(words for _, words in lanes)])
        by_lane = np.argsort(owners, kind="stable")
        ends = np.searchsorted(owners[by_lane], np.arange(len(order) + 1))
        results: list[np.ndarray] = [np.zeros(0, np.uint32)] * len(blocks)
        for lane, index in enumerate(order):
            final = int(states[lane])
            mine = written[by_lane[ends[lane] : ends[lane + 1]]]
            results[index] = np.concatenate([np.array([final >> 32, final & 0xFFFFFFFF], np.uint32), mine[::-1]])
        return results

    def _decode_blocks(
        self, words: Sequence[np.ndarray], frames: Sequence[int], num_codebooks: int
    ) -> list[np.ndarray]:
        if not words:
            return []
        order = sorted(range(len(words)), key=lambda index: -frames[index])
        counts = np.array([frames[index] for index in order])
        longest = int(counts[0])
        grid = np.zeros((len(order), num_codebooks, longest), np.int64)
        sizes = np.array([len(words[index]) for index in order])
        stream = np.concatenate([*(words[index] for index in order), np.zeros(1, np.uint32)]).astype(np.uint64)
        at = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        ends = at + sizes
        if int(sizes.min()) < 2:
            raise _damaged()
        states = (stream[at] << np.uint64(32)) | stream[at + 1]
        at = at + 2
        mask = np.uint64((1 << _TOTAL_BITS) - 1)
        for frame in range(longest):
            active = int(np.searchsorted(-counts, -frame, side="left"))
            for q in range(num_codebooks):
                rows = self._table_rows(grid[:active], q, frame)
                state = states[:active]
                target = (state & mask).astype(np.int64)
                codes = self._search(q, rows, target)
                grid[:active, q, frame] = codes
                low = self._mixed(q, rows, codes)
                frequency = self._mixed(q, rows, codes + 1) - low
                state[:] = frequency.astype(np.uint64) * (state >> np.uint64(_TOTAL_BITS)) + (target - low).astype(
                    np.uint64
                )
                few = state < np.uint64(_LOW)
                if few.any():
                    where = few.nonzero()[0]
                    if bool((at[where] >= ends[where]).any()):
                        raise _damaged()
                    state[where] = (state[where] << np.uint64(32)) | stream[at[where]]
                    at[where] += 1
        if bool((states != _LOW).any()) or bool((at != ends).any()):
            raise _damaged()
        results: list[np.ndarray] = [np.zeros(0, np.uint16)] * len(words)
        for lane, index in enumerate(order):
            results[index] = grid[lane, :, : frames[index]].astype(np.uint16)
        return results

    def _table_rows(self, grid: np.ndarray, q: int, frame: int) -> list[np.ndarray]:
        """Row of each table of codebook ``q`` for each lane of ``grid`` ``(B, Q, T)``."""
        rows = []
        for table, (back_q, back_t) in zip(self.tables[q], CONTEXTS, strict=True):
            if (back_q, back_t) == (0, 0):
                rows.append(np.ones(len(grid), np.int64))
            elif q < back_q or frame < back_t:
                rows.append(np.zeros(len(grid), np.int64))
            else:
                rows.append(table.classes[grid[:, q - back_q, frame - back_t]].astype(np.int64) + 1)
        return rows

    def _mixed(self, q: int, rows: Sequence[np.ndarray], codes: np.ndarray) -> np.ndarray:
        """Weighted sums of the frequencies before ``codes``."""
        total = np.zeros(len(codes), np.int64)
        for table, weight, row in zip(self.tables[q], self.weights[q].tolist(), rows, strict=True):
            if weight:
                total += weight * table.cumulative[row, codes]
        return total

    def _search(self, q: int, rows: Sequence[np.ndarray], target: np.ndarray) -> np.ndarray:
        """The last code whose sum is not above ``target``."""
        low = np.zeros(len(target), np.int64)
        step = 1 << (self.codebook_size - 1).bit_length()
        while step := step // 2:
            middle = np.minimum(low + step, self.codebook_size)
            found = (middle < self.codebook_size) & (self._mixed(q, rows, middle) <= target)
            low = np.where(found, middle, low)
        return low

    # --- bytes

    def _body(self) -> bytes:
        parts = []
        for q, tables in enumerate(self.tables):
            parts.append(self.weights[q].astype("<u1").tobytes())
            for table in tables:
                parts.append(table.classes.astype("<u2").tobytes())
                # differences of 2**16 do not fit 16 bits: no code has all of the sum, as each table sees to
                parts.append(np.diff(table.cumulative, axis=1).astype("<u2").tobytes())
        facts = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "codebook_size": self.codebook_size,
            "classes": [[len(table.cumulative) - 1 for table in tables] for tables in self.tables],
        }
        head = json.dumps(facts).encode()
        return struct.pack("<I", len(head)) + head + b"".join(parts)

    def to_bytes(self) -> bytes:
        """Contents of a file; the same for the same model, except for versions of zlib."""
        return MAGIC + zlib.compress(self._body(), 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ContextModel":
        """Inverse of :meth:`to_bytes`.

        Raises:
            ParseError: the data is damaged.
        """
        if data[:4] != MAGIC:
            raise ParseError("it is not a model of codes")
        try:
            decompressor = zlib.decompressobj()
            body = decompressor.decompress(data[4:], _MAX_MODEL_BYTES)
        except zlib.error as error:
            raise ParseError(f"its model is damaged ({error})") from error
        size = int.from_bytes(body[:4], "little")
        facts = parse_json(body[4 : 4 + size])
        return cls._parse(facts, body[4 + size :])

    @classmethod
    def _parse(cls, facts: Any, data: bytes) -> "ContextModel":
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise ParseError(f"its model has the format {quoted(facts)}")
        fingerprint, n, classes = facts.get("fingerprint"), facts.get("codebook_size"), facts.get("classes")
        if not isinstance(fingerprint, str) or len(fingerprint) > MAX_FINGERPRINT:
            raise ParseError("its model has no fingerprint")
        if type(n) is not int or not 2 <= n <= MAX_CODEBOOK_SIZE:
            raise ParseError(f"its model has the codebook size {quoted(n)}")
        if (
            not isinstance(classes, list)
            or not 1 <= len(classes) <= MAX_CODEBOOKS
            or not all(isinstance(row, list) and len(row) == len(CONTEXTS) for row in classes)
            or not all(type(c) is int and 1 <= c <= _MAX_CLASSES for row in classes for c in row)
        ):
            raise ParseError(f"its model has the classes {quoted(classes)}")
        size = sum(len(CONTEXTS) + sum(2 * n + 2 * n * (c + 1) for c in row) for row in classes)
        if len(data) != size:
            raise ParseError(f"its model has {len(data)} bytes, and announces {size}")
        at, tables, weights = 0, [], []
        for row in classes:
            weights.append(np.frombuffer(data, "<u1", len(CONTEXTS), at).astype(np.int64))
            at += len(CONTEXTS)
            found = []
            for count in row:
                known = np.frombuffer(data, "<u2", n, at)
                at += 2 * n
                frequencies = np.frombuffer(data, "<u2", n * (count + 1), at).reshape(count + 1, n).astype(np.int64)
                at += 2 * n * (count + 1)
                if int(known.max()) >= count or bool((frequencies.sum(1) != 1 << TABLE_BITS).any()):
                    raise ParseError("its model has frequencies that do not sum up")
                found.append(Table(known, np.pad(frequencies.cumsum(1), ((0, 0), (1, 0)))))
            if weights[-1].sum() != 1 << WEIGHT_BITS or not weights[-1][0] or not np.diff(found[0].cumulative).all():
                raise ParseError("its model gives no room to some codes")
            tables.append(tuple(found))
        return cls(fingerprint, n, tuple(tables), np.stack(weights))


def _split(data: bytes, blocks: int) -> list[np.ndarray]:
    """Words of each block of an utterance."""
    if len(data) % 4 or len(data) // 4 < 2 * blocks or (blocks == 0 and data):
        raise _damaged()
    words = np.frombuffer(data, "<u4")
    sizes = words[: max(blocks - 1, 0)].astype(np.int64)
    words = words[len(sizes) :]
    ends = np.cumsum(sizes)
    if len(sizes) and int(ends[-1]) > len(words):
        raise _damaged()
    return np.split(words, ends) if blocks else []


def _damaged() -> TokensError:
    return TokensError("the entropy-coded codes are damaged; expected the bytes as they were written: fetch them again")


@functools.lru_cache(maxsize=8)
def parse_model(data: bytes) -> ContextModel:
    """:meth:`ContextModel.from_bytes`; the files of a corpus have one model."""
    return ContextModel.from_bytes(data)


@functools.lru_cache(maxsize=8)
def embedded_model(fingerprint: str) -> ContextModel | None:
    """The model that the package has for a tokenizer, if any."""
    for folder in resources.files("speechtok").joinpath("assets").iterdir():
        file = folder.joinpath("codes.model") if folder.is_dir() else None
        if file is not None and file.is_file():
            model = ContextModel.from_bytes(file.read_bytes())
            if model.fingerprint == fingerprint:
                return model
    return None
