"""Tokens: the codes of a batch of utterances, with all that a tokenizer needs to decode them."""

import dataclasses
import hashlib
import json
import math
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechtok.entropy import embedded_model
from speechtok.errors import MissingFileError, TokensError, quoted
from speechtok.files import as_path, replacing
from speechtok.fingerprints import canonical_fingerprint
from speechtok.limits import MAX_CODEBOOK_SIZE, MAX_CODEBOOKS, MAX_FINGERPRINT, MAX_GENERATED_BY, MAX_HOP_LENGTH
from speechtok.parquet import read_batch
from speechtok.parsing import ParseError, parse_json
from speechtok.tensor_file import TensorFile, write_tensors

_FORMAT = "speechtok-tokens-1"

_TENSORS = {"codes": torch.int16, "lengths": torch.int64, "num_samples": torch.int64}
_CODED_FORMAT = "speechtok-tokens-coded-1"
_CODED_TENSORS = {"coded": torch.uint8, "sizes": torch.int64, "lengths": torch.int64, "num_samples": torch.int64}
_MAX_CODES_PER_BYTE = 128
"""Codes that a byte can hold: no code is more probable than the largest frequency allows."""

_FACTS = {"sample_rate", "hop_length", "codebook_size", "fingerprint"}
_MAX_FACTS = {
    "sample_rate": 2**31 - 1,
    "hop_length": MAX_HOP_LENGTH,
    "codebook_size": MAX_CODEBOOK_SIZE,
}


@dataclass(frozen=True, eq=False)
class SpeechTokens:
    """Codes of ``B`` utterances, and the fingerprint of the tokenizer that made them.

    Attributes:
        codes: int64 ``(B, Q, T)``; frames past an utterance's length hold 0.
        lengths: int64 ``(B,)``, frames of each utterance.
        num_samples: int64 ``(B,)``, samples of each utterance at ``sample_rate``; ``decode`` trims to them.
        sample_rate: of the tokenizer, in hertz.
        hop_length: samples per frame.
        codebook_size: entries ``N`` of each codebook.
        fingerprint: of the encoder and codebooks that made the codes (:attr:`speechtok.Tokenizer.fingerprint`).
        generated_by: the model that generated codes, such as a voice model; empty if they are of a recording.
    """

    codes: Tensor
    lengths: Tensor
    num_samples: Tensor
    sample_rate: int
    hop_length: int
    codebook_size: int
    fingerprint: str
    generated_by: str = ""

    def __post_init__(self) -> None:
        """Raise :class:`~speechtok.errors.TokensError` if shapes, types or ranges do not fit each other."""
        for name, maximum in _MAX_FACTS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= maximum:
                raise TokensError(f"{name} is {quoted(value)}; expected a whole number from 1 to {maximum}")
        if not isinstance(self.fingerprint, str) or len(self.fingerprint) > MAX_FINGERPRINT:
            raise TokensError(f"fingerprint is {quoted(self.fingerprint)}; expected that of a tokenizer, a str")
        if not isinstance(self.generated_by, str) or len(self.generated_by) > MAX_GENERATED_BY:
            raise TokensError(
                f"generated_by is {quoted(self.generated_by)}; expected the name of a model, a str of at most "
                f"{MAX_GENERATED_BY} characters"
            )
        object.__setattr__(self, "fingerprint", canonical_fingerprint(self.fingerprint))
        check_codes(self.codes, self.codebook_size)
        batch, num_codebooks, frames = self.codes.shape
        if num_codebooks > MAX_CODEBOOKS:
            raise TokensError(f"codes has {num_codebooks} codebooks; expected at most {MAX_CODEBOOKS}")
        for name, most in (("lengths", frames), ("num_samples", frames * self.hop_length)):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.shape != (batch,):
                raise TokensError(f"{name} is {quoted(value)}; expected an int64 tensor of shape ({batch},)")
            if batch and (int(value.min()) < 0 or int(value.max()) > most):
                raise TokensError(f"{name} is {quoted(value.tolist())}; expected values from 0 to {most}")
        if not torch.equal(self.lengths, -(-self.num_samples // self.hop_length)):
            raise TokensError(
                f"lengths {quoted(self.lengths.tolist())} do not fit num_samples {quoted(self.num_samples.tolist())}; "
                f"expected ceil(num_samples / {self.hop_length}) frames"
            )

    @property
    def semantic(self) -> Tensor:
        """Semantic codes: codebook 0, ``(B, T)``."""
        return self.codes[:, 0]

    @property
    def acoustic(self) -> Tensor:
        """Acoustic codes: codebooks 1 to Q-1, ``(B, Q-1, T)``."""
        return self.codes[:, 1:]

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks ``Q`` in these tokens."""
        return self.codes.shape[1]

    @property
    def frame_rate(self) -> float:
        """Frames per second, in hertz."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate(self) -> float:
        """Bits per second, at ``log2(N)`` bits a code."""
        bits = math.log2(self.codebook_size)
        return self.frame_rate * self.num_codebooks * bits

    def __len__(self) -> int:
        """Number of utterances ``B``."""
        return self.codes.shape[0]

    def __getitem__(self, index: int | slice) -> "SpeechTokens":
        """Select one utterance, as a batch of one, or a slice of the batch. Frames that are padding in all rows go.

        Raises:
            IndexError: the utterance does not exist.
            TokensError: the index is neither a whole number nor a slice of whole numbers.
        """
        if isinstance(index, slice):
            for name in ("start", "stop", "step"):
                bound = getattr(index, name)
                if bound is not None and _whole(name, bound) == 0 and name == "step":
                    raise TokensError("step is 0; expected a whole number other than 0")
        else:
            index = _whole("index", index)
            if not -len(self) <= index < len(self):
                raise IndexError(f"utterance {index} of {len(self)}")
            index %= len(self)
            index = slice(index, index + 1)
        # slices of tensors only go forwards
        places = torch.tensor(range(len(self))[index], dtype=torch.int64, device=self.codes.device)
        lengths = self.lengths[places]
        frames = max(lengths.tolist(), default=0)
        return self._replace(self.codes[places, :, :frames], lengths, self.num_samples[places])

    def crop(self, start: int, stop: int) -> "SpeechTokens":
        """Select the frames from ``start`` up to ``stop`` of each utterance.

        An utterance that ends earlier has fewer frames, or none. :meth:`join` joins such pieces.

        Raises:
            TokensError: not ``0 <= start <= stop <= T``.
        """
        frames, start, stop = self.codes.shape[2], _whole("start", start), _whole("stop", stop)
        if not 0 <= start <= stop <= frames:
            raise TokensError(
                f"start is {start} and stop is {stop}; expected 0 <= start <= stop <= {frames}, the number of frames"
            )
        lengths = self.lengths.clamp(start, stop) - start
        num_samples = (self.num_samples - start * self.hop_length).clamp_min(0).minimum(lengths * self.hop_length)
        return self._replace(self.codes[:, :, start:stop], lengths, num_samples)

    @classmethod
    def join(cls, pieces: Iterable["SpeechTokens"]) -> "SpeechTokens":
        """Join pieces of one utterance, each a batch of one, in order: inverse of :meth:`crop`.

        Raises:
            TokensError: the list is empty; a piece is not a batch of one, or is of another tokenizer or number of
                codebooks than the first; or a piece other than the last ends within a frame.
        """
        try:
            pieces = iter(pieces)  # a batch is a sequence of pieces too
        except TypeError as error:
            raise TokensError(f"pieces is a {type(pieces).__name__}; expected a list of SpeechTokens") from error
        pieces = list(pieces)
        if not pieces:
            raise TokensError("pieces is empty; expected at least one piece")
        first, samples = pieces[0], 0
        facts = ("num_codebooks", "sample_rate", "hop_length", "codebook_size", "fingerprint")
        for index, piece in enumerate(pieces):
            if not isinstance(piece, SpeechTokens):
                raise TokensError(f"piece {index} is a {type(piece).__name__}; expected SpeechTokens")
            if len(piece) != 1:
                raise TokensError(f"piece {index} has {len(piece)} utterances; expected one: take tokens[i] of a batch")
            for name in facts:
                if getattr(piece, name) != getattr(first, name):
                    raise TokensError(
                        f"piece {index} has {name} {getattr(piece, name)!r}, and the first has "
                        f"{getattr(first, name)!r}; expected pieces of one utterance"
                    )
            if int(piece.lengths) and samples % first.hop_length:
                raise TokensError(
                    f"piece {index} begins after {samples} samples, within a frame of {first.hop_length}; expected "
                    "whole frames in all pieces but the last"
                )
            samples += int(piece.num_samples)
        codes = torch.cat([piece.codes[:, :, : int(piece.lengths)] for piece in pieces], 2)
        lengths, num_samples = (
            torch.stack([getattr(piece, name) for piece in pieces]).sum(0) for name in ("lengths", "num_samples")
        )
        joined = first._replace(codes, lengths, num_samples)
        models = dict.fromkeys(name for piece in pieces for name in piece.generated_by.split(", ") if name)
        return joined.marked(", ".join(models))

    def marked(self, generated_by: str) -> "SpeechTokens":
        """The same tokens with another :attr:`generated_by`.

        Raises:
            TokensError: it is not a str, or too long.
        """
        return dataclasses.replace(self, generated_by=generated_by)

    def to(self, device: torch.device | str) -> "SpeechTokens":
        """Copy the tokens to another device.

        Raises:
            TokensError: the device cannot be used on this machine.
        """
        try:
            moved = self.codes.to(device), self.lengths.to(device), self.num_samples.to(device)
        except (RuntimeError, AssertionError, TypeError, ImportError) as error:  # backends that are not installed
            reason = str(error).partition("\n")[0]
            raise TokensError(f"device is {device!r} ({reason}); expected one that is here, such as 'cpu'") from error
        return self._replace(*moved)

    def _replace(self, codes: Tensor, lengths: Tensor, num_samples: Tensor) -> "SpeechTokens":
        return dataclasses.replace(self, codes=codes, lengths=lengths, num_samples=num_samples)

    def save(self, path: str | os.PathLike[str], compress: bool = False) -> None:
        """Write the contents that :meth:`to_bytes` returns to a file.

        Raises:
            OutputError: the file cannot be written. The file that stood at ``path`` is then unchanged.
        """
        data = self.to_bytes(compress)
        with replacing(path) as file:
            file.write(data)

    def to_bytes(self, compress: bool = False) -> bytes:
        """Contents of a safetensors file: ``codes`` as int16, ``lengths`` and ``num_samples``; the rest is metadata.

        The bytes depend on the tokens alone: the same in every process, and for every version that writes this format.

        Args:
            compress: entropy code the codes, with the model that the package has for their tokenizer. Versions before
                0.3 and other readers of the format do not read such files.

        Raises:
            TokensError: the package has no model for the tokenizer.
        """
        facts = {
            "sample_rate": self.sample_rate,
            "hop_length": self.hop_length,
            "codebook_size": self.codebook_size,
            "fingerprint": self.fingerprint,
        }
        if self.generated_by:  # without it, versions before 0.3 read the file, too
            facts["generated_by"] = self.generated_by
        tensors = {
            "codes": self.codes.to("cpu", torch.int16).contiguous(),
            "lengths": self.lengths.cpu().contiguous(),
            "num_samples": self.num_samples.cpu().contiguous(),
        }
        metadata = {"format": _FORMAT, "tokens": json.dumps(facts), "digest": _digest(facts, tensors)}
        if compress:
            return self._compressed(tensors, metadata)
        return write_tensors(tensors, metadata)

    def _compressed(self, tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
        """The file with ``coded``, the entropy-coded rows one after the other, and their ``sizes`` for ``codes``."""
        model = embedded_model(self.fingerprint)
        if model is None:
            raise TokensError(
                f"the package has no model for the codes of tokenizer {self.fingerprint:.80}; save them without "
                "compress"
            )
        lengths = self.lengths.tolist()
        rows = model.encode([grid[:, :length].numpy() for grid, length in zip(tensors["codes"], lengths, strict=True)])
        coded = {
            "coded": torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8) if any(rows) else _no_bytes(),
            "sizes": torch.tensor([len(row) for row in rows], dtype=torch.int64, device="cpu"),
            "lengths": tensors["lengths"],
            "num_samples": tensors["num_samples"],
        }
        extra = {"format": _CODED_FORMAT, "model": model.digest, "shape": json.dumps(list(self.codes.shape))}
        return write_tensors(coded, {**metadata, **extra})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SpeechTokens":
        """Read a file written by :meth:`save`.

        Raises:
            MissingFileError: the file does not exist.
            TokensError: the file is damaged or is not a tokens file.
        """
        path = as_path(path)
        if not os.path.exists(path):
            raise MissingFileError(f"{path} does not exist; check the path")
        try:
            if not path.is_file():  # a pipe would block, and a device may have no end
                raise ParseError("it is not a file")
            return cls._parse(path.read_bytes(), str(path))
        except (ParseError, OSError) as error:
            raise TokensError(f"{path} cannot be read as tokens ({error}); make it again with encode") from error

    @classmethod
    def from_parquet(
        cls, path: str | os.PathLike[str], rows: slice | None = None, where: str | None = None
    ) -> "SpeechTokens":
        """Read utterances of a Parquet file of ``speechtok corpus build`` (the extra ``corpus``).

        Args:
            path: the file.
            rows: which of the utterances; all by default.
            where: condition on the columns, such as ``'lang == "en"'``; ``rows`` counts those that fulfil it.

        Raises:
            MissingFileError: the file does not exist.
            TokensError: the file is damaged or is not of a corpus.
            InputError: the condition cannot be used, or pyarrow is not installed.
        """
        return cls(*read_batch(path, rows, where))

    @classmethod
    def from_bytes(cls, data: bytes) -> "SpeechTokens":
        """Read what :meth:`to_bytes` returned.

        Raises:
            TokensError: the data is damaged or is not a tokens file.
        """
        try:
            return cls._parse(data, f"tokens of {len(data)} bytes")
        except ParseError as error:
            raise TokensError(f"the data cannot be read as tokens ({error}); make it again with encode") from error

    @classmethod
    def _parse(cls, data: bytes, name: str) -> "SpeechTokens":
        file = TensorFile.parse(data)
        metadata = file.metadata
        is_coded = metadata.get("format") == _CODED_FORMAT
        if not is_coded and metadata.get("format") != _FORMAT:
            raise TokensError(
                f"{name} has the format {quoted(metadata.get('format'))}; expected a file of SpeechTokens.save"
            )
        facts = parse_json(metadata.get("tokens", ""))
        tensors = _decode_tensors(file, facts, name) if is_coded else file.tensors(_TENSORS)
        if not isinstance(facts, dict) or facts.keys() - {"generated_by"} != _FACTS:
            raise ParseError(f"'tokens' is {quoted(facts)}; expected the fields {', '.join(sorted(_FACTS))}")
        if _digest(facts, tensors) != metadata.get("digest"):
            raise TokensError(
                f"{name} is damaged: its digest is not {quoted(metadata.get('digest'))}; make it again with encode"
            )
        return cls(tensors["codes"].to(torch.int64), tensors["lengths"], tensors["num_samples"], **facts)


def _decode_tensors(file: TensorFile, facts: Any, name: str) -> dict[str, Tensor]:
    """The tensors of a file whose codes are entropy coded."""
    fingerprint = facts.get("fingerprint") if isinstance(facts, dict) else None
    model = embedded_model(fingerprint) if isinstance(fingerprint, str) else None
    if model is None or model.digest != file.metadata.get("model"):
        raise TokensError(
            f"{name} needs the model {quoted(file.metadata.get('model'))} of codes, which this version of speechtok "
            "does not have; read it with the version that wrote it"
        )
    tensors, shape = file.tensors(_CODED_TENSORS), parse_json(file.metadata.get("shape", ""))
    if not isinstance(shape, list) or len(shape) != 3 or any(type(n) is not int or n < 0 for n in shape):
        raise ParseError(f"'shape' is {quoted(shape)}; expected three whole numbers")
    batch, num_codebooks, frames = shape
    sizes, lengths = tensors["sizes"].tolist(), tensors["lengths"].tolist()
    data = tensors["coded"].numpy().tobytes()
    # each code takes at least a part of a bit: damaged sizes must not exhaust memory
    if (
        not len(sizes) == len(lengths) == batch
        or not 1 <= num_codebooks <= model.num_codebooks
        or any(not 0 <= length <= frames for length in lengths)
        or any(size < 0 for size in sizes)
        or sum(sizes) != len(data)
        or frames != max(lengths, default=frames)
        or frames * num_codebooks > _MAX_CODES_PER_BYTE * (len(data) + 1)
    ):
        raise ParseError("its sizes and lengths do not fit each other")
    rows, at = [], 0
    for size in sizes:
        rows.append(data[at : at + size])
        at += size
    codes = torch.zeros(batch, num_codebooks, frames, dtype=torch.int16, device="cpu")
    for padded, grid in zip(codes, model.decode(rows, lengths, num_codebooks), strict=True):
        padded[:, : grid.shape[1]] = torch.from_numpy(grid.astype("int16"))
    return {"codes": codes, "lengths": tensors["lengths"], "num_samples": tensors["num_samples"]}


def _no_bytes() -> Tensor:
    return torch.zeros(0, dtype=torch.uint8, device="cpu")


def _digest(facts: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Short hash of the contents of a tokens file."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _whole(name: str, value: Any) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TokensError(f"{name} is {quoted(value)}; expected a whole number")


def check_codes(codes: Any, codebook_size: int) -> None:
    """Raise :class:`~speechtok.errors.TokensError` unless int64 ``(B, Q, T)`` in ``[0, codebook_size)``."""
    if not isinstance(codes, Tensor):
        raise TokensError(f"codes is a {type(codes).__name__}; expected an int64 tensor of shape (B, Q, T)")
    if codes.dtype != torch.int64:
        raise TokensError(f"codes has dtype {codes.dtype}; expected torch.int64: convert with .long()")
    if codes.layout is not torch.strided or codes.is_nested or codes.is_meta:
        raise TokensError(
            f"codes is sparse, nested or without values ({codes.layout}, {codes.device}); expected a dense tensor"
        )
    if codes.ndim != 3 or codes.shape[1] == 0:
        raise TokensError(f"codes has shape {tuple(codes.shape)}; expected (B, Q, T) with at least one codebook")
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= codebook_size):
        raise TokensError(
            f"codes holds values from {int(codes.min())} to {int(codes.max())}; expected 0 to {codebook_size - 1}"
        )
