"""The ``convnext`` family: patches of waveform, causal ConvNeXt blocks at two rates, and the same backwards.

Nothing runs at sample rate. A *patch* is the finer step (5 ms by default), a *frame* the step of the token grid. Every
module is causal and takes and returns its state, so a signal in pieces and the signal whole are the same arithmetic.
"""

import functools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.nn.exact import ExactLinear, is_compiling
from speechtok.nn.noise import BandNoise

State = tuple[Tensor, ...]
"""What a module remembers of the signal so far; each tensor has the batch first."""


def hann_window(length: int, device: torch.device) -> Tensor:
    """Hann window, periodic, float32 ``(length,)``; rounded from float64, where processors may differ in last bits."""
    return _cpu_window(length).to(device) if is_compiling() else _device_window(length, device)


@functools.cache
def _device_window(length: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept for whoever comes next, to train on it perhaps
        return _cpu_window(length).to(device)


@functools.cache
def _cpu_window(length: int) -> Tensor:
    with torch.inference_mode(False):
        return torch.hann_window(length, dtype=torch.float64, device="cpu").float()


class BlockStack(nn.Module):
    """``depth`` ConvNeXt blocks, one after the other, at one rate."""

    def __init__(self, dim: int, depth: int, kernel_size: int, expansion: int) -> None:
        super().__init__()
        blocks = [CausalConvNeXtBlock(dim, kernel_size, expansion) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        with torch.no_grad():
            for block in blocks:  # the sum of the branches starts as loud as the input
                block.contract.weight.mul_((2 * depth) ** -0.5)
                block.contract.bias.zero_()

    def initial_state(self, batch_size: int) -> State:
        """State before the first frame."""
        return tuple(cast(CausalConvNeXtBlock, block).initial_state(batch_size) for block in self.blocks)

    def forward(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """``x``: ``(B, T, D)``. Returns ``(B, T, D)`` and the next state."""
        states = []
        for block, past in zip(self.blocks, state, strict=True):
            x, past = block(x, past)
            states.append(past)
        return x, tuple(states)


class ConvNeXtEncoder(nn.Module):
    """Waveform to latent, without lookahead: frame ``t`` depends on no sample after ``(t + 1) * hop_length``.

    Args:
        patch_dim: width at the patch rate.
        patch_depth: blocks at the patch rate.
        frame_dim: width at the frame rate.
        frame_depth: blocks at the frame rate.
        kernel_size: frames (or patches) that one block sees, its own included.
        expansion: hidden width of a block, in multiples of its width.
        hop_length: samples per frame.
        patch_length: samples per patch.
        window_length: samples that one patch sees, its own last.
        latent_dim: width ``D`` of the latent.
    """

    GAIN = 8.0  # scales speech of typical loudness to about unit variance

    def __init__(
        self,
        patch_dim: int,
        patch_depth: int,
        frame_dim: int,
        frame_depth: int,
        kernel_size: int,
        expansion: int,
        hop_length: int,
        patch_length: int,
        window_length: int,
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.patch_length, self.window_length = patch_length, window_length
        self.patches_per_frame = hop_length // patch_length
        self.embed = ExactLinear(window_length, patch_dim, fine=True)
        self.patch_blocks = BlockStack(patch_dim, patch_depth, kernel_size, expansion)
        self.merge = ExactLinear(self.patches_per_frame * patch_dim, frame_dim)
        self.frame_blocks = BlockStack(frame_dim, frame_depth, kernel_size, expansion)
        self.project = ExactLinear(frame_dim, latent_dim, normed=True)

    def initial_state(self, batch_size: int) -> State:
        """State before the first sample."""
        shape, device = (batch_size, self.window_length - self.patch_length), self.embed.weight.device
        past = torch.zeros(shape, dtype=torch.float32, device=device)
        return (past, *self.patch_blocks.initial_state(batch_size), *self.frame_blocks.initial_state(batch_size))

    def forward(self, waveform: Tensor, state: State) -> tuple[Tensor, State]:
        """``waveform``: ``(B, T * hop_length)``. Returns the latent ``(B, T, D)`` and the next state."""
        past, *rest = state
        split = len(self.patch_blocks.blocks)
        batch, frames = waveform.shape[0], waveform.shape[1] // (self.patches_per_frame * self.patch_length)
        samples = torch.cat([past, waveform * self.GAIN], dim=1)
        windows = self._windows(samples).reshape(-1, self.window_length)
        x, patch_state = self.patch_blocks(
            self.embed(windows).view(batch, frames * self.patches_per_frame, -1), rest[:split]
        )
        x = self.merge(x.view(batch * frames, -1))
        x, frame_state = self.frame_blocks(x.view(batch, frames, -1), rest[split:])
        latent = self.project(x.flatten(0, 1)).view(batch, frames, -1)
        return latent, (samples[:, waveform.shape[1] :], *patch_state, *frame_state)

    def _windows(self, samples: Tensor) -> Tensor:
        """The samples that each patch sees, ``(B, P, window_length)``."""
        if not is_compiling() or self.window_length % self.patch_length:
            return samples.unfold(1, self.window_length, self.patch_length)
        patches = samples.view(samples.shape[0], -1, self.patch_length)
        older = self.window_length // self.patch_length - 1
        count = patches.shape[1] - older
        return torch.cat([patches[:, start : start + count] for start in range(older + 1)], dim=2)


class ConvNeXtDecoder(nn.Module):
    """Latent to waveform, late by one frame: given frame ``t``, it writes the samples of frame ``t - 1``.

    The head writes overlapping, windowed pieces of two patches each, and a number whose square is the piece's gain: a
    product with a vector of constant length, rounded, would never be quite silent otherwise. With ``noise_bands``, it
    also writes the gains of noise in frequency bands (:class:`~speechtok.nn.noise.BandNoise`).

    The part of a patch that its neighbour adds, and what the blocks learn from the next frame, fit in that one frame:
    it is the whole lookahead of the decoder.

    Args:
        latent_dim: width ``D`` of the latent.
        noise_bands: frequency bands of noise; 0 for none.
        sample_rate: in hertz, for the bands; the other arguments are those of :class:`ConvNeXtEncoder`.
    """

    def __init__(
        self,
        patch_dim: int,
        patch_depth: int,
        frame_dim: int,
        frame_depth: int,
        kernel_size: int,
        expansion: int,
        hop_length: int,
        patch_length: int,
        latent_dim: int,
        noise_bands: int = 0,
        sample_rate: int = 16_000,
    ) -> None:
        super().__init__()
        self.patches_per_frame = hop_length // patch_length
        self.patch_length = patch_length
        self.project = ExactLinear(latent_dim, frame_dim)
        self.frame_blocks = BlockStack(frame_dim, frame_depth, kernel_size, expansion)
        self.split = ExactLinear(frame_dim, self.patches_per_frame * patch_dim)
        self.patch_blocks = BlockStack(patch_dim, patch_depth, kernel_size, expansion)
        self.head = ExactLinear(patch_dim, 2 * patch_length + 1 + noise_bands, normed=True, fine=True)
        self.noise = BandNoise(noise_bands, patch_length, sample_rate) if noise_bands else None
        piece = 2 * patch_length
        _cpu_window(piece)  # a program that is exported finds it, and cannot make it
        nn.init.normal_(self.head.weight, std=0.1 * patch_dim**-0.5)  # the first output is as quiet as speech
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight[piece].zero_()
            self.head.bias[piece] = 1.0
            self.head.bias[piece + 1 :] = 0.35  # about -60 dB of noise

    def initial_state(self, batch_size: int) -> State:
        """State before the first frame."""
        tail = torch.zeros(batch_size, self.patch_length, dtype=torch.float32, device=self.head.weight.device)
        state = tail, *self.frame_blocks.initial_state(batch_size), *self.patch_blocks.initial_state(batch_size)
        return state if self.noise is None else (*state, self.noise.initial_position(batch_size))

    def forward(self, latent: Tensor, state: State) -> tuple[Tensor, State]:
        """``latent``: ``(B, T, D)``. Returns ``(B, T * hop_length)``, one frame late, and the next state."""
        depth = 1 + len(self.frame_blocks.blocks) + len(self.patch_blocks.blocks)
        patches, blocks = self.hidden(latent, state[1:depth])
        waveform, tail, position = self.synthesize(patches, state[0], state[depth:])
        return waveform, (tail, *blocks, *position)

    def hidden(self, latent: Tensor, state: State) -> tuple[Tensor, State]:
        """``latent``: ``(B, T, D)``. Returns the blocks' output for each patch, ``(B, P, D)``, and their next state."""
        split = len(self.frame_blocks.blocks)
        batch, frames, _ = latent.shape
        x = self.project(latent.flatten(0, 1)).view(batch, frames, -1)
        x, frame_state = self.frame_blocks(x, state[:split])
        x = self.split(x.flatten(0, 1)).view(batch, frames * self.patches_per_frame, -1)
        x, patch_state = self.patch_blocks(x, state[split:])
        return x, (*frame_state, *patch_state)

    def synthesize(self, patches: Tensor, tail: Tensor, position: State) -> tuple[Tensor, Tensor, State]:
        """Write the waveform of patches.

        Args:
            patches: result of :meth:`hidden`, ``(B, P, D)``.
            tail: second half of the last piece, ``(B, patch_length)``.
            position: of the noise, ``(B, 1)``; empty without noise.

        Returns:
            The waveform ``(B, P * patch_length)``, one frame late, the next tail and the next position.
        """
        piece = 2 * self.patch_length
        written = self.head(patches.flatten(0, 1)).view(*patches.shape[:2], -1)
        pieces = written[..., :piece] * written[..., piece : piece + 1].square()
        if self.noise is not None:
            pieces, after = self.noise(pieces, written[..., piece + 1 :], *position)
            position = (after,)
        pieces = pieces * hann_window(piece, pieces.device)
        first, second = pieces.unflatten(2, (2, self.patch_length)).unbind(2)
        late = torch.cat([tail, second.flatten(1)], dim=1)
        return first.flatten(1) + late[:, : -self.patch_length], late[:, -self.patch_length :], position
