"""speechtok: speech in, a grid of small integers out, and speech back from the grid.

>>> import speechtok
>>> tok = speechtok.load()
>>> tokens = tok.encode(*speechtok.read_audio("in.wav"))
>>> speechtok.write_audio("out.wav", tok.decode(tokens), tok.sample_rate)
"""

from typing import TYPE_CHECKING, Any

from speechtok.audio import read_audio, write_audio
from speechtok.checkpoint import load
from speechtok.config import ConvNeXtConfig, ConvNeXtStackConfig, SEANetConfig
from speechtok.seanet import SEANetTokenizer
from speechtok.streaming import NO_CODE, Stream
from speechtok.tokenizer import ConvNeXtTokenizer, Tokenizer
from speechtok.tokens import SpeechTokens
from speechtok.version import __version__

if TYPE_CHECKING:
    from speechtok.lm.vocabulary import AudioVocabulary

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name == "AudioVocabulary":  # speechtok.lm imports speechtok, so not the reverse until somebody asks
        from speechtok.lm.vocabulary import AudioVocabulary

        return AudioVocabulary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
