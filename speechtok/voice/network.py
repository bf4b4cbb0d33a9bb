"""The network of a voice model: a causal transformer over frames, and a head that writes the latent of a frame.

A frame is generated from what is said now and shortly after it (semantic codes), from how the voice sounded before
(acoustic latents of the frames before it), and from a prompt of the same voice. The transformer runs once a frame; the
head then turns noise into the acoustic latent by a few steps of a flow (Lipman et al. 2023, Flow matching for
generative modeling, arXiv 2210.02747), as in masked autoregressive image models (Li et al. 2024, Autoregressive image
generation without vector quantization, arXiv 2406.11838).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.voice.config import VoiceConfig
from speechtok.voice.style import NUM_STEPS, QUANTITIES

PADDING, PROMPT, TARGET = -1, 0, 1
"""Kinds of frames of a sequence: beyond its end, of the prompt, to be generated."""

CONTOUR_SIZE = 3
"""Numbers that give the pitch of a frame; see :func:`contour_inputs`."""
_CONTOUR_SCALE = 3.0
"""Usual distance of the pitch from its median, in semitones."""
TIME_FREQUENCIES = 32
"""Frequencies that tell the flow its time."""
TIME_HIDDEN = 128
TIME_STEPS = 32
"""Steps of the flow for which the modulation by the time is kept: a flow takes a power of 2 of them."""


class Sequence(NamedTuple):
    """Frames of prompts and of what follows them.

    Attributes:
        semantic: codes of codebook 0, int64 ``(B, T)``.
        acoustic: normalized acoustic latents, ``(B, T, A)``.
        kinds: :data:`PROMPT`, then :data:`TARGET`, then :data:`PADDING`, int64 ``(B, T)``.
        style: of the target, int64 ``(B, 4)``; see :meth:`speechtok.voice.style.Style.steps`.
        contour: ``(B, T, 3)``; see :func:`contour_inputs`. Zeros where it is not given.
    """

    semantic: Tensor
    acoustic: Tensor
    kinds: Tensor
    style: Tensor
    contour: Tensor


class Attention(nn.Module):
    """Multi-head attention whose positions are a bias on the scores, which the caller gives."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter = nn.Linear(dim, 3 * dim, bias=False)
        self.leave = nn.Linear(dim, dim, bias=False)
        self.query_gain = nn.Parameter(torch.full((heads, 1, 1), 8.0))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``x``: ``(B, T, D)``; ``bias``: ``(B, H, T, T)``. Returns ``(B, T, D)``."""
        batch, frames, _ = x.shape
        query, key, value = self.enter(x).view(batch, frames, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key = F.normalize(query, dim=-1) * self.query_gain, F.normalize(key, dim=-1)
        scores = query.to(value.dtype) @ key.to(value.dtype).transpose(2, 3)
        weights = torch.softmax(scores.float() + bias, dim=-1)
        result: Tensor = self.leave((weights.to(value.dtype) @ value).transpose(1, 2).flatten(2))
        return result


class Block(nn.Module):
    """Attention and a gated feed-forward layer (Shazeer 2020, GLU variants, arXiv 2002.05202), each after a norm."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.expand = nn.Linear(dim, 2 * hidden, bias=False)
        self.contract = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """See :meth:`Attention.forward`."""
        x = x + self.attention(rms_norm(x), bias)
        value, gate = self.expand(rms_norm(x)).chunk(2, dim=-1)
        result: Tensor = x + self.contract(value * F.hardswish(gate))
        return result


class FlowHead(nn.Module):
    """Velocity of the flow from noise to the acoustic latent of one frame.

    Layers are modulated by the condition and by the time, as in diffusion transformers (Peebles and Xie 2023, arXiv
    2212.09748). Both are added: that of the condition is computed once a frame, that of the times of all steps once.

    Args:
        latent_dim: width ``A`` of the latent.
        dim: width ``D`` of the condition and of the layers.
        depth: number of layers.
    """

    def __init__(self, latent_dim: int, dim: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Linear(latent_dim, dim)
        self.modulate = nn.Linear(dim, (3 * depth + 2) * dim)
        last = nn.Linear(TIME_HIDDEN, (3 * depth + 2) * dim)
        self.time = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, TIME_HIDDEN), nn.SiLU(), last)
        self.expand = nn.ModuleList(nn.Linear(dim, 2 * dim, bias=False) for _ in range(depth))
        self.contract = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(depth))
        self.leave = nn.Linear(dim, latent_dim)
        for layer in (self.modulate, last, self.leave):  # starts as the identity, with velocity 0
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def modulation(self, condition: Tensor) -> Tensor:
        """What the condition ``(N, D)`` of a frame does to the layers, ``(N, M)``."""
        result: Tensor = self.modulate(rms_norm(condition))
        return result

    def time_modulation(self, time: Tensor) -> Tensor:
        """What the time does to the layers: from 0, noise, to 1, a latent, ``(N,)`` to ``(N, M)``."""
        angles = time[:, None] * torch.logspace(0, 3, TIME_FREQUENCIES, device=time.device)
        result: Tensor = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        return result

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``x``: ``(N, A)``; ``modulation``: the sum of both, ``(N, M)``. Returns the velocity ``(N, A)``."""
        parts = modulation.chunk(3 * len(self.expand) + 2, dim=1)
        x = self.enter(x)
        for index, (expand, contract) in enumerate(zip(self.expand, self.contract, strict=True)):
            shift, scale, gate = parts[3 * index : 3 * index + 3]
            value, gated = expand(rms_norm(x) * (1 + scale) + shift).chunk(2, dim=1)
            x = x + gate * contract(value * F.hardswish(gated))
        velocity: Tensor = self.leave(rms_norm(x) * (1 + parts[-1]) + parts[-2])
        return velocity


class VoiceNetwork(nn.Module):
    """See the module.

    Attributes:
        mean: of the acoustic latents, ``(A,)``.
        deviation: standard deviation of the acoustic latents, ``(A,)``: the network hears and writes normalized ones.
        time_table: modulation by the times ``n / TIME_STEPS``, ``(TIME_STEPS, M)``; see :meth:`tabulate`.
    """

    mean: Tensor
    deviation: Tensor
    time_table: Tensor

    def __init__(self, config: VoiceConfig) -> None:
        super().__init__()
        c, dim = config, config.dim
        self.codebook_size, self.window, self.history, self.lookahead = (
            c.codebook_size,
            c.window,
            c.history,
            c.lookahead,
        )
        self.register_buffer("mean", torch.zeros(c.latent_dim))
        self.register_buffer("deviation", torch.ones(c.latent_dim))
        self.embed = nn.Embedding(c.codebook_size + 1, c.embedding_dim)  # the last entry: no code
        self.enter = nn.Linear((c.history + 1 + c.lookahead) * c.embedding_dim, dim)
        self.enter_acoustic = nn.Linear(c.latent_dim, dim, bias=False)
        self.start = nn.Parameter(torch.zeros(2, dim))  # the first frame of a prompt, and of a target
        self.kind = nn.Parameter(torch.zeros(2, dim))
        self.style = nn.Embedding(len(QUANTITIES) * (NUM_STEPS + 1), dim)
        self.contour = nn.Linear(CONTOUR_SIZE, dim, bias=False)
        self.distance_bias = nn.Parameter(torch.zeros(c.heads, c.window))
        self.prompt_bias = nn.Parameter(torch.zeros(c.heads))
        blocks = [Block(dim, c.heads, round(dim / 12) * 32) for _ in range(c.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.head = FlowHead(c.latent_dim, dim, c.head_depth)
        self.register_buffer("time_table", torch.zeros(TIME_STEPS, len(self.head.modulate.weight)))
        nn.init.normal_(self.embed.weight, std=c.embedding_dim**-0.5)
        nn.init.zeros_(self.style.weight)
        nn.init.zeros_(self.contour.weight)
        with torch.no_grad():  # each head starts with another reach
            slopes, distances = torch.linspace(0, 4, c.heads), torch.arange(1, c.window + 1)
            self.distance_bias.copy_(-slopes[:, None] * distances.log())
            for block in blocks:  # the sum of the branches starts as loud as the input
                for layer in (block.contract, block.attention.leave):
                    layer.weight.mul_((2 * c.depth) ** -0.5)

    @torch.no_grad()
    def tabulate(self) -> None:
        """Compute the table of times from the weights, so that no machine computes its sines and cosines again."""
        self.time_table.copy_(self.head.time_modulation(torch.arange(TIME_STEPS) / TIME_STEPS))

    @property
    def no_code(self) -> int:
        """Stands for a semantic code before the first frame, and after the last one."""
        return self.codebook_size

    def forward(self, sequence: Sequence) -> Tensor:
        """Conditions of the head for all frames, ``(B, T, D)``, given the true latents of the frames before each."""
        semantic, acoustic, kinds, style, contour = sequence
        x = self.embed_frames(semantic, acoustic, kinds)
        x = x + (kinds == TARGET)[..., None] * self.styled(style, contour)
        bias = self.bias(kinds)
        for block in self.blocks:
            x = block(x, bias)
        return x

    def embed_frames(self, semantic: Tensor, acoustic: Tensor, kinds: Tensor) -> Tensor:
        """Input of each frame without its style, ``(B, T, D)``; see :class:`Sequence`."""
        x = self.enter(self._windows(semantic, kinds).flatten(2))
        before = self.enter_acoustic(F.pad(acoustic, (0, 0, 1, 0))[:, :-1])
        first = F.pad(kinds, (1, 0), value=PADDING)[:, :-1] != kinds
        places = kinds.clamp(min=0)
        result: Tensor = x + torch.where(first[..., None], self.start[places], before) + self.kind[places]
        return result

    def styled(self, style: Tensor, contour: Tensor) -> Tensor:
        """``style``: ``(B, 4)``; ``contour``: ``(B, T, 3)``. What they add to the input of a frame, ``(B, T, D)``."""
        first = torch.arange(style.shape[1], device=style.device) * (NUM_STEPS + 1)
        result: Tensor = self.style(style + first).sum(1)[:, None] + self.contour(contour)
        return result

    def _windows(self, semantic: Tensor, kinds: Tensor) -> Tensor:
        """Embedded codes around each frame and of its segment, ``(B, T, W, E)``."""
        codes = torch.where(kinds == PADDING, self.no_code, semantic)
        sizes = self.history, self.lookahead
        around = F.pad(codes, sizes, value=self.no_code).unfold(1, sum(sizes) + 1, 1)
        same = F.pad(kinds, sizes, value=PADDING).unfold(1, sum(sizes) + 1, 1) == kinds[..., None]
        result: Tensor = self.embed(torch.where(same, around, self.no_code))
        return result

    def bias(self, kinds: Tensor) -> Tensor:
        """Bias on the scores of each pair of frames, ``(B, H, T, T)``; -inf where one must not see the other."""
        frames = torch.arange(kinds.shape[1], device=kinds.device)
        distance = frames[:, None] - frames
        near = (distance >= 0) & (distance < self.window)
        bias = self.distance_bias[:, distance.clamp(0, self.window - 1)]
        query, key = kinds[:, :, None], kinds[:, None, :]
        own = ((query == key) & near)[:, None]
        prompt = ((query == TARGET) & (key == PROMPT))[:, None]
        other = torch.where(prompt, self.prompt_bias[:, None, None], -torch.inf)
        return torch.where(own, bias, other)


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square of the last dimension (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-12)


def contour_inputs(contour: Tensor) -> Tensor:
    """Contours ``(…, 2)``, in semitones, as input of the network, ``(…, 3)``: scaled pitch, voicing, and 1."""
    semitones, voiced = contour.unbind(-1)
    return torch.stack([semitones / _CONTOUR_SCALE, voiced, torch.ones_like(voiced)], -1)
