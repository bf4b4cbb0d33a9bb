"""X-Codec 2 (Ye et al. 2025, arXiv 2502.04128), by its package ``xcodec2``."""

import importlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.codecs.interface import Reconstruction
from benchmarks.codecs.spec import Spec
from speechtok.errors import InputError, quoted
from speechtok.hashing import hash_tensors


class XCodec2:
    """X-Codec 2: one codebook of 65536 entries at 50 frames a second."""

    sample_rate = 16_000
    codebook_size = 65_536

    def __init__(self, spec: Spec) -> None:
        if spec.source is None:
            raise InputError("codec 'xcodec2' has no source; expected xcodec2@DIR or xcodec2@HKUSTAudio/xcodec2")
        if spec.number is not None:
            raise InputError(f"codec is xcodec2:{spec.number:g}; expected xcodec2@SOURCE, without a number")
        try:
            module: Any = importlib.import_module("xcodec2.modeling_xcodec2")
        except ImportError as error:
            raise InputError(f"codec 'xcodec2' needs its package ({error}): pip install xcodec2") from error
        try:
            self.model: Any = module.XCodec2Model.from_pretrained(spec.source).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{quoted(spec.source)} cannot be loaded by xcodec2 ({error}); expected a folder or a model on the hub"
            ) from error
        self.identity = f"xcodec2 {hash_tensors('xcodec2', self.model.state_dict())}"

    @torch.inference_mode()
    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Encode and decode ``(S,)``."""
        codes = self.model.encode_code(input_waveform=waveform[None])
        decoded = self.model.decode_code(codes)[0, 0, : len(waveform)]
        grid = codes[0].numpy().astype(np.int32)
        return Reconstruction(decoded, grid.size * math.log2(self.codebook_size), grid)
