"""Weights of the modules, laid out for ``native.c``.

Every shape that ``native.c`` relies on is checked here. A module that was changed cannot make it read or write outside
of its memory.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.errors import InputError
from speechtok.nn.convnext import BlockStack, ConvNeXtDecoder, ConvNeXtEncoder, hann_window
from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.nn.exact import ExactLinear
from speechtok.nn.native import library
from speechtok.nn.noise import GAIN_SCALE, PERIOD, BandNoise
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.nn.state import state_size

_TILE = 64
"""Outputs of a tile, as in ``native.c``."""


class Packer:
    """Fills the structures of ``native.c``, and keeps the memory that they point to.

    Attributes:
        memory: tensors and arrays that must live as long as the structures.
    """

    def __init__(self) -> None:
        self.memory: list[Any] = []

    def encoder(self, encoder: ConvNeXtEncoder, quantizer: ResidualQuantizer) -> library.Encoder:
        """Pack an encoder and its quantizer.

        Raises:
            InputError: the shapes of the weights do not fit each other.
        """
        c = encoder
        patch_dim, frame_dim = len(c.embed.weight), len(c.merge.weight)
        latent_dim = quantizer.codebooks.shape[-1]
        _check(0 < c.patch_length <= c.window_length and c.patches_per_frame > 0, "the encoder's patches")
        return library.Encoder(
            state_size(c),
            c.patches_per_frame,
            c.patch_length,
            c.window_length,
            len(c.patch_blocks.blocks),
            len(c.frame_blocks.blocks),
            c.GAIN,
            self._linear(c.embed, c.window_length, patch_dim),
            self._linear(c.merge, c.patches_per_frame * patch_dim, frame_dim),
            self._linear(c.project, frame_dim, latent_dim),
            self._blocks(c.patch_blocks, patch_dim),
            self._blocks(c.frame_blocks, frame_dim),
            self._quantizer(quantizer),
        )

    def decoder(self, quantizer: ResidualQuantizer, decoder: ConvNeXtDecoder) -> library.Decoder:
        """Pack a decoder and its codebooks.

        Raises:
            InputError: the shapes of the weights do not fit each other.
        """
        c = decoder
        frame_dim, patch_dim = len(c.project.weight), c.head.weight.shape[1]
        num_codebooks, codebook_size, latent_dim = _codebooks_shape(quantizer)
        _check(c.patch_length > 0 and c.patches_per_frame > 0, "the decoder's patches")
        return library.Decoder(
            state_size(c),
            c.patches_per_frame,
            c.patch_length,
            len(c.patch_blocks.blocks),
            len(c.frame_blocks.blocks),
            self._linear(c.project, latent_dim, frame_dim),
            self._linear(c.split, frame_dim, c.patches_per_frame * patch_dim),
            self._linear(c.head, patch_dim, 2 * c.patch_length + 1 + (0 if c.noise is None else len(c.noise.filters))),
            self._blocks(c.patch_blocks, patch_dim),
            self._blocks(c.frame_blocks, frame_dim),
            self._address(hann_window(2 * c.patch_length, torch.device("cpu"))),
            library.Noise() if c.noise is None else self._noise(c.noise, c.patch_length),
            library.Dequantizer(num_codebooks, codebook_size, latent_dim, self._address(quantizer.codebooks.float())),
        )

    def _noise(self, noise: BandNoise, patch_length: int) -> library.Noise:
        bands = len(noise.filters)
        table = noise.table()
        _check(table.shape == (bands, PERIOD, patch_length), f"the noise of {bands} bands")
        return library.Noise(bands, PERIOD, GAIN_SCALE, self._address(table))

    def _address(self, tensor: Tensor) -> int:
        tensor = tensor.detach().contiguous()
        if tensor.is_inference():
            tensor = tensor.clone()
        self.memory.append(tensor)
        return tensor.data_ptr()

    def _array(self, structures: Sequence[ctypes.Structure]) -> int | None:
        if not structures:
            return None
        array = (type(structures[0]) * len(structures))(*structures)
        self.memory.append(array)
        return ctypes.addressof(array)

    def _matrix(self, levels: Tensor) -> library.Matrix:
        """``levels``: ``(N, K)``."""
        outputs, inputs = levels.shape
        levels = F.pad(levels.to(torch.int8), (0, -inputs % 4, 0, -outputs % _TILE))
        offset = 128 * levels.sum(1, dtype=torch.int32)
        tiles = levels.view(-1, _TILE, levels.shape[1] // 4, 4).transpose(1, 2)
        return library.Matrix(inputs, outputs, self._address(tiles), self._address(offset))

    def _linear(self, linear: ExactLinear, inputs: int, outputs: int) -> library.Linear:
        shapes = linear.weight.shape, linear.bias.shape
        _check(shapes == ((outputs, inputs), (outputs,)), f"a layer of {inputs} inputs and {outputs} outputs")
        levels, scale, bias = linear.levels()
        return library.Linear(
            self._matrix(levels),
            linear.normed,
            linear.fine,
            linear.floor or 0.0,
            self._address(scale),
            self._address(bias),
        )

    def _blocks(self, stack: BlockStack, dim: int) -> int | None:
        structures = []
        for module in stack.blocks:
            block = cast(CausalConvNeXtBlock, module)
            weight, bias, hidden = block.conv.weight, block.conv.bias, len(block.expand.weight)
            kernel_size = len(weight)
            _check(
                kernel_size > 0 and weight.shape == (kernel_size, dim) and bias.shape == (dim,),
                f"a convolution of width {dim}",
            )
            structures.append(
                library.Block(
                    dim,
                    kernel_size,
                    self._address(weight.float()),
                    self._address(bias.float()),
                    self._linear(block.expand, dim, hidden),
                    self._linear(block.contract, hidden, dim),
                )
            )
        return self._array(structures)

    def _quantizer(self, quantizer: ResidualQuantizer) -> library.Quantizer:
        shape = _codebooks_shape(quantizer)
        codebooks = [
            library.Codebook(self._matrix(levels), scale.item(), self._address(squared_norms), self._address(vectors))
            for vectors, levels, scale, squared_norms in quantizer.levels()
        ]
        return library.Quantizer(*shape, quantizer.semantic_dim, self._array(codebooks))


def receptive_field(stack: BlockStack) -> int:
    """Steps before its own that an output of a stack depends on."""
    return sum(len(cast(CausalConvNeXtBlock, block).conv.weight) - 1 for block in stack.blocks)


def _codebooks_shape(quantizer: ResidualQuantizer) -> tuple[int, int, int]:
    shape = tuple(quantizer.codebooks.shape)
    _check(len(shape) == 3 and min(shape) > 0 and 0 <= quantizer.semantic_dim < shape[2], "the codebooks")
    num_codebooks, codebook_size, dim = shape
    return num_codebooks, codebook_size, dim


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise InputError(f"the shape of {what} does not fit the rest of the model; restore the layer that was replaced")
