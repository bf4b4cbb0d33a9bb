"""Turn detection on codes: who speaks, and whether the turn is over, for each frame, without lookahead."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from speechtok.checkpoint import check_weights
from speechtok.errors import (
    CheckpointError,
    ConfigError,
    FingerprintError,
    MissingFileError,
    StreamError,
    TokensError,
    quoted,
)
from speechtok.files import replacing
from speechtok.fingerprints import NAMED_TOKENIZERS
from speechtok.limits import MAX_FINGERPRINT
from speechtok.mapping import from_mapping, to_mapping
from speechtok.nn.inference import inference
from speechtok.nn.native.cache import NativeCache
from speechtok.nn.native.library import is_faster
from speechtok.nn.native.steps import NativeTurns
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.nn.skip_init import SkipInit
from speechtok.nn.state import pack_state, unpack_state
from speechtok.nn.turns import OUTPUTS, TurnNetwork, probabilities
from speechtok.parsing import ParseError, parse_json
from speechtok.tokens import SpeechTokens, check_codes
from speechtok.version import __version__

FILE_NAME = "turns.safetensors"
"""Name of the file of a turn detector, beside the weights of its tokenizer."""

FORMAT = "speechtok-turns-1"
"""Value of ``format`` in the file's metadata."""

TRAIN = "train one: python -m training.events --config training/configs/events.yaml tokenizer=DIR"

_PIECE_FRAMES = 512
"""Frames per call of the network, over all rows: memory stays bounded."""


class TurnProbabilities(NamedTuple):
    """Probabilities of each frame, float32 ``(B, T)`` in [0, 1]; 0 where a row has no frame.

    Attributes:
        speech: that somebody speaks.
        end_of_turn: that the silence that the frame lies in ends the turn. It is low while somebody speaks, and some
            seconds after the last speech.
        overlap: that two talkers speak.
    """

    speech: Tensor
    end_of_turn: Tensor
    overlap: Tensor


@dataclass(frozen=True)
class TurnConfig:
    """Architecture of a turn detector.

    Attributes:
        latent_dim: width of the tokenizer's latent.
        dim: width of the blocks.
        depth: number of blocks.
        kernel_size: frames that one block sees, its own included.
        expansion: hidden width of a block, in multiples of its width.
    """

    latent_dim: int = 96
    dim: int = 64
    depth: int = 4
    kernel_size: int = 25
    expansion: int = 2

    def __post_init__(self) -> None:
        largest = {"latent_dim": 65_536, "dim": 1_024, "depth": 64, "kernel_size": 1_024, "expansion": 16}
        for name, maximum in largest.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= maximum:
                raise ConfigError(f"{name} is {quoted(value)}; expected a whole number from 1 to {maximum}")

    @property
    def receptive_field(self) -> int:
        """Frames that a probability depends on, its own included."""
        return 1 + self.depth * (self.kernel_size - 1)

    def make(self) -> TurnNetwork:
        """A network with random weights."""
        return TurnNetwork(self.latent_dim, self.dim, self.depth, self.kernel_size, self.expansion)


class CodesOwner(Protocol):
    """A tokenizer whose codes a detector can read: one of the ``convnext`` family."""

    quantizer: ResidualQuantizer

    @property
    def fingerprint(self) -> str:
        """See :attr:`speechtok.Tokenizer.fingerprint`."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def made(self, fingerprint: str) -> bool:
        """See :meth:`speechtok.Tokenizer.made`."""


class TurnDetector:
    """Detects speech, ends of turns and overlapping speech on the codes of one tokenizer.

    The probabilities of a frame depend on the codes of this frame and of the last ones before it, so they come with the
    codes. They are the same, bit for bit, for a whole utterance and for chunks of any sizes, in any batch, on any
    number of threads and on any processor. Any number of codebooks works; more make noisy speech clearer.

    Args:
        tokenizer: a tokenizer of the ``convnext`` family.
        path: a file written by ``training.events``; the detector that the package has for the tokenizer by default.

    Raises:
        FingerprintError: the detector was trained on the codes of another tokenizer, or the package has none for this
            one.
        MissingFileError: the file does not exist.
        CheckpointError: the file is damaged.
    """

    def __init__(self, tokenizer: CodesOwner, path: str | os.PathLike[str] | None = None) -> None:
        with _open_file(tokenizer, path) as file:
            self.config, self.network, fingerprint = read_turns(file)
        if not tokenizer.made(fingerprint):
            raise FingerprintError(
                f"{file} detects turns in the codes of tokenizer {fingerprint}, and this is {tokenizer.fingerprint}; "
                f"load the tokenizer that it was trained for, or {TRAIN}"
            )
        if tokenizer.quantizer.codebooks.shape[2] != self.config.latent_dim:
            raise CheckpointError(
                f"{file} expects vectors of {self.config.latent_dim} dimensions, and the tokenizer's have "
                f"{tokenizer.quantizer.codebooks.shape[2]}; {TRAIN}"
            )
        self._tokenizer = tokenizer
        self._native: list[NativeTurns | None] = []  # at most one, once it was looked for

    @property
    def device(self) -> torch.device:
        """Where it computes: the device of the tokenizer."""
        return self._tokenizer.device

    @inference
    def detect(self, tokens: SpeechTokens | Tensor) -> TurnProbabilities:
        """Detect turns in whole utterances.

        Args:
            tokens: result of ``encode``; or bare codes, int64 ``(B, Q, T)``.

        Raises:
            FingerprintError: another tokenizer made the tokens.
            TokensError: the codes are out of range, of wrong dtype or shape, or have too many codebooks.
        """
        if isinstance(tokens, SpeechTokens):
            if not self._tokenizer.made(tokens.fingerprint):
                raise FingerprintError(
                    f"the tokens were made by tokenizer {tokens.fingerprint:.80}, and the detector listens to "
                    f"{self._tokenizer.fingerprint}; encode the audio again with that tokenizer"
                )
            codes, lengths = tokens.codes.to(self.device), tokens.lengths.to(self.device)
        else:
            check_codes(tokens, self._tokenizer.quantizer.codebooks.shape[1])
            codes, lengths = tokens.to(self.device), None
        found, _ = self.advance(codes, self.initial_state(len(codes)))
        if lengths is not None:
            past_end = torch.arange(found.shape[2], device=self.device) >= lengths[:, None]
            found = found.masked_fill(past_end[:, None], 0.0)
        return TurnProbabilities(*found.unbind(1))

    def initial_state(self, batch_size: int) -> Tensor:
        """State before the first frame, ``(B, n)``."""
        self._move()
        return pack_state(self.network.initial_state(batch_size))

    def advance(self, codes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Detect turns in the next frames; as little as possible around the network, for chunks of a stream.

        Args:
            codes: int64 ``(B, Q, T)``, with any number of codebooks from the first.
            state: before the first frame, ``(B, n)``.

        Returns:
            Probabilities ``(B, 3, T)`` of speech, end of turn and overlap, and the next state.

        Raises:
            TokensError: a code is out of range, or there are too many codebooks.
            StreamError: the state is not one of this detector.
        """
        batch, num_codebooks, frames = codes.shape
        if len(state) != batch:
            raise StreamError(f"the state is that of {len(state)} rows; expected {batch}, as the codes have")
        quantizer, parts = self._tokenizer.quantizer, []
        step = max(1, _PIECE_FRAMES // max(1, batch))
        for start in range(0, frames, step):
            some = codes if frames <= step else codes[:, :, start : start + step]
            count = some.shape[2]
            native = self._find_native() if is_faster(batch, count) else None
            if native is not None:
                self._check_number(num_codebooks, native.num_codebooks)
                scores, state = native(some, state, count)
            else:
                self._check_number(num_codebooks, len(quantizer.codebooks))
                check_codes(some, quantizer.codebooks.shape[1])
                scores, unpacked = self.network(quantizer.decode(some), unpack_state(state, self.network))
                state = pack_state(unpacked)
            parts.append(probabilities(scores).view(batch, count, OUTPUTS))
        if not parts:
            return torch.zeros(batch, OUTPUTS, 0, device=codes.device), state
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).transpose(1, 2), state

    def _find_native(self) -> NativeTurns | None:
        """The network in compiled code.

        It is not looked for again: weights that change make another fingerprint, and the tokenizer another detector.
        """
        if not self._native:
            self._native.append(NativeCache(NativeTurns)(self._tokenizer.quantizer, self.network))
        return self._native[0]

    def _check_number(self, num_codebooks: int, maximum: int) -> None:
        if num_codebooks > maximum:
            raise TokensError(
                f"codes has {num_codebooks} codebooks; expected at most {maximum}: pass codes[:, :{maximum}]"
            )

    def _move(self) -> None:
        """Follow the tokenizer to its device."""
        if self.network.head.weight.device != self.device:
            self.network.to(self.device)


def write_turns(path: str | os.PathLike[str], config: TurnConfig, network: TurnNetwork, fingerprint: str) -> None:
    """Write the file of a detector for the codes of the tokenizer with a fingerprint.

    Weights are written as float16: round them first (:func:`round_weights`), so that the file has what was measured.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "speechtok": __version__,
        "tokenizer": fingerprint,
        "config": json.dumps(to_mapping(config)),
    }
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as file:
        file.write(safetensors.torch.save(tensors, metadata))


@torch.no_grad()
def round_weights(network: TurnNetwork) -> TurnNetwork:
    """Round the weights to float16."""
    for tensor in network.parameters():
        tensor.copy_(tensor.half())
    return network


def read_turns(path: str | os.PathLike[str]) -> tuple[TurnConfig, TurnNetwork, str]:
    """Read a file of :func:`write_turns`: the architecture, the network, and the fingerprint of the tokenizer.

    Raises:
        MissingFileError: the file does not exist.
        CheckpointError: the file is damaged, or of a later version.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}; expected a turn detector, {FILE_NAME}: {TRAIN}")
    try:
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata: Mapping[str, Any] = header.get("__metadata__") or {}
    except (safetensors.SafetensorError, ParseError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged ({error!s:.200}); fetch or train it again") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has the format {quoted(metadata.get('format'))}; expected {FORMAT!r}, a turn detector: upgrade "
            "speechtok, or pass the right file"
        )
    fingerprint = metadata.get("tokenizer")
    if not isinstance(fingerprint, str) or len(fingerprint) > MAX_FINGERPRINT:
        raise CheckpointError(f"{path} does not say which tokenizer it belongs to; fetch or train it again")
    try:
        config = from_mapping(TurnConfig, parse_json(str(metadata.get("config")).encode()))
    except (ParseError, ConfigError) as error:
        raise CheckpointError(f"{path} does not describe a turn detector ({error}); fetch or train it again") from error
    if len(tensors) < 6 * config.depth:  # before layers are made for a small file
        raise CheckpointError(f"{path} holds {len(tensors)} tensors for {config.depth} blocks; fetch or train it again")
    with torch.device("meta"), SkipInit():
        network = config.make()
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict(check_weights(expected, tensors, path, "cpu"), assign=True)
    return config, network.eval().requires_grad_(False), fingerprint


@contextmanager
def _open_file(tokenizer: CodesOwner, path: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The given file, or the one that the package has for a tokenizer."""
    if path is not None:
        yield Path(path)
        return
    quantizer: Any = getattr(tokenizer, "quantizer", None)
    if not isinstance(quantizer, ResidualQuantizer):
        raise FingerprintError(
            f"{type(tokenizer).__name__} has no turn detector; expected speechtok's own tokenizer, speechtok.load()"
        )
    names = []
    for name, folder in NAMED_TOKENIZERS.items():
        with resources.as_file(resources.files("speechtok") / "assets" / folder / FILE_NAME) as file:
            if not file.is_file():
                continue
            _, _, fingerprint = read_turns(file)
            if tokenizer.made(fingerprint):
                yield file
                return
            names.append(f"{name} ({fingerprint})")
    raise FingerprintError(
        f"there is no turn detector for tokenizer {tokenizer.fingerprint}; expected {' or '.join(names) or 'none'}: "
        f"{TRAIN}"
    )
