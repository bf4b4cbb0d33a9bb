"""The ``convnext`` family: patches of waveform, causal ConvNeXt blocks at two rates, and the same backwards.

Nothing runs at sample rate. A *patch* is the finer step (5 ms by default), a *frame* the step of the token grid. Every
module is causal and takes and returns its state, so a signal in pieces and the signal whole are the same arithmetic.
"""

from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from speechtok.config import ConvNeXtConfig
from speechtok.nn.convolution import CausalConvNeXtBlock

State = tuple[Tensor, ...]
"""What a module remembers of the signal so far; each tensor has the batch first."""


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

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """``x``: ``(B, T, D)``. Returns ``(B, T, D)`` and the next state."""
        states = []
        for block, past in zip(self.blocks, state, strict=True):
            x, past = block(x, past)
            states.append(past)
        return x, tuple(states)


class Encoder(nn.Module):
    """Waveform to latent, without lookahead: frame ``t`` depends on no sample after ``(t + 1) * hop_length``.

    Args:
        size: widths and depths.
        hop_length: samples a frame.
        patch_length: samples a patch.
        window_length: samples that one patch sees, its own last.
        latent_dim: width ``D`` of the latent.
    """

    GAIN = 8.0  # brings speech at its usual level to about unit variance

    def __init__(
        self, size: ConvNeXtConfig, hop_length: int, patch_length: int, window_length: int, latent_dim: int
    ) -> None:
        super().__init__()
        self.patch_length, self.window_length = patch_length, window_length
        self.patches_per_frame = hop_length // patch_length
        self.embed = nn.Linear(window_length, size.patch_dim)
        self.patch_blocks = BlockStack(size.patch_dim, size.patch_depth, size.kernel_size, size.expansion)
        self.merge = nn.Linear(self.patches_per_frame * size.patch_dim, size.frame_dim)
        self.frame_blocks = BlockStack(size.frame_dim, size.frame_depth, size.kernel_size, size.expansion)
        self.norm = nn.RMSNorm(size.frame_dim, eps=1e-6)
        self.project = nn.Linear(size.frame_dim, latent_dim)

    def initial_state(self, batch_size: int) -> State:
        """State before the first sample."""
        past = self.embed.weight.new_zeros(batch_size, self.window_length - self.patch_length)
        return (past, *self.patch_blocks.initial_state(batch_size), *self.frame_blocks.initial_state(batch_size))

    def forward(self, waveform: Tensor, state: State) -> tuple[Tensor, State]:
        """``waveform``: ``(B, T * hop_length)``. Returns the latent ``(B, T, D)`` and the next state."""
        past, *rest = state
        split = len(self.patch_blocks.blocks)
        samples = torch.cat([past, waveform * self.GAIN], dim=1)
        past = samples[:, waveform.shape[1] :]
        x = self.embed(samples.unfold(1, self.window_length, self.patch_length))
        x, patch_state = self.patch_blocks(x, tuple(rest[:split]))
        x = self.merge(rearrange(x, "b (t p) d -> b t (p d)", p=self.patches_per_frame))
        x, frame_state = self.frame_blocks(x, tuple(rest[split:]))
        return self.project(self.norm(x)), (past, *patch_state, *frame_state)


class Decoder(nn.Module):
    """Latent to waveform, late by one frame: given frame ``t`` it writes the samples of frame ``t - 1``.

    The head writes overlapping, windowed pieces of two patches each. What a patch still lacks of its neighbour, and
    what the blocks learn from the frame to come, both fit in that one frame: the whole lookahead of the decoder.

    Args:
        size: widths and depths.
        hop_length: samples a frame.
        patch_length: samples a patch.
        latent_dim: width ``D`` of the latent.
    """

    window: Tensor

    def __init__(self, size: ConvNeXtConfig, hop_length: int, patch_length: int, latent_dim: int) -> None:
        super().__init__()
        self.patches_per_frame = hop_length // patch_length
        self.patch_length = patch_length
        self.project = nn.Linear(latent_dim, size.frame_dim)
        self.frame_blocks = BlockStack(size.frame_dim, size.frame_depth, size.kernel_size, size.expansion)
        self.split = nn.Linear(size.frame_dim, self.patches_per_frame * size.patch_dim)
        self.patch_blocks = BlockStack(size.patch_dim, size.patch_depth, size.kernel_size, size.expansion)
        self.norm = nn.RMSNorm(size.patch_dim, eps=1e-6)
        self.head = nn.Linear(size.patch_dim, 2 * patch_length)
        self.register_buffer("window", torch.hann_window(2 * patch_length), persistent=False)
        nn.init.normal_(self.head.weight, std=0.1 * size.patch_dim**-0.5)  # the first output is as quiet as speech
        nn.init.zeros_(self.head.bias)

    def initial_state(self, batch_size: int) -> State:
        """State before the first frame."""
        tail = self.window.new_zeros(batch_size, self.patch_length)
        return (tail, *self.frame_blocks.initial_state(batch_size), *self.patch_blocks.initial_state(batch_size))

    def forward(self, latent: Tensor, state: State) -> tuple[Tensor, State]:
        """``latent``: ``(B, T, D)``. Returns ``(B, T * hop_length)``, one frame late, and the next state."""
        tail, *rest = state
        split = len(self.frame_blocks.blocks)
        x, frame_state = self.frame_blocks(self.project(latent), tuple(rest[:split]))
        x = rearrange(self.split(x), "b t (p d) -> b (t p) d", p=self.patches_per_frame)
        x, patch_state = self.patch_blocks(x, tuple(rest[split:]))
        pieces = self.head(self.norm(x)).float() * self.window
        first, second = pieces.chunk(2, dim=-1)
        second = rearrange(second, "b t s -> b (t s)")
        late = torch.cat([tail, second], dim=1)
        waveform = rearrange(first, "b t s -> b (t s)") + late[:, : second.shape[1]]
        return waveform, (late[:, second.shape[1] :], *frame_state, *patch_state)
