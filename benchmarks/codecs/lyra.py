"""Lyra V2 (Google; Zeghidour et al. 2021, SoundStream), by its published TFLite models."""

import hashlib
import importlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.codecs.interface import Reconstruction
from benchmarks.codecs.spec import Spec
from speechtok.errors import InputError, quoted

FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")


class Lyra:
    """Lyra V2. The number of the specification is the bitrate in bit/s; the source is the folder of the models.

    The models are part of the repository google/lyra, in ``lyra/model_coeffs``.
    """

    sample_rate = 16_000
    HOP = 320  # samples of a frame
    BITS = 4  # of a code
    MAX_CODEBOOKS = 46
    codebook_size = 2**BITS
    RATES: ClassVar[dict[int, int]] = {3200: 16, 6000: 30, 9200: MAX_CODEBOOKS}  # bit/s: codebooks

    def __init__(self, spec: Spec) -> None:
        if spec.source is None:
            raise InputError("codec 'lyra' has no source; expected lyra:6000@DIR, the folder of its TFLite models")
        rate = spec.integer or 3200
        if rate not in self.RATES:
            raise InputError(f"lyra:{rate} is not a bitrate of Lyra V2; expected one of {tuple(self.RATES)}, in bit/s")
        paths = [Path(spec.source) / name for name in FILES]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise InputError(f"{quoted(spec.source)} lacks {', '.join(missing)}; expected the TFLite models of Lyra V2")
        try:
            self._interpreter: Any = importlib.import_module("ai_edge_litert.interpreter").Interpreter
        except ImportError as error:
            raise InputError(f"codec 'lyra' needs LiteRT ({error}): pip install ai-edge-litert") from error
        self._contents = [path.read_bytes() for path in paths]
        self.num_codebooks = self.RATES[rate]
        digest = hashlib.sha256(b"".join(self._contents)).hexdigest()[:16]
        self.identity = f"lyra {digest} {self.num_codebooks}"

    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Encode and decode ``(S,)``. Each interpreter holds the state of one stream, so they are made anew."""
        encoder, quantizer, decoder = (self._interpreter(model_content=content) for content in self._contents)
        encode = encoder.get_signature_runner("serving_default")
        quantize = quantizer.get_signature_runner("encode")
        dequantize = quantizer.get_signature_runner("decode")
        decode = decoder.get_signature_runner("serving_default")
        padded = torch.nn.functional.pad(waveform, (0, -len(waveform) % self.HOP)).numpy().astype(np.float32)
        used, columns, pieces = np.array(self.num_codebooks, np.int32), [], []
        (name,) = decode.get_input_details()
        for frame in padded.reshape(-1, 1, self.HOP):
            features = encode(input_audio=frame)["output_0"]
            indices = quantize(input_frames=features, num_quantizers=used)["output_0"]
            codes = np.full((self.MAX_CODEBOOKS, 1, 1), -1, np.int32)
            codes[: self.num_codebooks] = indices.reshape(-1, 1, 1)[: self.num_codebooks]
            decoded = decode(**{name: dequantize(encoding_indices=codes)["output_0"]})["output_0"]
            columns.append(codes[: self.num_codebooks, 0, 0])
            pieces.append(decoded.reshape(-1))
        grid = np.stack(columns, 1).astype(np.int32) if columns else np.empty((self.num_codebooks, 0), np.int32)
        audio = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
        return Reconstruction(torch.from_numpy(audio)[: len(waveform)].float(), float(self.BITS * grid.size), grid)
