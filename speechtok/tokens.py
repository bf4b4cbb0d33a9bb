"""Tokens: the grid of codes of a batch of utterances, and what is needed to turn it back into audio."""

import hashlib
import json
import math
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from speechtok.errors import MissingFileError, TokensError, quoted
from speechtok.files import as_path, replacing
from speechtok.fingerprints import canonical_fingerprint

_FORMAT = "speechtok-tokens-1"


@dataclass(frozen=True, eq=False)
class SpeechTokens:
    """Codes of ``B`` utterances and the tokenizer that they belong to.

    Attributes:
        codes: int64 ``(B, Q, T)``; frames past an utterance's length hold 0.
        lengths: int64 ``(B,)``, frames of each utterance, on the device of ``codes``.
        num_samples: int64 ``(B,)``, samples of each utterance at ``sample_rate``; ``decode`` trims to them.
        sample_rate: of the tokenizer, in hertz.
        hop_length: samples a frame.
        codebook_size: entries ``N`` of each codebook.
        fingerprint: of the tokenizer that made the codes and can decode them.
    """

    codes: Tensor
    lengths: Tensor
    num_samples: Tensor
    sample_rate: int
    hop_length: int
    codebook_size: int
    fingerprint: str

    def __post_init__(self) -> None:
        """Raises :class:`~speechtok.errors.TokensError` where shapes, types or ranges do not fit each other."""
        for name in ("sample_rate", "hop_length", "codebook_size"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise TokensError(f"{name} is {getattr(self, name)!r}; expected a whole number above 0")
        if self.codebook_size > 32_768:
            raise TokensError(f"codebook_size is {self.codebook_size}; expected at most 32768: files hold int16")
        if not isinstance(self.fingerprint, str):
            raise TokensError(f"fingerprint is {quoted(self.fingerprint)}; expected the text that a tokenizer gives")
        object.__setattr__(self, "fingerprint", canonical_fingerprint(self.fingerprint))
        check_codes(self.codes, self.codebook_size)
        batch, _, frames = self.codes.shape
        for name, most in (("lengths", frames), ("num_samples", frames * self.hop_length)):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or value.dtype != torch.int64 or value.shape != (batch,):
                raise TokensError(f"{name} is {value!r}; expected an int64 tensor of shape ({batch},)")
            if batch and (int(value.min()) < 0 or int(value.max()) > most):
                raise TokensError(f"{name} is {value.tolist()}; expected values from 0 to {most}")
        if not torch.equal(self.lengths, -(-self.num_samples // self.hop_length)):
            raise TokensError(
                f"lengths {self.lengths.tolist()} and num_samples {self.num_samples.tolist()} disagree; "
                f"expected ceil(num_samples / {self.hop_length}) frames"
            )

    @property
    def semantic(self) -> Tensor:
        """Codebook 0, ``(B, T)``: what is said."""
        return self.codes[:, 0]

    @property
    def acoustic(self) -> Tensor:
        """Codebooks 1 to Q-1, ``(B, Q-1, T)``: how it sounds."""
        return self.codes[:, 1:]

    @property
    def num_codebooks(self) -> int:
        """Codebooks ``Q`` in these tokens."""
        return self.codes.shape[1]

    @property
    def frame_rate(self) -> float:
        """Frames a second, in hertz."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate(self) -> float:
        """Bits a second at ``log2(N)`` bits a code."""
        bits = math.log2(self.codebook_size)
        return self.frame_rate * self.num_codebooks * bits

    def __len__(self) -> int:
        """Utterances ``B``."""
        return self.codes.shape[0]

    def __getitem__(self, index: int | slice) -> "SpeechTokens":
        """One utterance as a batch of one, or a slice of the batch; without frames that are padding in all rows.

        Raises:
            IndexError: there is no such utterance.
            TokensError: the index is no whole number and no slice of such.
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
        # of tensors, slices only go forwards
        places = torch.tensor(range(len(self))[index], dtype=torch.int64, device=self.codes.device)
        lengths = self.lengths[places]
        frames = max(lengths.tolist(), default=0)
        return self._replace(self.codes[places, :, :frames], lengths, self.num_samples[places])

    def crop(self, start: int, stop: int) -> "SpeechTokens":
        """The frames from ``start`` up to ``stop`` of each utterance: a piece of speech, to write between texts.

        An utterance that ends before has fewer, or none. :meth:`join` puts pieces together again.

        Raises:
            TokensError: not ``0 <= start <= stop <= T``.
        """
        frames, start, stop = self.codes.shape[2], _whole("start", start), _whole("stop", stop)
        if not 0 <= start <= stop <= frames:
            raise TokensError(f"the frames {start} to {stop} are asked for; expected some of 0 to {frames}, in order")
        lengths = self.lengths.clamp(start, stop) - start
        num_samples = (self.num_samples - start * self.hop_length).clamp_min(0).minimum(lengths * self.hop_length)
        return self._replace(self.codes[:, :, start:stop], lengths, num_samples)

    @classmethod
    def join(cls, pieces: Iterable["SpeechTokens"]) -> "SpeechTokens":
        """Pieces of one utterance, each a batch of one, in order: inverse of :meth:`crop`.

        Raises:
            TokensError: there are none, or they are no batches of one, of one tokenizer and with as many codebooks; or
                one that another follows ends within a frame.
        """
        try:
            pieces = iter(pieces)  # a batch too, of the pieces of one utterance
        except TypeError as error:
            raise TokensError(f"pieces is a {type(pieces).__name__}; expected a list of SpeechTokens") from error
        pieces = list(pieces)
        if not pieces:
            raise TokensError("there are no pieces to join; expected one at least")
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
        return first._replace(codes, lengths, num_samples)

    def to(self, device: torch.device | str) -> "SpeechTokens":
        """The same tokens on another device.

        Raises:
            TokensError: there is no such device here.
        """
        try:
            moved = self.codes.to(device), self.lengths.to(device), self.num_samples.to(device)
        except (RuntimeError, AssertionError, TypeError, ImportError) as error:  # backends that are not installed
            reason = str(error).partition("\n")[0]
            raise TokensError(f"device is {device!r} ({reason}); expected one that is here, such as 'cpu'") from error
        return self._replace(*moved)

    def _replace(self, codes: Tensor, lengths: Tensor, num_samples: Tensor) -> "SpeechTokens":
        return SpeechTokens(
            codes, lengths, num_samples, self.sample_rate, self.hop_length, self.codebook_size, self.fingerprint
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file: ``codes`` as int16, ``lengths``, ``num_samples``, and the rest as metadata.

        Raises:
            OutputError: the file cannot be written; what stood at ``path`` is untouched.
        """
        facts = {
            "sample_rate": self.sample_rate,
            "hop_length": self.hop_length,
            "codebook_size": self.codebook_size,
            "fingerprint": self.fingerprint,
        }
        tensors = {
            "codes": self.codes.to("cpu", torch.int16).contiguous(),
            "lengths": self.lengths.cpu().contiguous(),
            "num_samples": self.num_samples.cpu().contiguous(),
        }
        metadata = {"format": _FORMAT, "tokens": json.dumps(facts), "digest": _digest(facts, tensors)}
        data = safetensors.torch.save(tensors, metadata=metadata)
        with replacing(path) as temporary:
            temporary.write_bytes(data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SpeechTokens":
        """Read what :meth:`save` wrote.

        Raises:
            MissingFileError: there is no such file.
            TokensError: the file is damaged or is no tokens file.
        """
        path = as_path(path)
        if not os.path.exists(path):
            raise MissingFileError(f"{path} does not exist; check the path")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                # copies: what safetensors gives lies in the file, which may change or be cut
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118, not a dict
            if metadata.get("format") != _FORMAT:
                raise TokensError(
                    f"{path} has the format {metadata.get('format')!r}; expected a file that SpeechTokens.save wrote"
                )
            facts: dict[str, Any] = json.loads(metadata["tokens"])
            if _digest(facts, tensors) != metadata["digest"]:
                raise TokensError(
                    f"{path} is damaged: its digest is not {metadata['digest']}; make it again with encode"
                )
            return cls(tensors["codes"].to(torch.int64), tensors["lengths"], tensors["num_samples"], **facts)
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise TokensError(f"{path} cannot be read as tokens ({error}); make it again with encode") from error


def _digest(facts: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """A short hash of what a tokens file says: one flipped bit in it would be another word."""
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
    raise TokensError(f"{name} is {value!r}; expected a whole number")


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
