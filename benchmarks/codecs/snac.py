"""SNAC (Siuzdak et al. 2024, arXiv 2410.14411), by its package ``snac``."""

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


class Snac:
    """SNAC. Its codebooks have different frame rates.

    The codes of one frame of the coarsest codebook make a column: 7 rows for 24 kHz (1 + 2 + 4), in the order in which
    language models read them.
    """

    def __init__(self, spec: Spec) -> None:
        if spec.source is None:
            raise InputError("codec 'snac' has no source; expected snac@DIR or snac@hubertsiuzdak/snac_24khz")
        if spec.number is not None:
            raise InputError(f"codec is snac:{spec.number:g}; expected snac@SOURCE, without a number")
        try:
            package: Any = importlib.import_module("snac")
        except ImportError as error:
            raise InputError(f"codec 'snac' needs its package ({error}): pip install snac") from error
        try:
            self.model: Any = package.SNAC.from_pretrained(spec.source).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{quoted(spec.source)} cannot be loaded by snac ({error}); expected a directory or a model on the hub"
            ) from error
        self.sample_rate, self.codebook_size = int(self.model.sampling_rate), int(self.model.codebook_size)
        self.identity = f"snac {hash_tensors('snac', self.model.state_dict())}"

    @torch.inference_mode()
    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Encode and decode ``(S,)``."""
        codes = self.model.encode(waveform[None, None])
        decoded = self.model.decode(codes)[0, 0, : len(waveform)]
        frames = codes[0].shape[1]
        grid = np.concatenate([c[0, : frames * (c.shape[1] // frames)].reshape(frames, -1).T.numpy() for c in codes])
        bits = sum(c.shape[1] for c in codes) * math.log2(self.codebook_size)
        return Reconstruction(decoded, bits, grid.astype(np.int32))
