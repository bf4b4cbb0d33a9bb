"""speechtok: a speech tokenizer that any language model can use as its audio vocabulary.

>>> import speechtok
>>> tok = speechtok.load()
>>> tokens = tok.encode(*speechtok.read_audio("in.wav"))
>>> speechtok.write_audio("out.wav", tok.decode(tokens), tok.sample_rate)
"""

import warnings
from typing import TYPE_CHECKING, Any

from speechtok.audio import AUDIO_SUFFIXES, read_audio, write_audio
from speechtok.config import ConvNeXtConfig, ConvNeXtStackConfig, SEANetConfig
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.loaders import load
from speechtok.seanet import SEANetTokenizer
from speechtok.streaming import NO_CODE, Stream
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens
from speechtok.version import __version__

if TYPE_CHECKING:
    from speechtok.lm.vocabulary import AudioVocabulary

__all__ = [
    "AUDIO_SUFFIXES",
    "NO_CODE",
    "AudioVocabulary",
    "ConvNeXtConfig",
    "ConvNeXtStackConfig",
    "ConvNeXtTokenizer",
    "SEANetConfig",
    "SEANetTokenizer",
    "SpeechTokens",
    "Stream",
    "Tokenizer",
    "__version__",
    "load",
    "read_audio",
    "write_audio",
]

_RENAMED = {
    "SeanetConfig": "SEANetConfig",
    "SeanetTokenizer": "SEANetTokenizer",
    "SpeechTokenizer": "ConvNeXtTokenizer",
    "TokenizerConfig": "ConvNeXtConfig",
}
"""Names of version 0.1, and today's."""


def __getattr__(name: str) -> Any:
    if name == "AudioVocabulary":  # speechtok.lm imports speechtok, so it is imported only when somebody asks for it
        from speechtok.lm.vocabulary import AudioVocabulary

        return AudioVocabulary
    if name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(f"speechtok.{name} is now speechtok.{new}", DeprecationWarning, stacklevel=2)
        return globals()[new]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
