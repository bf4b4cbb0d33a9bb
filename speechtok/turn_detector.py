"""Turn detection on codes: who speaks, and whether the turn is over, for each frame, without lookahead."""

import os
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from speechtok.companions import Companion, Kind, TokenizerIdentity, find_companion, read_companion, write_companion
from speechtok.errors import (
    CheckpointError,
    ConfigError,
    FingerprintError,
    StreamError,
    TokensError,
    quoted,
)
from speechtok.nn.inference import inference
from speechtok.nn.native.cache import NativeCache
from speechtok.nn.native.library import is_faster
from speechtok.nn.native.steps import NativeTurns
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.nn.skip_init import SkipInit
from speechtok.nn.state import pack_state, unpack_state
from speechtok.nn.turns import OUTPUTS, TurnNetwork, probabilities
from speechtok.tokens import SpeechTokens, check_codes

FILE_NAME = "turns.safetensors"
"""Name of the file of a turn detector, beside the weights of its tokenizer."""

TRAIN = "train one: python -m training.events --config training/configs/events.yaml tokenizer=DIR"

KIND = Kind("turn detector", FILE_NAME, "speechtok-turns-1", TRAIN)

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


class CodesOwner(TokenizerIdentity, Protocol):
    """A tokenizer whose codes a detector can read: one of the ``convnext`` family."""

    quantizer: ResidualQuantizer

    @property
    def device(self) -> torch.device:
        """Device of the weights."""


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
        companion = find_companion(tokenizer, KIND, path)
        self.config, self.network = _make(companion)
        if tokenizer.quantizer.codebooks.shape[2] != self.config.latent_dim:
            raise CheckpointError(
                f"{companion.path} expects vectors of {self.config.latent_dim} dimensions, and the tokenizer's have "
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
    write_companion(path, KIND, config, network.state_dict(), fingerprint)


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
    companion = read_companion(path, KIND)
    return *_make(companion), companion.fingerprint


def _make(companion: Companion) -> tuple[TurnConfig, TurnNetwork]:
    config: TurnConfig = companion.config(TurnConfig)
    companion.check_number(6 * config.depth)
    with torch.device("meta"), SkipInit():
        network = config.make()
    companion.load_into(network)
    return config, network.eval().requires_grad_(False)
