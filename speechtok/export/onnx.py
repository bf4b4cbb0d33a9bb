"""``export_onnx``: a tokenizer as four ONNX files.

Each half is exported twice: for whole utterances, and for streams, whose state is an input and an output.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
from onnx import ModelProto
from torch import device, nn

from speechtok.convnext import ConvNeXtTokenizer
from speechtok.errors import InputError, OutputError
from speechtok.export.graph import Graph
from speechtok.export.known_answer import check_onnx, write_known_answer
from speechtok.export.layers import add_noise, block, dequantize, linear, quantize, weights
from speechtok.nn.convnext import BlockStack, ConvNeXtDecoder, hann_window
from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.tokenizer import Tokenizer

FORMAT = "speechtok-onnx-1"


def export_onnx(tokenizer: Tokenizer, directory: str | os.PathLike[str]) -> list[Path]:
    """Write a tokenizer as ONNX files, and check them under onnxruntime.

    The files are ``encoder.onnx`` and ``decoder.onnx`` for whole utterances, ``encoder_stream.onnx`` and
    ``decoder_stream.onnx`` for streams, and a known answer, with which any runtime can be checked: a waveform, its
    codes, and their audio.

    Args:
        tokenizer: of the ``convnext`` family.
        directory: folder to write, created if it does not exist.

    Returns:
        The files.

    Raises:
        InputError: the tokenizer is of another family.
        OutputError: the files cannot be written.
        ExactnessError: onnxruntime computes other codes or other audio with them.
    """
    if not isinstance(tokenizer, ConvNeXtTokenizer):
        raise InputError(
            f"the tokenizer is a {type(tokenizer).__name__}; expected one of the convnext family, such as "
            "speechtok.load(): only its arithmetic is equal everywhere"
        )
    folder = Path(directory)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, model in _models(tokenizer):
            paths.append(folder / f"{name}.onnx")
            paths[-1].write_bytes(model.SerializeToString(deterministic=True))
        paths += write_known_answer(tokenizer, folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error}; choose another folder") from error
    check_onnx(folder)
    return paths


def _models(tokenizer: ConvNeXtTokenizer) -> Iterator[tuple[str, ModelProto]]:
    c = tokenizer.config
    metadata = {
        "format": FORMAT,
        "fingerprint": tokenizer.fingerprint,
        "decoder_fingerprint": tokenizer.decoder_fingerprint,
        **{name: str(getattr(c, name)) for name in ("sample_rate", "hop_length", "num_codebooks", "codebook_size")},
    }
    for streaming in (False, True):
        suffix = "_stream" if streaming else ""
        for name, build in (("encoder", build_encoder), ("decoder", build_decoder)):
            yield name + suffix, build(tokenizer, streaming).model(metadata)


def build_encoder(tokenizer: ConvNeXtTokenizer, streaming: bool) -> Graph:
    """Graph of encoder and quantizer: ``waveform`` to ``codes``."""
    c, e, g = tokenizer.config, tokenizer.encoder, Graph("encoder")
    x = g.input("waveform", np.float32, ["batch", "samples"])
    state = _State(g, x, tokenizer.encoder_state(0)[0].shape[1] if streaming else None)
    if not streaming:
        missing = g.add("Mod", g.add("Neg", g.size(x, 1)), g.integers(c.hop_length))
        x = g.add("Pad", x, g.add("Concat", g.integers(0, 0, 0), missing, axis=0))
    x = g.add("Mul", x, g.scalar(e.GAIN))
    past = c.window_length - c.patch_length
    if past:
        x = g.add("Concat", state.read(past), x, axis=1)
        state.write(g.slice(x, 1, -past))
    patches = g.reshape(x, 0, -1, c.patch_length)
    older = past // c.patch_length
    if older:
        parts = [g.slice(patches, 1, start, start - older or None) for start in range(older + 1)]
        patches = g.add("Concat", *parts, axis=2)
    x = linear(g, e.embed, patches)
    x = _blocks(g, e.patch_blocks, x, state)
    x = linear(g, e.merge, g.reshape(x, 0, -1, e.merge.weight.shape[1]))
    x = _blocks(g, e.frame_blocks, x, state)
    latent = linear(g, e.project, x)
    codes, past_codes = quantize(g, tokenizer.quantizer, latent, state.read(2) if c.hold else None)
    if past_codes is not None:
        state.write(past_codes)
    g.output(codes, "codes", np.int64, ["batch", c.num_codebooks, "frames"])
    state.finish()
    return g


def build_decoder(tokenizer: ConvNeXtTokenizer, streaming: bool) -> Graph:
    """Graph of codebooks and decoder: ``codes`` to ``waveform``."""
    c, d, g = tokenizer.config, tokenizer.decoder, Graph("decoder")
    codes = g.input("codes", np.int64, ["batch", "codebooks", "frames"])
    state = _State(g, codes, tokenizer.decoder_state(0)[0].shape[1] if streaming else None)
    missing = g.add("Sub", g.integers(c.num_codebooks), g.size(codes, 1))
    # the decoder is late by one frame, so it runs one frame further
    pads = g.add("Concat", g.integers(0, 0, 0, 0), missing, g.integers(0 if streaming else 1), axis=0)
    codes = g.add("Pad", codes, pads, g.constant(np.asarray(-1, dtype=np.int64)))
    x = linear(g, d.project, dequantize(g, tokenizer.quantizer, codes))
    x = _blocks(g, d.frame_blocks, x, state)
    x = g.reshape(linear(g, d.split, x), 0, -1, d.head.weight.shape[1])
    x = _blocks(g, d.patch_blocks, x, state)
    waveform = _synthesize(g, d, x, state)
    if not streaming:
        waveform = g.slice(waveform, 1, c.hop_length)
    g.output(waveform, "waveform", np.float32, ["batch", "samples"])
    state.finish()
    return g


def _synthesize(g: Graph, d: ConvNeXtDecoder, x: str, state: "_State") -> str:
    """:meth:`speechtok.nn.convnext.ConvNeXtDecoder.synthesize` of ``(B, P, D)``."""
    length = d.patch_length
    written = linear(g, d.head, x)
    gain = g.slice(written, 2, 2 * length, 2 * length + 1)
    pieces = g.add("Mul", g.slice(written, 2, 0, 2 * length), g.add("Mul", gain, gain))
    if d.noise is not None:
        pieces, position = add_noise(g, d.noise, pieces, g.slice(written, 2, 2 * length + 1), state.read(1))
        state.write(position)
    pieces = g.add("Mul", pieces, weights(g, hann_window(2 * length, device("cpu"))))
    first, second = (g.reshape(half, 0, -1) for half in g.add_many("Split", [pieces], 2, axis=2))
    late = g.add("Concat", state.read(length), second, axis=1)
    state.write(g.slice(late, 1, -length))
    return g.add("Add", first, g.slice(late, 1, 0, -length))


def _blocks(g: Graph, stack: BlockStack, x: str, state: "_State") -> str:
    for module in cast(list[nn.Module], stack.blocks):
        layer = cast(CausalConvNeXtBlock, module)
        kernel_size, dim = layer.conv.weight.shape
        past = state.read(kernel_size - 1, dim) if kernel_size > 1 else None
        x, after = block(g, layer, x, past)
        if after is not None:
            state.write(g.reshape(after, 0, -1))
    return x


class _State:
    """The state of a graph: one tensor ``(B, n)`` of a stream, zeros for a whole utterance.

    Its parts are written in the order in which they are read.

    Args:
        g: the graph.
        like: an input that has the batch first.
        size: numbers ``n`` of a row of a stream; ``None`` for a whole utterance.
    """

    def __init__(self, g: Graph, like: str, size: int | None) -> None:
        self._g, self._size = g, size
        self._state = "" if size is None else g.input("state", np.float32, ["batch", size])
        self._batch = g.size(like, 0) if size is None else ""
        self._read, self._parts = 0, list[str]()

    def read(self, *shape: int) -> str:
        """The next part, ``(B, *shape)``."""
        start, self._read = self._read, self._read + math.prod(shape)
        if self._size is None:
            size = self._g.add("Concat", self._batch, self._g.integers(*shape), axis=0)
            return self._g.add("Expand", self._g.scalar(0.0), size)
        part = self._g.slice(self._state, 1, start, self._read)
        return part if len(shape) == 1 else self._g.reshape(part, 0, *shape)

    def write(self, part: str) -> None:
        """Add a part of the next state, ``(B, n)``."""
        self._parts.append(part)

    def finish(self) -> None:
        """Write the next state."""
        if self._size is not None:
            parts = self._parts or [self._state]
            self._g.output(self._g.add("Concat", *parts, axis=1), "next_state", np.float32, ["batch", self._size])
