"""Predicted quality."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from speechtok import dnsmos
from speechtok.corpus.labels.label import Clip, Label
from speechtok.errors import InputError
from speechtok.extras import install_hint


class Dnsmos(Label):
    """DNSMOS P.835 of the library speechmos: ``dnsmos`` overall, ``dnsmos_speech``, ``dnsmos_background``, 1 to 5."""

    columns: ClassVar[Mapping[str, str]] = {
        "dnsmos": "float32",
        "dnsmos_speech": "float32",
        "dnsmos_background": "float32",
    }

    def __init__(self) -> None:
        try:
            import onnxruntime  # noqa: F401
            import speechmos  # noqa: F401
        except ImportError as error:
            raise InputError(f"the label dnsmos needs speechmos ({error}); {install_hint('bench')}") from error

    def __call__(self, clip: Clip) -> Mapping[str, Any]:
        """See :class:`Label`."""
        if clip.waveform is None or clip.sample_rate != dnsmos.SAMPLE_RATE:
            return {}
        scores = dnsmos.dnsmos(clip.waveform, clip.sample_rate)
        if math.isnan(scores.overall):
            return {}
        return {
            "dnsmos": scores.overall,
            "dnsmos_speech": scores.signal,
            "dnsmos_background": scores.background,
        }
