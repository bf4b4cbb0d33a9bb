"""Codes in Parquet: the columns of an utterance, three ways to write its codes, and what the file says about them.

``uint16`` is a nested list ``(Q, T)`` that every reader of Parquet takes. ``packed`` has the bits of each code, one
code after the other. ``entropy`` is coded with a model (:mod:`speechtok.entropy`), which the
package has, or which stands in the metadata of the file.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from speechtok.entropy import ContextModel, embedded_model, parse_model
from speechtok.errors import InputError, MissingFileError, TokensError, quoted
from speechtok.extras import install_hint
from speechtok.files import as_path
from speechtok.limits import MAX_CODEBOOK_SIZE, MAX_CODEBOOKS, MAX_FINGERPRINT, MAX_HOP_LENGTH
from speechtok.parsing import ParseError, parse_json
from speechtok.where import parse_where

FORMAT = "speechtok-corpus-1"
"""Value of ``format`` in the metadata of a file and in ``manifest.json``."""

KEY = b"speechtok"
"""Key of the metadata of a file."""

_MODEL_KEY = b"speechtok.model"

Encoding = Literal["uint16", "packed", "entropy"]
ENCODINGS: tuple[Encoding, ...] = ("uint16", "packed", "entropy")

_BOUNDS = {
    "sample_rate": 2**31 - 1,
    "hop_length": MAX_HOP_LENGTH,
    "codebook_size": MAX_CODEBOOK_SIZE,
    "num_codebooks": MAX_CODEBOOKS,
}


def import_pyarrow() -> Any:
    """Import pyarrow.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"corpora need pyarrow ({error}); {install_hint('corpus')}") from error
    return pa


@dataclass(frozen=True)
class CodesFormat:
    """Facts about the codes of a file.

    Attributes:
        sample_rate: of the tokenizer, in hertz.
        hop_length: samples per frame.
        codebook_size: entries ``N`` of each codebook.
        num_codebooks: codebooks ``Q`` of each utterance.
        fingerprint: of the tokenizer.
        encoding: of the column ``codes``.
        model: of the encoding ``"entropy"``.
    """

    sample_rate: int
    hop_length: int
    codebook_size: int
    num_codebooks: int
    fingerprint: str
    encoding: Encoding = "uint16"
    model: ContextModel | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, maximum in _BOUNDS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= maximum:
                raise TokensError(f"{name} is {quoted(value)}; expected a whole number from 1 to {maximum}")
        if not isinstance(self.fingerprint, str) or len(self.fingerprint) > MAX_FINGERPRINT:
            raise TokensError(f"fingerprint is {quoted(self.fingerprint)}; expected that of a tokenizer, a str")
        if self.encoding not in ENCODINGS:
            raise TokensError(f"encoding is {quoted(self.encoding)}; expected one of {', '.join(ENCODINGS)}")

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the model."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "model"}

    def metadata(self) -> dict[bytes, bytes]:
        """Metadata of the schema of a file."""
        values = {"format": FORMAT, **self.to_dict()}
        metadata = {}
        if self.encoding == "entropy" and self.model is not None:
            values["model"] = self.model.digest
            embedded = embedded_model(self.fingerprint)
            if embedded is None or embedded.digest != self.model.digest:
                metadata[_MODEL_KEY] = self.model.to_bytes()
        return {KEY: json.dumps(values).encode(), **metadata}

    @classmethod
    def from_metadata(cls, metadata: dict[bytes, bytes] | None, name: str) -> "CodesFormat":
        """Read the metadata of a schema.

        Raises:
            TokensError: the file called ``name`` has none, or it is damaged.
        """
        if not metadata or KEY not in metadata:
            raise TokensError(f"{name} has no speechtok metadata; expected a file of 'speechtok corpus build'")
        try:
            values = parse_json(metadata[KEY])
            if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
                raise ParseError(f"its format is not {FORMAT}")
            digest, model = values.pop("model", None), None
            if digest is not None:
                in_file = _MODEL_KEY in metadata
                model = parse_model(metadata[_MODEL_KEY]) if in_file else embedded_model(values.get("fingerprint", ""))
                if model is None or model.digest != digest:
                    raise ParseError(f"its codes need the model {quoted(digest)}, which the package does not have")
            return cls(**values, model=model)
        except (ParseError, TypeError) as error:
            raise TokensError(f"{name} has damaged metadata ({error!s:.80}); build the corpus again") from error

    def codes_type(self) -> Any:
        """Type of the column ``codes``."""
        pa = import_pyarrow()
        return pa.list_(pa.list_(pa.uint16()), self.num_codebooks) if self.encoding == "uint16" else pa.binary()

    def write_codes(self, rows: Sequence[np.ndarray]) -> Any:
        """The column ``codes`` of utterances ``(Q, T)``."""
        pa = import_pyarrow()
        if self.encoding == "packed":
            return pa.array([pack(row, self.bits) for row in rows], pa.binary())
        if self.encoding == "entropy":
            if self.model is None:
                raise TokensError("the encoding is entropy, without a model; expected one: train it on some codes")
            return pa.array(self.model.encode(rows), pa.binary())
        frames = np.array([row.shape[1] for row in rows], np.int64)
        offsets = np.zeros(len(rows) * self.num_codebooks + 1, np.int32)
        np.cumsum(np.repeat(frames, self.num_codebooks), out=offsets[1:])
        flat = np.concatenate([np.zeros(0, np.uint16), *(row.astype(np.uint16).ravel() for row in rows)])
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, pa.uint16()))
        return pa.FixedSizeListArray.from_arrays(lists, self.num_codebooks)

    def read_codes(self, column: Any, lengths: Sequence[int]) -> list[np.ndarray]:
        """Utterances ``(Q, T)``, uint16, of a column ``codes``, an array or a chunked array.

        Raises:
            TokensError: they do not fit ``lengths``, or are out of range.
        """
        if hasattr(column, "chunks"):
            rows: list[np.ndarray] = []
            for chunk in column.chunks:
                rows += self.read_codes(chunk, lengths[len(rows) : len(rows) + len(chunk)])
            return rows
        if self.encoding == "entropy":
            if self.model is None:
                raise TokensError("the file has entropy-coded codes and no model; build the corpus again")
            return self.model.decode([value.as_py() for value in column], lengths)
        if self.encoding == "packed":
            shape = (self.num_codebooks, -1)
            rows = [
                unpack(value.as_py(), self.bits, self.num_codebooks * int(length)).reshape(shape)
                if length
                else np.zeros((self.num_codebooks, 0), np.uint16)
                for value, length in zip(column, lengths, strict=True)
            ]
        else:
            rows = self._read_lists(column, lengths)
        for row in rows:
            if row.size and int(row.max()) >= self.codebook_size:
                raise TokensError(f"codes holds {int(row.max())}; expected 0 to {self.codebook_size - 1}")
        return rows

    def _read_lists(self, column: Any, lengths: Sequence[int]) -> list[np.ndarray]:
        lists = column.flatten()
        offsets = lists.offsets.to_numpy()
        flat = lists.values.to_numpy(zero_copy_only=False)
        expected = np.repeat(np.asarray(lengths, np.int64), self.num_codebooks)
        if not np.array_equal(np.diff(offsets), expected):
            raise TokensError("codes and length of the file do not fit each other; build the corpus again")
        starts = offsets[:: self.num_codebooks]
        return [
            flat[start : start + self.num_codebooks * int(length)].reshape(self.num_codebooks, int(length))
            for start, length in zip(starts, lengths, strict=False)
        ]

    @property
    def bits(self) -> int:
        """Bits of a packed code."""
        return max(1, (self.codebook_size - 1).bit_length())


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Codes in row-major order, ``bits`` each, least significant bit first."""
    values = codes.astype(np.uint32).ravel()
    planes = (values[:, None] >> np.arange(bits, dtype=np.uint32)) & 1
    return np.packbits(planes.astype(np.uint8).ravel(), bitorder="little").tobytes()


def unpack(data: bytes, bits: int, count: int) -> np.ndarray:
    """Inverse of :func:`pack`: ``count`` codes, uint16.

    Raises:
        TokensError: the data is of another length.
    """
    if len(data) != -(-bits * count // 8):
        raise TokensError(f"codes has {len(data)} bytes; expected {-(-bits * count // 8)} for {count} codes")
    planes = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=bits * count).reshape(count, bits)
    codes: np.ndarray = (planes.astype(np.uint32) << np.arange(bits, dtype=np.uint32)).sum(1).astype(np.uint16)
    return codes


def read_schema(path: str | os.PathLike[str]) -> tuple[CodesFormat, Any]:
    """Facts about the codes of a file, and its schema.

    Raises:
        MissingFileError: the file does not exist.
        TokensError: it is not a file of a corpus.
    """
    import_pyarrow()
    import pyarrow.parquet as pq

    path = as_path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; expected a Parquet file of 'speechtok corpus build'")
    try:
        schema = pq.read_schema(path)
    except (OSError, ValueError) as error:
        raise TokensError(f"{path} cannot be read as Parquet ({error!s:.80}); build the corpus again") from error
    return CodesFormat.from_metadata(schema.metadata, str(path)), schema


def read_batch(path: str | os.PathLike[str], rows: slice | None, where: str | None) -> tuple[Any, ...]:
    """Arguments of :class:`~speechtok.SpeechTokens` for utterances of a file; see its ``from_parquet``."""
    codes, schema = read_schema(path)
    import pyarrow.parquet as pq

    condition = None if where is None else parse_where(where, schema.names)
    try:
        table = pq.read_table(path, columns=["codes", "length", "num_samples"], filters=condition, partitioning=None)
    except (OSError, ValueError, NotImplementedError) as error:
        raise TokensError(f"{path} cannot be read ({error!s:.80}); check the condition, or build it again") from error
    if rows is not None:
        table = table.take(np.arange(len(table))[rows])
    lengths = table.column("length").to_pylist()
    grids = codes.read_codes(table.column("codes"), lengths)
    batch = torch.zeros(len(grids), codes.num_codebooks, max(lengths, default=0), dtype=torch.int64, device="cpu")
    for padded, grid in zip(batch, grids, strict=True):
        padded[:, : grid.shape[1]] = torch.from_numpy(grid.astype(np.int64))
    return (
        batch,
        torch.tensor(lengths, dtype=torch.int64, device="cpu"),
        torch.tensor(table.column("num_samples").to_pylist(), dtype=torch.int64, device="cpu"),
        codes.sample_rate,
        codes.hop_length,
        codes.codebook_size,
        codes.fingerprint,
    )
