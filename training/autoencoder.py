"""Encoder and decoder while they are trained, of either family."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.nn.seanet import MatmulLayer
from speechtok.seanet import SEANetTokenizer
from speechtok.convnext import ConvNeXtTokenizer


class Network(nn.Module, ABC):
    """What the optimizers move. The parts are named as in the tokenizer.

    Args:
        tokenizer: its encoder and decoder are taken, and are its own no more.
        only: take the ``"encoder"`` or the ``"decoder"`` alone.
    """

    def __init__(self, tokenizer: ConvNeXtTokenizer | SEANetTokenizer, only: str = "") -> None:
        super().__init__()
        if only != "decoder":
            self.encoder = tokenizer.encoder
        if only != "encoder":
            self.decoder = tokenizer.decoder
        self.train().requires_grad_(True)

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """``waveform``: ``(B, T * hop_length)``, whole. Returns the latent ``(B, T, D)``."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """``latent``: ``(B, T, D)``, whole. Returns the waveform ``(B, T * hop_length)``."""

    @abstractmethod
    def matrices(self) -> list[nn.Parameter]:
        """Parameters for Muon; AdamW moves the rest."""

    @abstractmethod
    def compile_parts(self) -> None:
        """Compile what most of the time goes into; parts of one shape are compiled once."""

    def beside(self, tokenizer: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Every weight of ``tokenizer`` that is trained here, and the same as it is here, as inference has it."""
        for name, weight in tokenizer.named_parameters():
            if hasattr(self, name.partition(".")[0]):
                yield weight, attrgetter(name)(self)

    @torch.no_grad()
    def continue_from(self, tokenizer: nn.Module) -> None:
        """Take over the weights of ``tokenizer``."""
        for name, weight in tokenizer.named_parameters():
            if hasattr(self, name.partition(".")[0]):
                place, _, leaf = name.rpartition(".")
                module = attrgetter(place)(self)
                if is_parametrized(module, leaf):
                    setattr(module, leaf, weight.detach())
                else:
                    getattr(module, leaf).copy_(weight)


class ConvNeXtNetwork(Network):
    """Of the ``convnext`` family."""

    def encode(self, waveform: Tensor) -> Tensor:  # noqa: D102, see Network
        latent, _ = self.encoder(waveform, self.encoder.initial_state(len(waveform)))
        return latent

    def decode(self, latent: Tensor) -> Tensor:  # noqa: D102
        samples = latent.shape[1] * self.decoder.patches_per_frame * self.decoder.patch_length
        latent = nn.functional.pad(latent, (0, 0, 0, 1))  # the decoder is late by a frame; silence follows the last
        waveform, _ = self.decoder(latent, self.decoder.initial_state(len(latent)))
        return waveform[:, -samples:]

    def matrices(self) -> list[nn.Parameter]:
        """Those inside the network."""
        edges = ("embed.", "project.", "head.")  # matrices between signal or latent and the network's width
        return [
            parameter
            for name, parameter in self.named_parameters()
            if parameter.ndim == 2 and "conv." not in name and not any(edge in name for edge in edges)
        ]

    def compile_parts(self) -> None:
        """The blocks."""
        for module in self.modules():
            if isinstance(module, CausalConvNeXtBlock):
                module.compile(dynamic=False)  # two shapes, each with its own code


class SeanetNetwork(Network):
    """Of the ``seanet`` family: convolutions with weight norm (Salimans and Kingma 2016, arXiv 1602.07868)."""

    def __init__(self, tokenizer: SEANetTokenizer, only: str = "") -> None:
        super().__init__(tokenizer, only)
        for module in list(self.modules()):
            if isinstance(module, MatmulLayer):
                weight_norm(module)

    def encode(self, waveform: Tensor) -> Tensor:  # noqa: D102, see Network
        return self.encoder(waveform)

    def decode(self, latent: Tensor) -> Tensor:  # noqa: D102
        return self.decoder(latent)

    def matrices(self) -> list[nn.Parameter]:
        """None, as published: weight norm has the convolutions' sizes apart."""
        return []

    def compile_parts(self) -> None:
        """Encoder and decoder."""
        self.encoder.compile()
        self.decoder.compile()


def network_of(tokenizer: ConvNeXtTokenizer | SEANetTokenizer, only: str = "") -> Network:
    """The network of a tokenizer's family; see :class:`Network`."""
    kind = SeanetNetwork if isinstance(tokenizer, SEANetTokenizer) else ConvNeXtNetwork
    return kind(tokenizer, only)
