"""Weights of the modules, laid out for ``native.c``.

The structures own copies of everything and carry the size of each array, so whatever happens to the modules later,
``native.c`` stays within its memory. Each tensor of a module is read once: another thread may replace it meanwhile.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.errors import InputError
from speechtok.nn.convnext import BlockStack, ConvNeXtDecoder, ConvNeXtEncoder, hann_window
from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.nn.exact import ExactLinear
from speechtok.nn.native import library
from speechtok.nn.noise import GAIN_SCALE, PERIOD, BandNoise
from speechtok.nn.quantizer import HOLD_FRAMES, ResidualQuantizer
from speechtok.nn.skip_init import SkipInit
from speechtok.nn.turns import OUTPUTS, TurnNetwork

_TILE = 64
"""Outputs of a tile, as in ``native.c``."""
_HOLD_STATE = 2
"""Numbers that the state of a quantizer with a ``hold`` has."""


class Packed(NamedTuple):
    """An encoder or a decoder for ``native.c``.

    Attributes:
        structure: :class:`library.Encoder` or :class:`library.Decoder`.
        hop_length: samples per frame.
        state_size: size of a packed state.
        patch_field, frame_field: patches and frames before its own that an output depends on.
        codebooks_shape: of the quantizer.
        memory: tensors and arrays that must live as long as the structure.
    """

    structure: Any
    hop_length: int
    state_size: int
    patch_field: int
    frame_field: int
    codebooks_shape: tuple[int, int, int]
    memory: list[Any]


class _Stack(NamedTuple):
    """A :class:`~speechtok.nn.convnext.BlockStack`: its structures, and what follows from their kernel sizes."""

    address: int | None
    depth: int
    state_size: int
    receptive_field: int


def pack_encoder(encoder: ConvNeXtEncoder, quantizer: ResidualQuantizer) -> Packed:
    """Pack an encoder and its quantizer.

    Raises:
        InputError: the shapes of the weights do not fit each other.
    """
    c, pack = encoder, Packer()
    patch_length, window_length, patches = _whole(c.patch_length, c.window_length, c.patches_per_frame)
    _check(patch_length <= window_length, "the encoder's patches")
    patch_dim, frame_dim, codebooks = _outputs(c.embed), _outputs(c.merge), pack.quantizer(quantizer)
    patch_blocks, frame_blocks = pack.blocks(c.patch_blocks, patch_dim), pack.blocks(c.frame_blocks, frame_dim)
    state_size = window_length - patch_length + patch_blocks.state_size + frame_blocks.state_size
    state_size += _HOLD_STATE if codebooks.hold > 0 else 0
    structure = library.Encoder(
        state_size,
        patches,
        patch_length,
        window_length,
        patch_blocks.depth,
        frame_blocks.depth,
        c.GAIN,
        pack.linear(c.embed, window_length, patch_dim),
        pack.linear(c.merge, patches * patch_dim, frame_dim),
        pack.linear(c.project, frame_dim, codebooks.dim),
        patch_blocks.address,
        frame_blocks.address,
        codebooks,
    )
    return Packed(
        structure,
        patches * patch_length,
        state_size,
        patch_blocks.receptive_field + -(-window_length // patch_length) - 1,
        frame_blocks.receptive_field + (HOLD_FRAMES - 1 if codebooks.hold > 0 else 0),
        (codebooks.num_codebooks, codebooks.codebook_size, codebooks.dim),
        pack.memory,
    )


def pack_decoder(quantizer: ResidualQuantizer, decoder: ConvNeXtDecoder) -> Packed:
    """Pack a decoder and its codebooks.

    Raises:
        InputError: the shapes of the weights do not fit each other.
    """
    c, pack, noise = decoder, Packer(), decoder.noise
    patch_length, patches = _whole(c.patch_length, c.patches_per_frame)
    frame_dim, patch_dim, codebooks = _outputs(c.project), _inputs(c.head), pack.dequantizer(quantizer)
    patch_blocks, frame_blocks = pack.blocks(c.patch_blocks, patch_dim), pack.blocks(c.frame_blocks, frame_dim)
    bands = library.Noise() if noise is None else pack.noise(noise, patch_length)
    state_size = patch_length + frame_blocks.state_size + patch_blocks.state_size + (noise is not None)
    structure = library.Decoder(
        state_size,
        patches,
        patch_length,
        patch_blocks.depth,
        frame_blocks.depth,
        pack.linear(c.project, codebooks.dim, frame_dim),
        pack.linear(c.split, frame_dim, patches * patch_dim),
        pack.linear(c.head, patch_dim, 2 * patch_length + 1 + bands.bands),
        patch_blocks.address,
        frame_blocks.address,
        pack.floats(hann_window(2 * patch_length, torch.device("cpu"))),
        bands,
        codebooks,
    )
    return Packed(
        structure,
        patches * patch_length,
        state_size,
        patch_blocks.receptive_field + 1,  # a piece of the head reaches into the next patch
        frame_blocks.receptive_field,
        (codebooks.num_codebooks, codebooks.codebook_size, codebooks.dim),
        pack.memory,
    )


def pack_turns(quantizer: ResidualQuantizer, network: TurnNetwork) -> Packed:
    """Pack the network of a turn detector and the codebooks before it, as a decoder of three samples per frame.

    A decoder's pieces are two patches long, multiplied by the square of one more output and by a window. Here, the
    second patch is zero, and the factors are one.

    Raises:
        InputError: the shapes of the weights do not fit each other.
    """
    c, pack = network, Packer()
    dim, codebooks = _outputs(c.project), pack.dequantizer(quantizer)
    blocks, head = pack.blocks(c.blocks, dim), _with_outputs(c.head, 2 * OUTPUTS + 1)
    head.bias[2 * OUTPUTS] = 1.0
    structure = library.Decoder(
        OUTPUTS + blocks.state_size,
        1,
        OUTPUTS,
        0,
        blocks.depth,
        pack.linear(c.project, codebooks.dim, dim),
        pack.linear(c.split, dim, dim),
        pack.linear(head, dim, 2 * OUTPUTS + 1),
        None,
        blocks.address,
        pack.floats(torch.tensor([1.0] * OUTPUTS + [0.0] * OUTPUTS)),
        library.Noise(),
        codebooks,
    )
    return Packed(
        structure,
        OUTPUTS,
        OUTPUTS + blocks.state_size,
        0,
        blocks.receptive_field,
        (codebooks.num_codebooks, codebooks.codebook_size, codebooks.dim),
        pack.memory,
    )


def _with_outputs(linear: ExactLinear, outputs: int) -> ExactLinear:
    """A copy of a layer with more outputs, which are zero."""
    _check(linear.weight.ndim == 2 and linear.bias.shape == linear.weight.shape[:1], "a layer")
    missing = outputs - len(linear.weight)
    _check(missing >= 0, "a layer")
    with SkipInit():
        wider = ExactLinear(linear.weight.shape[1], outputs, linear.normed, linear.fine, linear.floor)
    wider.requires_grad_(False)
    wider.weight.copy_(F.pad(linear.weight.float(), (0, 0, 0, missing)))
    wider.bias.copy_(F.pad(linear.bias.float(), (0, missing)))
    return wider


class Packer:
    """Fills the structures of ``native.c``, and keeps the memory that they point to."""

    def __init__(self) -> None:
        self.memory: list[Any] = []

    def floats(self, tensor: Tensor) -> library.Floats:
        """A copy of a tensor."""
        return library.Floats(*self._copy(tensor, torch.float32))

    def linear(self, linear: ExactLinear, inputs: int, outputs: int) -> library.Linear:
        """A layer, which must have these inputs and outputs."""
        _check(linear.weight.ndim == 2 and linear.bias.ndim == 1, f"a layer of {inputs} inputs and {outputs} outputs")
        levels, scale, bias = linear.levels()
        shapes = levels.shape, scale.shape, bias.shape
        fit = shapes == ((outputs, inputs), (outputs,), (outputs,))
        _check(fit and inputs > 0 and outputs > 0, f"a layer of {inputs} inputs and {outputs} outputs")
        return library.Linear(
            self._matrix(levels),
            bool(linear.normed),
            bool(linear.fine),
            linear.floor or 0.0,
            self.floats(scale),
            self.floats(bias),
        )

    def blocks(self, stack: BlockStack, dim: int) -> _Stack:
        """The blocks of a stack."""
        structures: list[library.Block] = []
        past = 0
        for module in stack.blocks:
            block = cast(CausalConvNeXtBlock, module)
            weight, bias, hidden = block.conv.weight, block.conv.bias, _outputs(block.expand)
            kernel_size = weight.shape[0] if weight.ndim else 0
            _check(
                kernel_size > 0 and weight.shape == (kernel_size, dim) and bias.shape == (dim,),
                f"a convolution of width {dim}",
            )
            expand, contract = self.linear(block.expand, dim, hidden), self.linear(block.contract, hidden, dim)
            structures.append(library.Block(dim, kernel_size, self.floats(weight), self.floats(bias), expand, contract))
            past += kernel_size - 1
        return _Stack(self.array(structures), len(structures), past * dim, past)

    def quantizer(self, quantizer: ResidualQuantizer) -> library.Quantizer:
        """Codebooks, for encoding."""
        semantic_dim, hold = quantizer.semantic_dim, quantizer.hold
        num_codebooks, codebook_size, dim = _codebooks_shape(quantizer.codebooks, semantic_dim)
        structures: list[library.Codebook] = []
        for vectors, levels, scale, squared_norms in quantizer.levels():
            compared = dim - semantic_dim if structures else semantic_dim or dim
            shapes = vectors.shape, levels.shape
            _check(shapes == ((codebook_size, dim - semantic_dim), (codebook_size, compared)), "the codebooks")
            structures.append(
                library.Codebook(self._matrix(levels), scale.item(), self.floats(squared_norms), self.floats(vectors))
            )
        _check(len(structures) == num_codebooks, "the codebooks")
        return library.Quantizer(num_codebooks, codebook_size, dim, semantic_dim, self.array(structures), hold)

    def dequantizer(self, quantizer: ResidualQuantizer) -> library.Dequantizer:
        """Codebooks, for decoding."""
        codebooks = quantizer.codebooks
        return library.Dequantizer(*_codebooks_shape(codebooks, quantizer.semantic_dim), self.floats(codebooks))

    def noise(self, noise: BandNoise, patch_length: int) -> library.Noise:
        """The noise of a decoder."""
        table = noise.table()
        bands = len(table)
        _check(bands > 0 and table.shape == (bands, PERIOD, patch_length), f"the noise of {bands} bands")
        return library.Noise(bands, PERIOD, GAIN_SCALE, self.floats(table))

    def _matrix(self, levels: Tensor) -> library.Matrix:
        """``levels``: ``(N, K)``."""
        outputs, inputs = levels.shape
        levels = F.pad(levels.to(torch.int8), (0, -inputs % 4, 0, -outputs % _TILE))
        offset = 128 * levels.sum(1, dtype=torch.int32)
        tiles = levels.view(-1, _TILE, levels.shape[1] // 4, 4).transpose(1, 2)
        levels_address, levels_size = self._copy(tiles, torch.int8)
        offset_address, offset_size = self._copy(offset, torch.int32)
        return library.Matrix(inputs, outputs, levels_address, offset_address, levels_size, offset_size)

    def _copy(self, tensor: Tensor, dtype: torch.dtype) -> tuple[int, int]:
        """Address and size of a copy. The tensor itself may lose its memory: FSDP resizes storages, for example."""
        tensor = tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)
        self.memory.append(tensor)
        return tensor.data_ptr(), tensor.numel()

    def array(self, structures: Sequence[ctypes.Structure]) -> int | None:
        """Address of an array of structures; ``None`` if there are none."""
        if not structures:
            return None
        array = (type(structures[0]) * len(structures))(*structures)
        self.memory.append(array)
        return ctypes.addressof(array)


def _outputs(linear: ExactLinear) -> int:
    return _weight_shape(linear)[0]


def _inputs(linear: ExactLinear) -> int:
    return _weight_shape(linear)[1]


def _weight_shape(linear: ExactLinear) -> torch.Size:
    shape = linear.weight.shape
    _check(len(shape) == 2, "a layer")
    return shape


def _codebooks_shape(codebooks: Tensor, semantic_dim: int) -> tuple[int, int, int]:
    shape = tuple(codebooks.shape)
    _check(len(shape) == 3 and min(shape) > 0 and 0 <= semantic_dim < shape[2], "the codebooks")
    num_codebooks, codebook_size, dim = shape
    return num_codebooks, codebook_size, dim


def _whole(*lengths: Any) -> tuple[int, ...]:
    _check(all(isinstance(length, int) and length > 0 for length in lengths), "the patches")
    return lengths


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise InputError(f"the shape of {what} does not fit the rest of the model; restore the layer that was replaced")
