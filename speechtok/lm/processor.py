"""Processor for text with speech: strings with placeholders to ids of a language model, and back."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase

from speechtok.errors import FingerprintError, MissingFileError, VocabularyError, quoted
from speechtok.lm.extend import extend_tokenizer, vocabulary_of
from speechtok.lm.layout import PLACEHOLDER_TOKEN
from speechtok.lm.patterns import Pattern
from speechtok.lm.vocabulary import AudioVocabulary
from speechtok.loaders import load
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens

_FOLDER = "speech_tokenizer"
"""Folder of the speech tokenizer in a saved processor."""


@dataclass(frozen=True, eq=False)
class TextAndSpeech:
    """Text and utterances of a sequence.

    Attributes:
        text: text with a placeholder ``<|speech|>`` for each utterance, without special tokens of the text tokenizer.
        speech: the utterances in order, each a batch of one.
    """

    text: str
    speech: list[SpeechTokens]


class SpeechProcessor:
    """Combines a text tokenizer and a speech tokenizer; ``<|speech|>`` in a text is the placeholder of an utterance.

    Args:
        text_tokenizer: a tokenizer of transformers; extended in place with :func:`~speechtok.lm.extend_tokenizer`.
        tokenizer: speech tokenizer.
        vocabulary: vocabulary of ``tokenizer``, with any pattern and offset.

    Attributes:
        vocabulary: the vocabulary, with the offset that it has in ``text_tokenizer``.

    Raises:
        VocabularyError: the vocabulary belongs to another speech tokenizer, or ``text_tokenizer`` cannot be extended.
    """

    def __init__(
        self, text_tokenizer: PreTrainedTokenizerBase, tokenizer: Tokenizer, vocabulary: AudioVocabulary
    ) -> None:
        try:
            vocabulary = vocabulary.for_tokenizer(tokenizer)
        except FingerprintError as error:
            raise VocabularyError(str(error)) from error
        self.text_tokenizer = text_tokenizer
        self.tokenizer = tokenizer
        self.vocabulary = extend_tokenizer(text_tokenizer, vocabulary)

    @property
    def pad_id(self) -> int:
        """Id that pads batches: that of the text tokenizer if it has one, else that of the vocabulary."""
        pad_id = self.text_tokenizer.pad_token_id
        return self.vocabulary.pad_id if pad_id is None else int(pad_id)

    def __call__(
        self,
        text: str | Sequence[str],
        speech: Sequence[Any] = (),
        sample_rate: int | None = None,
        add_special_tokens: bool = True,
    ) -> BatchEncoding:
        """Texts and utterances to model inputs.

        Args:
            text: one text or several, with a placeholder ``<|speech|>`` for each utterance. A prompt that ends with
                ``<|speech_begin|>`` asks for speech.
            speech: utterances for all placeholders in order: SpeechTokens, whose rows are taken one after another, or
                waveforms ``(S,)``.
            sample_rate: sample rate of the waveforms, in hertz.
            add_special_tokens: whether the text tokenizer adds its special tokens, such as a start token.

        Returns:
            ``input_ids`` and ``attention_mask``, int64 ``(B, L)``; padded on the ``padding_side`` of the text
            tokenizer.

        Raises:
            VocabularyError: the numbers of placeholders and utterances differ, or ``sample_rate`` is missing.
            AudioError, TokensError: an utterance cannot be used.
        """
        texts = [text] if isinstance(text, str) else list(text)
        ids = [self.text_tokenizer(one, add_special_tokens=add_special_tokens)["input_ids"] for one in texts]
        return self.pad(self.fill(ids, speech, sample_rate))

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, str]],
        speech: Sequence[Any] = (),
        sample_rate: int | None = None,
        add_generation_prompt: bool = True,
    ) -> BatchEncoding:
        """One conversation to model inputs, with the chat template of the text tokenizer.

        Args:
            messages: messages in the format of transformers, with placeholders ``<|speech|>`` in their contents.
            speech: utterances; see :meth:`__call__`.
            sample_rate: sample rate of the waveforms, in hertz.
            add_generation_prompt: whether to add the prompt for an answer of the model.

        Raises:
            VocabularyError, AudioError, TokensError: as :meth:`__call__`.
        """
        rendered = self.render(messages, add_generation_prompt)
        return self(rendered, speech, sample_rate, add_special_tokens=False)  # the template adds them

    def render(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
        """Text of a conversation by the chat template, with its placeholders."""
        return str(
            self.text_tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def fill(
        self, ids: Sequence[Sequence[int]], speech: Sequence[Any] = (), sample_rate: int | None = None
    ) -> list[list[int]]:
        """Replace the placeholders in tokenized texts by the ids of utterances, in order.

        Args:
            ids: rows of ids, with :attr:`AudioVocabulary.placeholder_id` for each placeholder.
            speech: utterances; see :meth:`__call__`.
            sample_rate: sample rate of the waveforms, in hertz.

        Raises:
            VocabularyError, AudioError, TokensError: as :meth:`__call__`.
        """
        try:
            speech = list(speech)
        except TypeError as error:
            raise VocabularyError(
                f"speech is {quoted(speech)}; expected a list of SpeechTokens or waveforms: leave it out for a text "
                f"without {PLACEHOLDER_TOKEN}"
            ) from error
        placeholder = self.vocabulary.placeholder_id
        utterances = [row for one in speech for row in self._utterance_ids(one, sample_rate)]
        num_placeholders = sum(list(row).count(placeholder) for row in ids)
        if num_placeholders != len(utterances):
            raise VocabularyError(
                f"the text has {num_placeholders} placeholders {PLACEHOLDER_TOKEN} for {len(utterances)} utterances; "
                f"expected equal numbers: write {PLACEHOLDER_TOKEN} for each utterance"
            )
        remaining = iter(utterances)
        return [[i for id_ in row for i in (next(remaining) if id_ == placeholder else (id_,))] for row in ids]

    def pad(self, ids: Sequence[Sequence[int]]) -> BatchEncoding:
        """Rows of different lengths to ``input_ids`` and ``attention_mask``, int64 ``(B, L)``."""
        longest = max(map(len, ids), default=0)
        pad_left = self.text_tokenizer.padding_side == "left"
        input_ids = torch.full((len(ids), longest), self.pad_id, device="cpu")
        attention_mask = torch.zeros(len(ids), longest, dtype=torch.int64, device="cpu")
        for padded, mask, row in zip(input_ids, attention_mask, ids, strict=True):
            where = slice(longest - len(row), None) if pad_left else slice(len(row))
            padded[where], mask[where] = torch.tensor(row, dtype=torch.int64, device="cpu"), 1
        return BatchEncoding({"input_ids": input_ids, "attention_mask": attention_mask})

    def decode(self, ids: Tensor | Sequence[int]) -> TextAndSpeech:
        """A sequence of ids ``(L,)``, given or generated, to its text and utterances.

        Generated ids never raise an error: the valid part of each utterance is returned.

        Raises:
            VocabularyError: ``ids`` has a wrong shape or dtype.
        """
        text, speech, done = [], [], 0
        spans = self.vocabulary.spans(ids)
        row = [int(i) for i in ids]
        for span in spans:
            text.append(self._decode_text(row[done : span.start]))
            speech.append(self.vocabulary.to_codes(row[span], strict=False))
            done = span.stop
        return TextAndSpeech(PLACEHOLDER_TOKEN.join([*text, self._decode_text(row[done:])]), speech)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write the text tokenizer with its vocabulary, and the speech tokenizer in a folder of its own.

        Raises:
            OutputError: they cannot be written.
        """
        directory = Path(directory)
        self.tokenizer.save(directory / _FOLDER)
        self.text_tokenizer.save_pretrained(directory)

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str], pattern: Pattern | None = None) -> "SpeechProcessor":
        """Load a processor that :meth:`save_pretrained` wrote.

        Args:
            directory: folder of the processor.
            pattern: the pattern, if :data:`~speechtok.lm.PATTERNS` does not have it.

        Raises:
            MissingFileError: the folder does not exist.
            VocabularyError: the text tokenizer has no vocabulary, or one of another speech tokenizer.
            CheckpointError: the speech tokenizer is damaged.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise MissingFileError(f"{directory} does not exist; expected a folder that save_pretrained wrote")
        tokenizer = load(directory / _FOLDER)
        text_tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)  # type: ignore[no-untyped-call]
        saved = vocabulary_of(text_tokenizer)
        if saved is None:
            raise VocabularyError(
                f"{directory} has a text tokenizer without a vocabulary; expected a folder that save_pretrained wrote"
            )
        return cls(text_tokenizer, tokenizer, AudioVocabulary.from_dict(saved, pattern))

    def _utterance_ids(self, speech: Any, sample_rate: int | None) -> list[list[int]]:
        """Ids of each row of ``speech``, with start and end tokens."""
        if not isinstance(speech, SpeechTokens):
            if sample_rate is None:
                raise VocabularyError(
                    f"speech has a {type(speech).__name__}, and sample_rate is not given; expected SpeechTokens, or "
                    "waveforms and their sample_rate"
                )
            speech = self.tokenizer.encode(speech, sample_rate)
        return [self.vocabulary.to_ids(speech[i])[0].tolist() for i in range(len(speech))]

    def _decode_text(self, ids: list[int]) -> str:
        return str(self.text_tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""
