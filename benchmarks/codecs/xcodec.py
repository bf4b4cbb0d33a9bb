"""X-Codec (Ye et al. 2024, arXiv 2408.17175), as transformers implements it."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.codecs.interface import Reconstruction
from benchmarks.codecs.spec import Spec
from speechtok.errors import InputError
from speechtok.hashing import hash_tensors


class XCodec:
    """X-Codec. The number of the specification is the bitrate in kbit/s."""

    def __init__(self, spec: Spec) -> None:
        if spec.source is None:
            raise InputError("codec 'xcodec' has no source; expected xcodec@DIR or xcodec@org/name")
        from transformers import AutoConfig, AutoModel

        try:
            config = AutoConfig.from_pretrained(spec.source, trust_remote_code=False)
            if config.model_type != "xcodec":
                raise InputError(f"{spec.source!r} is a {config.model_type}; expected an xcodec")
            self.model: Any = AutoModel.from_pretrained(
                spec.source, use_safetensors=True, trust_remote_code=False
            ).eval()
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{spec.source!r} cannot be loaded by transformers ({error}); expected a directory or a model on the "
                "hub, with config.json and model.safetensors"
            ) from error
        if spec.number is not None and spec.number not in config.target_bandwidths:
            raise InputError(
                f"xcodec:{spec.number:g} asks for {spec.number:g} kbit/s; expected one of {config.target_bandwidths}"
            )
        self.sample_rate, self.codebook_size = int(config.sampling_rate), int(config.codebook_size)
        self.bandwidth = spec.number
        self.identity = f"xcodec {hash_tensors('xcodec', self.model.state_dict())} {self.bandwidth}"

    @torch.inference_mode()
    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Encode and decode ``(S,)``."""
        codes = self.model.encode(waveform[None, None], bandwidth=self.bandwidth).audio_codes
        decoded = self.model.decode(codes).audio_values
        grid = codes[0].numpy().astype(np.int32)
        return Reconstruction(decoded.reshape(-1), grid.size * math.log2(self.codebook_size), grid)
