"""Utterances in the forms that users have them: tokens, waveforms, files, and the audio columns of datasets."""

import os
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.audio import read_audio
from speechtok.errors import FingerprintError, VocabularyError, quoted
from speechtok.lm.layout import PLACEHOLDER_TOKEN
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens


def as_utterances(audio: Any) -> list[Any]:
    """List the utterances of an ``audio`` argument in order, each in a form that :func:`encode_utterance` takes.

    Args:
        audio: one utterance, a list of utterances, or a list of such lists; ``None`` for none.

    Raises:
        VocabularyError: ``audio`` is neither.
    """
    if audio is None:
        return []
    if _is_utterance(audio):
        return [audio]
    if isinstance(audio, (np.ndarray, Tensor)) or not isinstance(audio, Sequence):
        raise VocabularyError(
            f"audio is {quoted(audio)}; expected a list of SpeechTokens or waveforms: leave it out for a text without "
            f"{PLACEHOLDER_TOKEN}"
        )
    return [utterance for one in audio for utterance in (as_utterances(one) if _is_list(one) else [one])]


def encode_utterance(tokenizer: Tokenizer, utterance: Any, sampling_rate: int | None = None) -> SpeechTokens:
    """Encode an utterance, unless it is encoded already.

    Args:
        tokenizer: speech tokenizer.
        utterance: SpeechTokens; a waveform ``(S,)`` or ``(B, S)``; the path of an audio file; a mapping with ``array``
            and ``sampling_rate``, with ``bytes`` or with ``path``, or a decoder of torchcodec, as the audio columns of
            datasets hold them; a row of a corpus, with ``codes``.
        sampling_rate: sample rate of waveforms that come without one, in hertz.

    Raises:
        VocabularyError: the utterance is of another type, or the sample rate of a waveform is missing.
        AudioError: the audio cannot be read or encoded.
    """
    if isinstance(utterance, SpeechTokens):
        return utterance
    if isinstance(utterance, (str, os.PathLike)):
        return tokenizer.encode(*read_audio(utterance))
    if isinstance(utterance, Mapping):
        return _encode_mapping(tokenizer, utterance, sampling_rate)
    if hasattr(utterance, "get_all_samples"):
        samples = utterance.get_all_samples()
        return tokenizer.encode(samples.data.mean(0), samples.sample_rate)
    if not _is_utterance(utterance):
        raise VocabularyError(
            f"audio has {quoted(utterance)}; expected SpeechTokens, a waveform, a path, or a mapping with array and "
            "sampling_rate"
        )
    if sampling_rate is None:
        raise VocabularyError(
            f"audio has a {type(utterance).__name__}, and sampling_rate is not given; expected SpeechTokens, or "
            "waveforms and their sampling_rate"
        )
    return tokenizer.encode(utterance, sampling_rate)


def _encode_mapping(tokenizer: Tokenizer, utterance: Mapping[str, Any], sampling_rate: int | None) -> SpeechTokens:
    if utterance.get("codes") is not None:
        return _tokens_of_row(tokenizer, utterance)
    if utterance.get("array") is not None:
        return encode_utterance(tokenizer, utterance["array"], utterance.get("sampling_rate", sampling_rate))
    if utterance.get("bytes") is not None:
        return tokenizer.encode(*read_audio(utterance["bytes"]))
    if utterance.get("path") is not None:
        return encode_utterance(tokenizer, utterance["path"])
    raise VocabularyError(
        f"audio has a mapping with {quoted(sorted(map(str, utterance)))}; expected array and sampling_rate, bytes, or "
        "path"
    )


def _tokens_of_row(tokenizer: Tokenizer, row: Mapping[str, Any]) -> SpeechTokens:
    """Tokens of a row of a corpus, as datasets and pandas give it, with codes ``(Q, T)``."""
    codes = row["codes"]
    if isinstance(codes, (bytes, bytearray)):
        raise VocabularyError("audio has a row with packed codes; expected lists: read it with speechtok.corpus.Corpus")
    fingerprint = str(row.get("fingerprint") or tokenizer.fingerprint)
    if not tokenizer.made(fingerprint):
        raise FingerprintError(
            f"audio has a row of codes of tokenizer {fingerprint:.80}; expected those of {tokenizer.fingerprint:.80}"
        )
    grid = torch.from_numpy(np.stack([np.asarray(line) for line in codes]).astype(np.int64))[None]
    frames = torch.tensor([grid.shape[2]], device="cpu")
    samples = row.get("num_samples")
    count = frames * tokenizer.hop_length if samples is None else torch.tensor([int(samples)], device="cpu")
    return SpeechTokens(
        grid, frames, count, tokenizer.sample_rate, tokenizer.hop_length, tokenizer.codebook_size, fingerprint
    )


def _is_utterance(value: Any) -> bool:
    if isinstance(value, (np.ndarray, Tensor)):
        return value.ndim > 0
    if isinstance(value, (list, tuple)):
        return bool(value) and isinstance(value[0], Number)
    return isinstance(value, (SpeechTokens, str, os.PathLike, Mapping)) or hasattr(value, "get_all_samples")


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and not _is_utterance(value)
