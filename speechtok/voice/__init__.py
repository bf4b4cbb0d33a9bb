"""From what is said to how it sounds: voice models, prosody, and style.

>>> from speechtok.voice import Prosody, Style
>>> Style.parse("a high, lively, soft voice").to_dict()
{'pitch': 'high', 'range': 'lively', 'energy': 'soft'}

Members are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechtok.voice.generation import Sampling
    from speechtok.voice.model import VoiceModel, VoiceStream
    from speechtok.voice.prosody import Prosody, pitch_contour
    from speechtok.voice.style import STYLE_TOKENS, Style

_MODULES = {
    "STYLE_TOKENS": "style",
    "Sampling": "generation",
    "Prosody": "prosody",
    "Style": "style",
    "VoiceModel": "model",
    "VoiceStream": "model",
    "pitch_contour": "prosody",
}

__all__ = ["STYLE_TOKENS", "Prosody", "Sampling", "Style", "VoiceModel", "VoiceStream", "pitch_contour"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"speechtok.voice.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
