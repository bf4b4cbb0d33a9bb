"""Speech in language models: the audio vocabulary, its codebook patterns, and the integration with transformers.

Members that need transformers (the ``lm`` extra) are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from speechtok.lm.adapter import SpeechAdapter
from speechtok.lm.continuations import Continuations
from speechtok.lm.deprecation import renamed_in_module
from speechtok.lm.grid_model import DepthTransformer, GridEmbedding, GridLanguageModel, ParallelHeads
from speechtok.lm.layout import BOS_TOKEN, EOS_TOKEN, PAD_TOKEN, PLACEHOLDER_TOKEN
from speechtok.lm.patterns import (
    PATTERNS,
    CoarseFirst,
    Delay,
    Flatten,
    InterleavedPattern,
    Parallel,
    ParallelPattern,
    Pattern,
    Semantic,
    SemanticBPE,
    grid_indices,
)
from speechtok.lm.string_form import ANYGPT, SPEECHGPT, StringForm
from speechtok.lm.text_and_speech import TextAndSpeech
from speechtok.lm.vocabulary import AudioVocabulary, TokenizerInfo

if TYPE_CHECKING:
    from speechtok.lm.collator import SpeechCollator
    from speechtok.lm.detokenizer import SpeechDetokenizer
    from speechtok.lm.extend import extend_model, extend_tokenizer
    from speechtok.lm.generation import AudioStreamer, SpeechLogitsProcessor
    from speechtok.lm.processor import SpeechProcessor

_NEED_TRANSFORMERS = {
    "AudioStreamer": "generation",
    "SpeechCollator": "collator",
    "SpeechDetokenizer": "detokenizer",
    "SpeechLogitsProcessor": "generation",
    "SpeechProcessor": "processor",
    "extend_model": "extend",
    "extend_tokenizer": "extend",
}

__all__ = [
    "ANYGPT",
    "BOS_TOKEN",
    "EOS_TOKEN",
    "PAD_TOKEN",
    "PATTERNS",
    "PLACEHOLDER_TOKEN",
    "SPEECHGPT",
    "AudioStreamer",
    "AudioVocabulary",
    "CoarseFirst",
    "Continuations",
    "Delay",
    "DepthTransformer",
    "Flatten",
    "GridEmbedding",
    "GridLanguageModel",
    "InterleavedPattern",
    "Parallel",
    "ParallelHeads",
    "ParallelPattern",
    "Pattern",
    "Semantic",
    "SemanticBPE",
    "SpeechAdapter",
    "SpeechCollator",
    "SpeechDetokenizer",
    "SpeechLogitsProcessor",
    "SpeechProcessor",
    "StringForm",
    "TextAndSpeech",
    "TokenizerInfo",
    "extend_model",
    "extend_tokenizer",
    "grid_indices",
]


def _import_member(name: str) -> Any:
    if name in _NEED_TRANSFORMERS:
        return getattr(import_module(f"speechtok.lm.{_NEED_TRANSFORMERS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__getattr__ = renamed_in_module(
    __name__,
    {
        "Grid": "ParallelPattern",
        "Line": "InterleavedPattern",
        "TokenizerFacts": "TokenizerInfo",
        "cells": "grid_indices",
    },
    _import_member,
)
