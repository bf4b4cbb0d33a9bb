"""The arithmetic of :mod:`speechtok.nn` as ONNX operations, whose results are equal to the bit.

Runtimes rewrite graphs. These forms keep the bits:

- Both products of a fine layer are one, of twice as many rows. The sum of two products becomes a product that starts at
  the first of them, which is above 2**24 there.
- Hard swish divides by 6. The operation ``HardSwish`` multiplies by a rounded 1/6.
- Reciprocals are divisions, as the operation ``Reciprocal`` may be approximated, and a minimum follows: ``x * (1 / y)``
  becomes ``x / y``, which is rounded once.
"""

import numpy as np
import torch
from torch import Tensor

from speechtok.export.graph import Array, Graph
from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.nn.exact import FINE_FACTOR, MAX_LEVEL, MIN_PEAK, ExactLinear
from speechtok.nn.noise import GAIN_SCALE, PERIOD, BandNoise
from speechtok.nn.quantizer import HOLD_FRAMES, ResidualQuantizer


def as_array(x: Tensor) -> Array:
    """The values of a tensor in the smallest type that holds them: integers, or float16, or float32."""
    x = x.detach().cpu()
    for dtype in (torch.int8, torch.int16, torch.float16):
        if torch.equal(x.to(dtype).to(x.dtype), x):
            return x.to(dtype).numpy()
    return x.float().numpy()


def weights(g: Graph, x: Tensor) -> str:
    """A float32 constant, stored in the smallest type."""
    values = as_array(x)
    name = g.constant(values)
    return name if values.dtype == np.float32 else g.cast(name, np.float32)


def to_levels(g: Graph, x: str, max_level: int = MAX_LEVEL, floor: float | None = None) -> tuple[str, str]:
    """See :func:`speechtok.nn.exact.to_levels`; of the last axis."""
    values = g.add("Abs", x) if floor is None else x
    peak = g.add("ReduceMax", values, keepdims=1, axes=[-1])
    peak = g.add("Max", peak, g.scalar(MIN_PEAK if floor is None else floor))
    scale = g.add("Mul", peak, g.scalar(1 / max_level))
    return g.add("Round", g.add("Div", x, scale)), scale


def linear(g: Graph, layer: ExactLinear, x: str) -> str:
    """:class:`~speechtok.nn.exact.ExactLinear` on ``(B, T, K)``."""
    levels, scale = to_levels(g, x, FINE_FACTOR * MAX_LEVEL if layer.fine else MAX_LEVEL, layer.floor)
    if layer.normed:
        wide = layer.fine or layer.weight.shape[1] * MAX_LEVEL**2 >= 2**24
        numbers = g.cast(levels, np.float64) if wide else levels
        squares = g.add("ReduceSum", g.add("Mul", numbers, numbers), g.integers(-1), keepdims=1)
        root = g.cast(g.add("Sqrt", squares if wide else g.cast(squares, np.float64)), np.float32)
        scale = g.add("Min", g.add("Div", g.scalar(1.0), root), g.scalar(1.0))
    weight, weight_scale, bias = layer.levels()
    matrix = weights(g, weight.t().contiguous())
    if layer.fine:
        coarse = g.add("Round", g.add("Div", levels, g.scalar(FINE_FACTOR)))
        rest = g.add("Sub", levels, g.add("Mul", coarse, g.scalar(FINE_FACTOR)))
        both = g.add("MatMul", g.add("Concat", coarse, rest, axis=0), matrix)
        coarse, rest = g.add_many("Split", [both], 2, axis=0)
        product = g.add("Add", g.add("Mul", coarse, g.scalar(FINE_FACTOR)), rest)
    else:
        product = g.add("MatMul", levels, matrix)
    scaled = g.add("Mul", g.add("Mul", product, scale), weights(g, weight_scale))
    return g.add("Add", scaled, weights(g, bias))


def hard_swish(g: Graph, x: str) -> str:
    """See :func:`speechtok.nn.exact.hard_swish`."""
    gate = g.add("Min", g.add("Max", g.add("Add", x, g.scalar(3.0)), g.scalar(0.0)), g.scalar(6.0))
    return g.add("Div", g.add("Mul", x, gate), g.scalar(6.0))


def block(g: Graph, module: CausalConvNeXtBlock, x: str, past: str | None) -> tuple[str, str | None]:
    """:class:`~speechtok.nn.convolution.CausalConvNeXtBlock`.

    Args:
        g: the graph.
        module: the block.
        x: ``(B, T, D)``.
        past: the ``kernel_size - 1`` frames before ``x``; ``None`` if that is 0.

    Returns:
        ``(B, T, D)``, and the frames before the next ones.
    """
    taps, last = module.conv.weight.float(), len(module.conv.weight) - 1
    frames = x if past is None else g.add("Concat", past, x, axis=1)
    y = ""
    for lag in range(last, -1, -1):  # from the oldest to the newest: the bits depend on it
        shifted = frames if past is None else g.slice(frames, 1, last - lag, -lag or None)
        product = g.add("Mul", shifted, weights(g, taps[lag]))
        y = g.add("Add", y, product) if y else product
    hidden = linear(g, module.expand, g.add("Add", y, weights(g, module.conv.bias)))
    result = g.add("Add", x, linear(g, module.contract, hard_swish(g, hidden)))
    return result, None if past is None else g.slice(frames, 1, -last)


def quantize(g: Graph, quantizer: ResidualQuantizer, latent: str, past: str | None) -> tuple[str, str | None]:
    """:meth:`speechtok.nn.quantizer.ResidualQuantizer.encode_frames`.

    Args:
        g: the graph.
        quantizer: the quantizer.
        latent: ``(B, T, D)``.
        past: state of a quantizer with a ``hold``, float32 ``(B, 2)``; ``None`` without.

    Returns:
        Codes ``(B, Q, T)``, and the next state.
    """
    semantic = quantizer.semantic_dim
    query = g.slice(latent, 2, 0, semantic) if semantic else latent
    residual = g.slice(latent, 2, semantic) if semantic else latent
    codes: list[str] = []
    for vectors, levels, inverse_scale, squared_norms in quantizer.levels():
        query_levels, scale = to_levels(g, query)
        products = g.add("MatMul", query_levels, weights(g, levels.t().contiguous()))
        scores = g.add("Mul", products, g.add("Mul", scale, g.scalar(inverse_scale.item())))
        scores = g.add("Sub", scores, weights(g, squared_norms))
        code = g.add("ArgMax", scores, axis=2, keepdims=0, select_last_index=0)
        if past is not None and not codes:
            code, past = hold_codes(g, quantizer, scores, code, past)
        query = residual = g.add("Sub", residual, g.add("Gather", weights(g, vectors), code))
        codes.append(g.add("Unsqueeze", code, g.integers(1)))
    return g.add("Concat", *codes, axis=1), past


def hold_codes(g: Graph, quantizer: ResidualQuantizer, scores: str, best: str, past: str) -> tuple[str, str]:
    """:func:`speechtok.nn.quantizer.hold_codes` of ``(B, T, N)`` and ``(B, T)``. Returns codes and the next state."""
    zero, last = g.integers(0), g.integers(quantizer.codebooks.shape[1] - 1)
    first, before = (g.cast(g.slice(past, 1, i, i + 1), np.int64) for i in (0, 1))
    before = g.add("Min", g.add("Max", before, zero), last)
    count, period = g.add("Squeeze", g.size(best, 1), zero), g.integers(HOLD_FRAMES)
    start, one = (g.constant(np.asarray(number, dtype=np.int64)) for number in (0, 1))
    numbers = g.add("Mod", g.add("Add", first, g.add("Range", start, count, one)), period)
    free = g.add("Equal", numbers, zero)
    best_scores = g.add("GatherElements", scores, g.add("Unsqueeze", best, g.integers(2)), axis=2)
    codes = best
    for _ in range(HOLD_FRAMES):  # each round settles the next frame after every free one
        kept = g.add("Concat", before, g.slice(codes, 1, 0, -1), axis=1)
        kept_scores = g.add("GatherElements", scores, g.add("Unsqueeze", kept, g.integers(2)), axis=2)
        gain = g.add("Squeeze", g.add("Sub", best_scores, kept_scores), g.integers(2))
        changes = g.add("Or", free, g.add("Greater", gain, g.scalar(float(quantizer.hold))))
        codes = g.add("Where", changes, best, kept)
    following = g.add("Mod", g.add("Add", first, count), period)
    held = g.slice(g.add("Concat", before, codes, axis=1), 1, -1)
    return codes, g.cast(g.add("Concat", following, held, axis=1), np.float32)


def dequantize(g: Graph, quantizer: ResidualQuantizer, codes: str) -> str:
    """Sum the vectors of codes, ``(B, Q, T)`` with all codebooks, -1 for no code. Returns ``(B, T, D)``."""
    latent = ""
    # vector 0 is that of no code; a code beyond the codebook is out of range for the table, too, which runtimes refuse
    rows = g.add("Add", g.add("Max", codes, g.integers(-1)), g.integers(1))
    for index, codebook in enumerate(quantizer.codebooks.float()):
        table = weights(g, torch.cat([torch.zeros_like(codebook[:1]), codebook]))
        vectors = g.add("Gather", table, g.add("Gather", rows, g.constant(np.asarray(index, dtype=np.int64)), axis=1))
        latent = g.add("Add", latent, vectors) if latent else vectors  # in this order: the bits depend on it
    return latent


def add_noise(g: Graph, noise: BandNoise, pieces: str, roots: str, position: str) -> tuple[str, str]:
    """:class:`~speechtok.nn.noise.BandNoise`.

    Args:
        g: the graph.
        noise: the noise.
        pieces: ``(B, P, 2 * patch_length)``.
        roots: ``(B, P, bands)``.
        position: of the first patch, float32 ``(B, 1)``.

    Returns:
        The pieces with noise, and the next position.
    """
    count = g.add("Squeeze", g.size(pieces, 1), g.integers(0))
    zero, one = (g.constant(np.asarray(number, dtype=np.int64)) for number in (0, 1))
    patches = g.add("Range", zero, count, one)
    start, period = g.cast(position, np.int64), g.integers(PERIOD)
    places = g.add("Mod", g.add("Add", start, patches), period)
    gains = g.add("Mul", g.add("Mul", roots, roots), g.scalar(GAIN_SCALE))
    for band, values in enumerate(noise.table()):  # in this order: the bits depend on it
        table = weights(g, values)
        following = g.add("Concat", g.slice(table, 0, 1), g.slice(table, 0, 0, 1), axis=0)
        stretch = g.add("Gather", g.add("Concat", table, following, axis=1), places)
        pieces = g.add("Add", pieces, g.add("Mul", g.slice(gains, 2, band, band + 1), stretch))
    return pieces, g.cast(g.add("Mod", g.add("Add", start, count), period), np.float32)
