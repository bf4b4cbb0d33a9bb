"""Encoder and decoder of either family in the form that optimizers update."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from speechtok.convnext import ConvNeXtTokenizer
from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.nn.seanet import MatmulLayer
from speechtok.seanet import SEANetTokenizer


class Autoencoder(nn.Module, ABC):
    """Encoder and decoder that are trained, with the names that they have in the tokenizer.

    Args:
        tokenizer: gives away its encoder and decoder.
        train_only: ``"encoder"`` or ``"decoder"`` to take one of them; empty for both.
    """

    def __init__(self, tokenizer: ConvNeXtTokenizer | SEANetTokenizer, train_only: str = "") -> None:
        super().__init__()
        if train_only != "decoder":
            self.encoder = tokenizer.encoder
        if train_only != "encoder":
            self.decoder = tokenizer.decoder
        self.train().requires_grad_(True)

    @abstractmethod
    def encode(self, waveform: Tensor) -> Tensor:
        """``waveform``: ``(B, T * hop_length)``, whole utterances or crops. Returns the latent ``(B, T, D)``."""

    @abstractmethod
    def decode(self, latent: Tensor, noise_positions: Tensor | None = None) -> Tensor:
        """Decode a latent.

        Args:
            latent: ``(B, T, D)``.
            noise_positions: for each row, the positions at which the decoder's noise begins in ``V`` decodings,
                ``(B, V)``; for a decoder with noise.

        Returns:
            Waveforms ``(V, B, T * hop_length)``; ``V`` is 1 without positions.
        """

    @abstractmethod
    def muon_parameters(self) -> list[nn.Parameter]:
        """Parameters that Muon updates; AdamW updates the others."""

    @abstractmethod
    def compile_parts(self) -> None:
        """Compile the parts that take most of the time. Parts of one shape are compiled once."""

    def paired_parameters(self, tokenizer: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Pair each trained parameter of ``tokenizer`` with its value here, with weight norm applied."""
        for name, weight in tokenizer.named_parameters():
            if hasattr(self, name.partition(".")[0]):
                yield weight, attrgetter(name)(self)

    @torch.no_grad()
    def load_weights(self, tokenizer: nn.Module) -> None:
        """Copy the weights of ``tokenizer``."""
        for name, weight in tokenizer.named_parameters():
            if hasattr(self, name.partition(".")[0]):
                place, _, leaf = name.rpartition(".")
                module = attrgetter(place)(self)
                if is_parametrized(module, leaf):
                    setattr(module, leaf, weight.detach())
                else:
                    getattr(module, leaf).copy_(weight)


class ConvNeXtAutoencoder(Autoencoder):
    """Autoencoder of the ``convnext`` family."""

    def encode(self, waveform: Tensor) -> Tensor:  # noqa: D102, see Autoencoder
        latent, _ = self.encoder(waveform, self.encoder.initial_state(len(waveform)))
        return latent

    def decode(self, latent: Tensor, noise_positions: Tensor | None = None) -> Tensor:  # noqa: D102
        samples = latent.shape[1] * self.decoder.patches_per_frame * self.decoder.patch_length
        latent = nn.functional.pad(latent, (0, 0, 0, 1))  # flushes the decoder, which lags by one frame
        state = self.decoder.initial_state(len(latent))
        if noise_positions is None:
            return self.decoder(latent, state)[0][None, :, -samples:]
        tail, *blocks = state[:-1]
        patches, _ = self.decoder.hidden(latent, tuple(blocks))
        positions = [(position[:, None].float(),) for position in noise_positions.unbind(1)]
        return torch.stack([self.decoder.synthesize(patches, tail, p)[0][:, -samples:] for p in positions])

    def muon_parameters(self) -> list[nn.Parameter]:
        """The matrices inside the blocks."""
        edges = ("embed.", "project.", "head.")  # these map between the blocks' width and signal or latent
        return [
            parameter
            for name, parameter in self.named_parameters()
            if parameter.ndim == 2 and "conv." not in name and not any(edge in name for edge in edges)
        ]

    def compile_parts(self) -> None:
        """Compile the blocks."""
        for module in self.modules():
            if isinstance(module, CausalConvNeXtBlock):
                module.compile(dynamic=False)  # patches and frames: two shapes


class SEANetAutoencoder(Autoencoder):
    """Autoencoder of the ``seanet`` family, with weight norm (Salimans and Kingma 2016, arXiv 1602.07868)."""

    def __init__(self, tokenizer: SEANetTokenizer, train_only: str = "") -> None:
        super().__init__(tokenizer, train_only)
        for module in list(self.modules()):
            if isinstance(module, MatmulLayer):
                weight_norm(module)

    def encode(self, waveform: Tensor) -> Tensor:  # noqa: D102, see Autoencoder
        return self.encoder(waveform)

    def decode(self, latent: Tensor, noise_positions: Tensor | None = None) -> Tensor:  # noqa: D102
        return self.decoder(latent)[None]

    def muon_parameters(self) -> list[nn.Parameter]:
        """None, as published: weight norm splits each matrix into norms and directions."""
        return []

    def compile_parts(self) -> None:
        """Compile encoder and decoder."""
        self.encoder.compile()
        self.decoder.compile()


def make_autoencoder(tokenizer: ConvNeXtTokenizer | SEANetTokenizer, train_only: str = "") -> Autoencoder:
    """The autoencoder of a tokenizer's family; see :class:`Autoencoder`."""
    kind = SEANetAutoencoder if isinstance(tokenizer, SEANetTokenizer) else ConvNeXtAutoencoder
    return kind(tokenizer, train_only)
