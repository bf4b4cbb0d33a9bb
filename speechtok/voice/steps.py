"""The network of a voice model frame by frame, in exact arithmetic: the same bits on every machine.

Weights and inputs of all layers are rounded to levels, whose sums of products are exact (:mod:`speechtok.nn.exact`).
So are queries, keys and values. Everything else is a float32 operation that IEEE 754 defines, in a fixed order.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechtok.nn.exact import FINE_FACTOR, MAX_LEVEL, ExactLinear, hard_swish, reciprocal, to_levels
from speechtok.voice.network import Block, VoiceNetwork
from speechtok.voice.style import NUM_STEPS

_FINE = FINE_FACTOR * MAX_LEVEL
_LOG2_E = 1.4426950408889634
_EXP2 = (1.0, 0.69314718, 0.24022651, 0.05550411, 0.00961813, 0.00133336, 0.00015404)
"""Taylor polynomial of ``2**x``."""
_LOWEST = -126.0


@dataclass
class State:
    """What the network remembers of the frames so far. A key and a value have levels and a factor.

    Attributes:
        keys: levels, ``(L, R, H, F, C)``.
        key_factors: one divided by their norms, ``(L, R, H, F)``.
        values: levels, ``(L, R, H, F, C)``.
        value_factors: their scales, ``(L, R, H, F)``.
        frames: how many of the ``F`` places are taken.
    """

    keys: Tensor
    key_factors: Tensor
    values: Tensor
    value_factors: Tensor
    frames: int = 0

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Keys, values and their factors."""
        return self.keys, self.key_factors, self.values, self.value_factors

    def append(self, layer: int, now: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        """Write the keys and values of the next frame of a layer."""
        for kept, new in zip(self.tensors, now, strict=True):
            kept[layer, :, :, self.frames] = new

    def shift(self, kept: int) -> None:
        """Keep the last frames only."""
        first = self.frames - kept
        for tensor in self.tensors:
            tensor[:, :, :, :kept] = tensor[:, :, :, first : self.frames].clone()
        self.frames = kept


class ExactSteps:
    """Steps of a network with its present weights.

    Args:
        network: in float32.
    """

    vector_type = torch.float32
    """Of the levels of keys and values."""

    def __init__(self, network: VoiceNetwork) -> None:
        n = network
        self.network, self.heads, self.window = n, len(n.prompt_bias), n.window
        self.enter, self.enter_acoustic, self.enter_contour = map(exact_linear, (n.enter, n.enter_acoustic, n.contour))
        self.blocks = [ExactBlock(block) for block in n.blocks if isinstance(block, Block)]
        head = n.head
        self.modulate = exact_linear(head.modulate, normed=True)
        self.head_enter, self.head_leave = exact_linear(head.enter), exact_linear(head.leave)
        self.layers = [
            (exact_linear(expand), exact_linear(contract))
            for expand, contract in zip(head.expand, head.contract, strict=True)
        ]

    def initial_state(self, rows: int, frames: int) -> State:
        """State before the first frame, with room for ``frames`` frames."""
        shape = len(self.blocks), rows, self.heads, frames
        vectors = *shape, len(self.enter.weight) // self.heads
        keys, values = (torch.zeros(vectors, dtype=self.vector_type) for _ in range(2))
        return State(keys, torch.zeros(shape), values, torch.zeros(shape))

    def style(self, styles: Tensor) -> Tensor:
        """What styles ``(B, 4)`` add to the input of each frame, ``(B, D)``."""
        n = self.network
        first, *others = n.style(styles + torch.arange(styles.shape[1]) * (NUM_STEPS + 1)).unbind(1)
        result: Tensor = first
        for other in others:
            result = result + other
        return result

    def embed(self, windows: Tensor, before: Tensor | None, kind: int) -> Tensor:
        """Input of a frame without its style, ``(R, D)``.

        Args:
            windows: semantic codes around it, ``(R, W)``.
            before: acoustic latents of the frame before, ``(R, A)``; ``None`` for the first one.
            kind: :data:`~speechtok.voice.network.PROMPT` or :data:`~speechtok.voice.network.TARGET`.
        """
        n = self.network
        x = self.enter(n.embed(windows).flatten(1))
        past: Tensor = n.start[kind] if before is None else self.enter_acoustic(before)
        result: Tensor = x + past + n.kind[kind]
        return result

    def frame(
        self,
        x: Tensor,
        state: State,
        prompt: State | None = None,
        heard: Tensor | None = None,
        noise: Tensor | None = None,
        times: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Compute one frame, and append it to the state.

        Args:
            x: its input, ``(R, D)``.
            state: of the segment.
            prompt: state of the prompt, if the rows have one.
            heard: which frames of the prompt each row hears, bool ``(R, P)``.
            noise: from which the flows start, ``(B, A)``. Rows ``B + b``, ``2 * B + b`` and so on are flow ``b`` again,
                each told less than the one before. Without noise, the frame is only read.
            times: modulation by the time of each step of the flow, ``(S, M)``.
            guidance: how far each ``B`` rows are followed beyond the next ones, ``(R / B - 1,)``.

        Returns:
            Acoustic latents ``(B, A)``.
        """
        condition = self.advance(x, state, prompt, heard)
        if noise is None or times is None:
            return x.new_zeros(0, len(self.head_leave.weight))
        modulation, latent = self.modulate(condition), noise
        weights = [] if guidance is None else list(guidance)
        for time in times:
            rows = latent.repeat(1 + len(weights), 1)
            told = torch.split(self.velocity(rows, modulation + time), len(noise))
            velocity = told[-1]
            for index in reversed(range(len(weights))):
                velocity = velocity + (told[index] - told[index + 1]) * weights[index]
            latent = latent + velocity * (1 / len(times))
        return latent

    def advance(self, x: Tensor, state: State, prompt: State | None, heard: Tensor | None) -> Tensor:
        """Compute the condition of the head for one frame, ``(R, D)``, and append the frame to the state.

        Args:
            x: input of the frame, ``(R, D)``.
            state: of the segment.
            prompt: state of the prompt, if the rows have one.
            heard: which frames of the prompt each row hears, bool ``(R, P)``.
        """
        n = self.network
        if state.frames == state.keys.shape[3]:
            state.shift(self.window - 1)
        first = max(0, state.frames + 1 - self.window)
        places = slice(first, state.frames + 1)
        bias = n.distance_bias[:, : state.frames + 1 - first].flip(1).expand(len(x), -1, -1)
        if prompt is not None and heard is not None:
            past = torch.where(heard[:, None], n.prompt_bias[:, None], -torch.inf)
            bias = torch.cat([past, bias], 2)
        for layer, block in enumerate(self.blocks):
            query, now = block.attend(x)
            state.append(layer, now)
            kept = [tensor[layer][:, :, places] for tensor in state.tensors]
            if prompt is not None:
                kept = [torch.cat([old[layer], k], 2) for old, k in zip(prompt.tensors, kept, strict=True)]
            keys, key_factors, values, value_factors = kept
            mixed = _attention(query, keys, key_factors, values, value_factors, bias)
            x = x + block.leave(mixed.flatten(1))
            value, gate = block.expand(x).chunk(2, dim=1)
            x = x + block.contract(value * hard_swish(gate.clone()))
        state.frames += 1
        return x

    def velocity(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``x``: ``(R, A)``; ``modulation``: ``(R, M)``. Velocity of the flow, ``(R, A)``."""
        parts = modulation.chunk(3 * len(self.layers) + 2, dim=1)
        x = self.head_enter(x)
        for index, (expand, contract) in enumerate(self.layers):
            shift, scale, gate = parts[3 * index : 3 * index + 3]
            value, gated = expand(_normed(x) * (scale + 1.0) + shift).chunk(2, dim=1)
            x = x + gate * contract(value * hard_swish(gated.clone()))
        result: Tensor = self.head_leave(_normed(x) * (parts[-1] + 1.0) + parts[-2])
        return result


class ExactBlock:
    """A :class:`~speechtok.voice.network.Block`."""

    def __init__(self, block: Block) -> None:
        self.heads = block.attention.heads
        self.enter, self.expand = (
            exact_linear(block.attention.enter, normed=True),
            exact_linear(block.expand, normed=True),
        )
        self.leave, self.contract = exact_linear(block.attention.leave), exact_linear(block.contract)
        self.gain = block.attention.query_gain.view(1, self.heads)

    def attend(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Query of a frame ``(R, D)``, with its factor, and key and value with theirs: ``(R, H, C)`` and ``(R, H)``."""
        query, key, value = self.enter(x).view(len(x), 3, self.heads, -1).unbind(1)
        (query, query_factor), (key, key_factor) = (_unit_levels(part) for part in (query, key))
        value, scale = to_levels(value)
        return (query, query_factor * self.gain), (key, key_factor, value, scale[..., 0])


def exact_linear(linear: nn.Module, normed: bool = False) -> ExactLinear:
    """A layer with the weights of another one.

    Args:
        linear: an ``nn.Linear``.
        normed: whether the input is to be divided by its root mean square first.
    """
    assert isinstance(linear, nn.Linear)
    layer = ExactLinear(linear.in_features, linear.out_features, normed).requires_grad_(False)
    layer.weight.copy_(linear.weight)
    layer.bias.copy_(torch.zeros_like(layer.bias) if linear.bias is None else linear.bias)
    return layer


def _unit_levels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Levels of vectors ``(…, C)``, and one divided by their norms, ``(…,)``."""
    levels, _ = to_levels(x)
    return levels, reciprocal(levels.square().sum(-1).double().sqrt().float().clamp_min(1.0))


def _normed(x: Tensor) -> Tensor:
    """Vectors ``(R, D)`` divided by their root mean squares."""
    levels, _ = to_levels(x, _FINE)
    norm = levels.double().square().sum(1, keepdim=True).sqrt().float().clamp_min(1.0)
    return levels * (reciprocal(norm) * math.sqrt(x.shape[1]))


def _attention(
    query: tuple[Tensor, Tensor],
    keys: Tensor,
    key_factors: Tensor,
    values: Tensor,
    value_factors: Tensor,
    bias: Tensor,
) -> Tensor:
    """``(R, H, C)`` from the query of a frame, and keys and values of ``F`` frames."""
    levels, factor = query
    sums = (levels[:, :, None] * keys).sum(3)  # whole numbers below 2**24
    scores = sums * factor[..., None] * key_factors + bias
    weights = exp2((scores - scores.amax(2, keepdim=True)) * _LOG2_E)
    total = to_levels(weights, _FINE)[0].sum(2)  # the largest weight is 1
    shares, scale = to_levels(weights * value_factors, _FINE)
    mixed = (shares.double()[..., None] * values.double()).sum(2).float()
    return mixed * (scale[..., 0] * _FINE / total)[..., None]


def exp2(x: Tensor) -> Tensor:
    """``2**x`` for ``x`` up to 0, to about 1e-5; at least ``2**-126``."""
    x = x.clamp_min(_LOWEST)
    whole = x.floor()
    part = x - whole
    result = torch.full_like(x, _EXP2[-1])
    for coefficient in _EXP2[-2::-1]:
        result = result * part + coefficient
    return result * _powers(x.device)[(-whole).long()]


def _powers(device: torch.device) -> Tensor:
    """``2**-n``."""
    return torch.tensor([2.0**-n for n in range(int(-_LOWEST) + 1)], dtype=torch.float32, device=device)
