"""The interface of all tokenizers: waveform to tokens and back."""

import itertools
import math
import os
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from speechtok.audio import as_waveform, check_lengths, check_sample_rate
from speechtok.auto_classes import add_auto_classes
from speechtok.card import fill_card
from speechtok.checkpoint import Description, write_checkpoint
from speechtok.errors import FingerprintError, InputError, StreamError, TokensError, quoted
from speechtok.fingerprints import canonical_fingerprint
from speechtok.hashing import hash_tensors
from speechtok.hub import check_repository_name, upload_folder
from speechtok.nn.inference import enter_process, inference
from speechtok.nn.weight_cache import WeightCache
from speechtok.resampling import resample, resampled_length
from speechtok.streaming import Stream
from speechtok.tokens import SpeechTokens, check_codes


class Tokenizer(nn.Module, ABC):
    """Base class of all tokenizers; :func:`speechtok.load` returns a trained one."""

    config: Any
    """Architecture. Its ``to_dict()`` is saved; ``codes_dict()`` and ``decoder_dict()`` enter the fingerprints."""

    why_no_stream = "its model takes whole utterances"
    """Reason in the error message of :meth:`stream`."""

    tensor_names: ClassVar[Mapping[str, str]] = {}
    """Names of tensors in files by their names in ``state_dict()``, with ``{}`` for a number; equal where not listed.

    Files and fingerprints use these names, so that code can be renamed.
    """

    decoder_prefix = "decoder."
    """Start of the names of tensors that do not affect codes."""

    weight_dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32,)
    """Types in which the weights can be held. Computation is in float32 with any of them."""

    def __init__(self) -> None:
        super().__init__()
        enter_process()
        self._aliases: tuple[str, ...] = ()
        self._aliased = ""  # fingerprint of the codes that the aliases belong to
        self._forget_fingerprints()

    @property
    def sample_rate(self) -> int:
        """Sample rate of decoded waveforms, in hertz."""
        return int(self.config.sample_rate)

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return int(self.config.hop_length)

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks ``Q``."""
        return int(self.config.num_codebooks)

    @property
    def codebook_size(self) -> int:
        """Entries ``N`` of each codebook."""
        return int(self.config.codebook_size)

    @property
    def frame_rate(self) -> float:
        """Frames per second, in hertz."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate(self) -> float:
        """Bits per second of all codebooks, at ``log2(N)`` bits a code."""
        return self.frame_rate * self.num_codebooks * math.log2(self.codebook_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @property
    def fingerprint(self) -> str:
        """Short hash of encoder, codebooks and their configuration.

        Tokenizers with equal fingerprints give equal codes. Tokens carry the fingerprint of the tokenizer that made
        them; any decoder for the same codes decodes them.
        """
        return self._fingerprint(self._hash_codes, *self.parameters(), *self.buffers())

    @property
    def decoder_fingerprint(self) -> str:
        """Short hash of the decoder and its configuration."""
        return self._decoder_fingerprint(self._hash_decoder, *self.parameters(), *self.buffers())

    @property
    def version_1_fingerprint(self) -> str:
        """Fingerprint of the whole tokenizer, as versions before 0.2 computed it."""
        return self._version_1_fingerprint(self._hash_all, *self.parameters(), *self.buffers())

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other fingerprints of the same codes, from before a decoder was replaced or from versions before 0.2."""
        return self._aliases if self._aliased == self.fingerprint else ()  # the weights have changed since

    def add_aliases(self, fingerprints: Iterable[str]) -> None:
        """Add to :attr:`aliases`; they hold until encoder or codebooks change."""
        known = dict.fromkeys((*self.aliases, *fingerprints))
        self._aliased = self.fingerprint
        known.pop(self._aliased, None)
        self._aliases = tuple(known)

    def made(self, fingerprint: str) -> bool:
        """Whether tokens with this fingerprint are codes of this tokenizer."""
        return (
            canonical_fingerprint(fingerprint) == self.fingerprint
            or fingerprint in self.aliases
            or fingerprint == self.version_1_fingerprint
        )

    def named_tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by their names in files."""
        return {self._name_in_file(name): tensor for name, tensor in self.state_dict().items()}

    def load_named_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take tensors by their names in files, without a copy; inverse of :meth:`named_tensors`."""
        names = {self._name_in_file(name): name for name in self.state_dict()}
        self.load_state_dict({names[name]: tensor for name, tensor in tensors.items()}, assign=True)

    def forward(
        self, waveform: Any, sample_rate: int, lengths: Any = None, num_codebooks: int | None = None
    ) -> SpeechTokens:
        """The same as :meth:`encode`, for code that calls modules."""
        return self.encode(waveform, sample_rate, lengths, num_codebooks)

    @inference
    def encode(
        self, waveform: Any, sample_rate: int, lengths: Any = None, num_codebooks: int | None = None
    ) -> SpeechTokens:
        """Turn audio into tokens.

        Args:
            waveform: tensor or array, ``(S,)`` or ``(B, S)``: floating point in [-1, 1], or PCM as int16, int32 or
                uint8. Rows are utterances: average the channels of stereo audio first, as
                :func:`~speechtok.read_audio` does.
            sample_rate: of ``waveform``, in hertz; audio at other rates than the tokenizer's is resampled.
            lengths: ``(B,)``, samples of each row of ``waveform`` that are not padding; all of them by default.
            num_codebooks: codebooks to keep, from the first; all by default.

        Returns:
            Tokens of ``T = ceil(S / hop_length)`` frames. The last, partial frame of an utterance is completed with
            silence.

        Raises:
            AudioError: the waveform, its rate or the lengths cannot be used.
            InputError: ``num_codebooks`` is out of range.
        """
        self._check_whole()
        x = as_waveform(waveform, lengths=lengths)
        sample_rate = check_sample_rate(sample_rate)
        num_codebooks = self._check_num_codebooks(num_codebooks, self.num_codebooks)
        samples = check_lengths(lengths, x.shape[0], x.shape[1])
        if sample_rate != self.sample_rate:
            # each utterance alone: a row's padding must not reach its last samples through the filter
            rows = [
                resample(row[None, :n], sample_rate, self.sample_rate)[0] for row, n in zip(x, samples, strict=True)
            ]
            samples = [resampled_length(n, sample_rate, self.sample_rate) for n in samples]
            x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        x = x.to(self.device)
        num_samples = torch.tensor(samples, device=self.device)
        frames = -(-num_samples // self.hop_length)
        codes = self._encode(x[:, : max(samples)], samples, num_codebooks)
        past_end = torch.arange(codes.shape[2], device=self.device) >= frames[:, None]
        codes.masked_fill_(past_end[:, None], 0)
        return self._tokens(codes, frames, num_samples)

    @inference
    def decode(self, tokens: SpeechTokens | Tensor, num_codebooks: int | None = None) -> Tensor:
        """Turn tokens into audio.

        Args:
            tokens: result of :meth:`encode`; or bare codes, int64 ``(B, Q, T)``, as a language model writes them.
            num_codebooks: codebooks to use, from the first; all codebooks of the tokens by default.

        Returns:
            float32 ``(B, S)`` at :attr:`sample_rate`: ``S`` is the number of samples of the longest utterance, and
            samples past an utterance's end are 0. Bare codes give ``T * hop_length`` samples.

        Raises:
            TokensError: the codes are out of range, of wrong dtype or shape, or have too many codebooks.
            FingerprintError: another tokenizer made the tokens.
            InputError: ``num_codebooks`` is out of range.
        """
        tokens, num_codebooks = self._as_own(tokens, num_codebooks)
        tokens = tokens.to(self.device)
        if len(tokens) == 0 or tokens.codes.shape[2] == 0:
            return torch.zeros(len(tokens), 0, device=self.device)
        codes = tokens.codes[:, :num_codebooks]
        samples = tokens.num_samples.tolist()
        waveform = self._decode(codes, tokens.lengths)[:, : max(samples)]
        if self.device.type == "cpu":
            for row, n in zip(waveform, samples, strict=True):  # a mask takes longer
                row[n:] = 0.0
        else:  # a launch for each row takes longer
            places = torch.arange(waveform.shape[1], device=waveform.device)
            waveform.masked_fill_(places >= tokens.num_samples[:, None], 0.0)
        return waveform

    @inference
    def embed(self, tokens: SpeechTokens | Tensor, num_codebooks: int | None = None) -> Tensor:
        """Turn tokens into vectors, for models that listen through an adapter (:class:`speechtok.lm.SpeechAdapter`).

        Args:
            tokens: result of :meth:`encode`; or bare codes, int64 ``(B, Q, T)``.
            num_codebooks: codebooks to use, from the first; all codebooks of the tokens by default.

        Returns:
            Sums of the codes' vectors, float32 ``(B, T, D)``; frames past an utterance's length are 0.

        Raises:
            TokensError, FingerprintError, InputError: as :meth:`decode`.
        """
        tokens, num_codebooks = self._as_own(tokens, num_codebooks)
        tokens = tokens.to(self.device)
        vectors = self._embed(tokens.codes[:, :num_codebooks])
        past_end = torch.arange(vectors.shape[1], device=self.device) >= tokens.lengths[:, None]
        return vectors.masked_fill(past_end[..., None], 0.0)

    def stream(self, batch_size: int = 1, num_codebooks: int | None = None, sample_rate: int | None = None) -> Stream:
        """Open a stream, which encodes and decodes piece by piece, if the tokenizer can.

        Raises:
            StreamError: the tokenizer cannot stream.
        """
        raise StreamError(
            f"{type(self).__name__} cannot stream: {self.why_no_stream}; encode whole utterances, or stream with "
            "speechtok's own tokenizer, speechtok.load()"
        )

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``directory``, for :func:`speechtok.load`.

        Raises:
            OutputError: the files cannot be written.
        """
        description = Description(self.config.to_dict(), self.fingerprint, self.decoder_fingerprint, self.aliases)
        write_checkpoint(directory, description, self.named_tensors())

    def push_to_hub(self, name: str, revision: str | None = None, private: bool = False) -> str:
        """Upload to the Hugging Face hub with a model card, for ``speechtok.load(name)`` (the ``lm`` extra).

        Args:
            name: repository, ``org/name``; it is created if it does not exist.
            revision: branch to write to, created if it does not exist; the main branch by default.
            private: whether a new repository is private.

        Returns:
            The address of the commit.

        Raises:
            InputError: the name is not one of a repository.
            OutputError: not logged in, not allowed, or the hub cannot be reached.
        """
        check_repository_name(name)
        with tempfile.TemporaryDirectory() as directory:
            self.save(directory)
            add_auto_classes(Path(directory), self.sample_rate)
            Path(directory, "README.md").write_text(self._card(name), encoding="utf-8")
            return upload_folder(directory, name, f"speechtok {self.fingerprint}", revision, private)

    def _card(self, name: str) -> str:
        """The model card, for a repository ``name``."""
        return fill_card(
            {
                "name": name,
                "family": self.config.family,
                "fingerprint": self.fingerprint,
                "sample_rate": self.sample_rate,
                "frame_rate": f"{self.frame_rate:g}",
                "num_codebooks": self.num_codebooks,
                "codebook_size": self.codebook_size,
                "kbits": f"{self.bitrate / 1000:.2f}",
                "parameters": f"{sum(tensor.numel() for tensor in self.state_dict().values()):,}",
            }
        )

    @torch.no_grad()
    def round_weights(self) -> "Tokenizer":
        """Round all weights to float16, so that :meth:`save` writes half as many bytes.

        This may change codes and fingerprints, which ``tok.half()`` never does. The weights stay in their dtype.
        """
        for tensor in self._float_tensors():
            tensor.copy_(tensor.half())
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Tokenizer":
        fn = self._without_rounding(fn)
        self._forget_fingerprints()  # a conversion changes the weights without raising their versions
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _without_rounding(self, fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """``fn``, a conversion; without its change of dtype if that would change what the weights compute."""
        tensors = self._float_tensors()
        if not tensors:
            return fn
        converted = fn(tensors[0].new_empty(0))
        dtype, device = converted.dtype, converted.device
        if all(tensor.dtype == dtype for tensor in tensors) or self._fits(dtype, tensors):
            return fn
        warnings.warn(
            f"the tokenizer keeps its weights in {tensors[0].dtype}: {dtype} would change its codes. Leave its dtype "
            "as it is, and convert the modules around it",
            stacklevel=4,  # where `tok.to` is called
        )
        return lambda tensor: tensor.to(device) if tensor.is_floating_point() else fn(tensor)

    def _fits(self, dtype: torch.dtype, tensors: list[Tensor]) -> bool:
        return dtype in self.weight_dtypes and all(torch.equal(t.to(dtype).to(t.dtype), t) for t in tensors)

    def _float_tensors(self) -> list[Tensor]:
        tensors = (*self.parameters(), *self.buffers())
        return [tensor for tensor in tensors if tensor.is_floating_point() and not tensor.is_meta]

    def __prepare_scriptable__(self) -> None:
        """Called by ``torch.jit.script``."""
        raise InputError(
            f"{type(self).__name__} cannot be compiled to TorchScript: it computes in compiled code of its own; call "
            "it from Python, and script the modules around it"
        )

    def _check_whole(self) -> None:
        if getattr(self, "_is_replica", False):
            raise InputError(
                f"{type(self).__name__} is a copy made by torch.nn.DataParallel, which has no weights of its own; "
                "load one tokenizer per device, each in a process or thread of its own"
            )

    def _forget_fingerprints(self) -> None:
        self._fingerprint: WeightCache[str] = WeightCache()
        self._decoder_fingerprint: WeightCache[str] = WeightCache()
        self._version_1_fingerprint: WeightCache[str] = WeightCache()

    def _hash_codes(self, *_: Tensor) -> str:
        tensors = {k: v for k, v in self.named_tensors().items() if not k.startswith(self.decoder_prefix)}
        return hash_tensors({"codes": self.config.codes_dict()}, tensors)

    def _hash_decoder(self, *_: Tensor) -> str:
        tensors = {k: v for k, v in self.named_tensors().items() if k.startswith(self.decoder_prefix)}
        return hash_tensors({"decoder": self.config.decoder_dict()}, tensors)

    def _hash_all(self, *_: Tensor) -> str:
        return hash_tensors(self.config.to_dict(), self.named_tensors())

    def _name_in_file(self, name: str) -> str:
        """Name in files of a tensor with this name in ``state_dict()``."""
        if not self.tensor_names:
            return name
        parts = name.split(".")
        numbers = [part for part in parts if part.isdigit()]
        pattern = ".".join("{}" if part.isdigit() else part for part in parts)
        return self.tensor_names.get(pattern, pattern).format(*numbers)

    @abstractmethod
    def _encode(self, x: Tensor, samples: list[int], num_codebooks: int) -> Tensor:
        """``x``: ``(B, S)``, 0 past the ``samples`` of each row. Codes ``(B, Q, T)``, any values past a row's end."""

    @abstractmethod
    def _decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """``codes``: ``(B, Q, T)``, of which ``lengths`` frames count. Waveform ``(B, T * hop_length)``."""

    @abstractmethod
    def _embed(self, codes: Tensor) -> Tensor:
        """``codes``: ``(B, Q, T)``. The sums of their vectors, ``(B, T, D)``."""

    def _as_own(self, tokens: SpeechTokens | Tensor, num_codebooks: int | None) -> tuple[SpeechTokens, int]:
        """Check that this tokenizer can decode the tokens; return them, and how many codebooks to use."""
        self._check_whole()
        if isinstance(tokens, Tensor):
            check_codes(tokens, self.codebook_size)
            batch, _, frames = tokens.shape
            lengths = torch.full((batch,), frames, device=tokens.device)
            tokens = self._tokens(tokens, lengths, lengths * self.hop_length)
        if not isinstance(tokens, SpeechTokens):
            raise TokensError(
                f"tokens is a {type(tokens).__name__}; expected SpeechTokens or a tensor of codes (B, Q, T)"
            )
        if not self.made(tokens.fingerprint):
            raise FingerprintError(
                f"the tokens were made by tokenizer {tokens.fingerprint:.80}, and this is {self.fingerprint}; "
                "decode them with the tokenizer that made them, or one with its encoder and codebooks"
            )
        if (tokens.sample_rate, tokens.hop_length, tokens.codebook_size) != (
            self.sample_rate,
            self.hop_length,
            self.codebook_size,
        ):
            raise TokensError(
                f"the tokens say sample_rate {tokens.sample_rate}, hop_length {tokens.hop_length} and codebook_size "
                f"{tokens.codebook_size}; expected {self.sample_rate}, {self.hop_length} and {self.codebook_size}, "
                "as the tokenizer that made them has: make them again with encode"
            )
        if tokens.num_codebooks > self.num_codebooks:
            raise TokensError(
                f"the tokens have {tokens.num_codebooks} codebooks; expected at most {self.num_codebooks}: "
                "pass codes[:, :Q]"
            )
        return tokens, self._check_num_codebooks(num_codebooks, tokens.num_codebooks)

    def _tokens(self, codes: Tensor, lengths: Tensor, num_samples: Tensor) -> SpeechTokens:
        return SpeechTokens(
            codes, lengths, num_samples, self.sample_rate, self.hop_length, self.codebook_size, self.fingerprint
        )

    def _check_num_codebooks(self, num_codebooks: int | None, maximum: int) -> int:
        if num_codebooks is None:
            return maximum
        whole = isinstance(num_codebooks, (int, np.integer)) and not isinstance(num_codebooks, bool)
        if not whole or not 1 <= num_codebooks <= maximum:
            raise InputError(f"num_codebooks is {quoted(num_codebooks)}; expected 1 to {maximum}")
        return int(num_codebooks)


class UtteranceTokenizer(Tokenizer):
    """A tokenizer that computes each utterance of a batch alone, so that its codes do not depend on the others."""

    @abstractmethod
    def encode_one(self, x: Tensor, num_codebooks: int) -> Tensor:
        """``x``: ``(1, S)``. Codes ``(1, Q, T)``, with about ``S / hop_length`` frames."""

    @abstractmethod
    def decode_one(self, codes: Tensor) -> Tensor:
        """``codes``: ``(1, Q, T)``. Waveform ``(1, …, S)``, with about ``T * hop_length`` samples."""

    def _encode(self, x: Tensor, samples: list[int], num_codebooks: int) -> Tensor:
        codes = x.new_zeros(len(x), num_codebooks, -(-max(samples) // self.hop_length), dtype=torch.int64)
        for row, n, kept in zip(x, samples, codes, strict=True):
            some = self.encode_one(row[None, :n], num_codebooks)[0, :, : codes.shape[2]]
            kept[:, : some.shape[1]] = some
        return codes

    def _decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        shape = len(codes), codes.shape[2] * self.hop_length
        waveform = torch.zeros(shape, dtype=torch.float32, device=self.device)
        for row, n, kept in zip(codes, lengths.tolist(), waveform, strict=True):
            if n:
                audio = self.decode_one(row[None, :, :n]).flatten()[: n * self.hop_length]
                kept[: len(audio)] = audio
        return waveform
