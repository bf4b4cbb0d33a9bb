"""Speech for language models: the audio vocabulary, its patterns, and the transformers side.

What needs transformers (the ``lm`` extra) is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from speechtok.lm.adapter import SpeechAdapter
from speechtok.lm.patterns import (
    PATTERNS,
    CoarseFirst,
    Delay,
    Flatten,
    Grid,
    Line,
    Parallel,
    Pattern,
    Semantic,
    cells,
)
from speechtok.lm.vocabulary import AudioVocabulary, TokenizerFacts

if TYPE_CHECKING:
    from speechtok.lm.collator import SpeechCollator
    from speechtok.lm.extend import extend_model, extend_tokenizer
    from speechtok.lm.generation import AudioStreamer, SpeechLogitsProcessor
    from speechtok.lm.processor import SpeechProcessor

_NEED_TRANSFORMERS = {
    "AudioStreamer": "generation",
    "SpeechCollator": "collator",
    "SpeechLogitsProcessor": "generation",
    "SpeechProcessor": "processor",
    "extend_model": "extend",
    "extend_tokenizer": "extend",
}

__all__ = [
    "PATTERNS",
    "AudioStreamer",
    "AudioVocabulary",
    "CoarseFirst",
    "Delay",
    "Flatten",
    "Grid",
    "Line",
    "Parallel",
    "Pattern",
    "Semantic",
    "SpeechAdapter",
    "SpeechCollator",
    "SpeechLogitsProcessor",
    "SpeechProcessor",
    "TokenizerFacts",
    "cells",
    "extend_model",
    "extend_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name in _NEED_TRANSFORMERS:
        return getattr(import_module(f"speechtok.lm.{_NEED_TRANSFORMERS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
