"""A codec class for Codec-SUPERB.

In a clone of Codec-SUPERB, the file ``SoundCodec/codec/speechtok_v1_4k.py`` with these lines adds a codec::

    from benchmarks.adapters.codec_superb import make_codec

    Codec = make_codec(num_codebooks=8)

The repository of speechtok must be on ``PYTHONPATH``.
"""

import importlib
from typing import Any

import numpy as np
import torch

import speechtok
from speechtok.errors import InputError


def make_codec(num_codebooks: int = 8, model: str | None = None) -> Any:
    """Make the class that Codec-SUPERB looks for.

    Args:
        num_codebooks: codebooks to use, from the first.
        model: a tokenizer, as :func:`speechtok.load` takes it; by default, the default tokenizer.

    Raises:
        InputError: Codec-SUPERB cannot be imported.
    """
    try:
        general: Any = importlib.import_module("SoundCodec.base_codec.general")
    except ImportError as error:
        raise InputError(
            f"Codec-SUPERB cannot be imported ({error}); expected its folder SoundCodec on PYTHONPATH"
        ) from error

    class Codec(general.BaseCodec):  # type: ignore[misc]
        """speechtok as a codec of Codec-SUPERB."""

        def config(self) -> None:
            """Load the tokenizer."""
            self.model = speechtok.load(model, device="cuda" if self.device == "cuda" else "cpu")
            self.sampling_rate = self.model.sample_rate
            self.setting = f"speechtok_{self.model.fingerprint}_{num_codebooks}"

        @torch.no_grad()
        def extract_unit(self, data: dict[str, Any]) -> Any:
            """Codes ``(Q, T)`` of ``data["audio"]``, and what decoding needs."""
            audio = data["audio"]
            waveform = torch.as_tensor(np.asarray(audio["array"]), dtype=torch.float32)
            tokens = self.model.encode(waveform, audio["sampling_rate"], num_codebooks=num_codebooks)
            return general.ExtractedUnit(unit=tokens.codes[0], stuff_for_synth=tokens)

        @torch.no_grad()
        def decode_unit(self, stuff_for_synth: Any) -> np.ndarray:
            """Decoded audio ``(1, S)`` at the sample rate of the tokenizer."""
            decoded: np.ndarray = self.model.decode(stuff_for_synth).cpu().numpy()
            return decoded

    return Codec
