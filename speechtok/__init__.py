"""speechtok: speech in, a grid of small integers out, and speech back from the grid.

>>> import speechtok
>>> tok = speechtok.load()
>>> tokens = tok.encode(*speechtok.read_audio("in.wav"))
>>> speechtok.write_audio("out.wav", tok.decode(tokens), tok.sample_rate)
"""

from speechtok.audio import read_audio, write_audio
from speechtok.checkpoint import load
from speechtok.config import ConvNeXtConfig, TokenizerConfig
from speechtok.streaming import NO_CODE, Stream
from speechtok.tokenizer import SpeechTokenizer
from speechtok.tokens import SpeechTokens

__all__ = [
    "NO_CODE",
    "ConvNeXtConfig",
    "SpeechTokenizer",
    "SpeechTokens",
    "Stream",
    "TokenizerConfig",
    "load",
    "read_audio",
    "write_audio",
]
