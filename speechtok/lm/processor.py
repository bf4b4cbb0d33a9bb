"""Texts with speech in them: from strings with slots to the ids of a language model, and back."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase

from speechtok.loaders import load
from speechtok.errors import MissingFileError, VocabularyError
from speechtok.lm.extend import extend_tokenizer, vocabulary_of
from speechtok.lm.patterns import Pattern
from speechtok.lm.vocabulary import SLOT, AudioVocabulary
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens

_FOLDER = "speech_tokenizer"


@dataclass(frozen=True, eq=False)
class TextAndSpeech:
    """What a sequence says.

    Attributes:
        text: with ``<|speech|>`` where an utterance is, and without the text tokenizer's special tokens.
        speech: the utterances in order, each a batch of one.
    """

    text: str
    speech: list[SpeechTokens]


class SpeechProcessor:
    """A text tokenizer and a speech tokenizer as one: ``<|speech|>`` in a text is the place of an utterance.

    Args:
        text_tokenizer: any of transformers'; it is extended in place, if it is not yet.
        tokenizer: the speech tokenizer.
        vocabulary: of ``tokenizer``, with the pattern of choice and any offset.

    Attributes:
        vocabulary: at its place in ``text_tokenizer``.

    Raises:
        VocabularyError: see :func:`~speechtok.lm.extend_tokenizer`; or the vocabulary is another tokenizer's.
    """

    def __init__(
        self, text_tokenizer: PreTrainedTokenizerBase, tokenizer: Tokenizer, vocabulary: AudioVocabulary
    ) -> None:
        if vocabulary.fingerprint != tokenizer.fingerprint:
            raise VocabularyError(
                f"the vocabulary is that of tokenizer {vocabulary.fingerprint}, and this is {tokenizer.fingerprint}; "
                "make the vocabulary with the same tokenizer"
            )
        self.text_tokenizer = text_tokenizer
        self.tokenizer = tokenizer
        self.vocabulary = extend_tokenizer(text_tokenizer, vocabulary)

    @property
    def pad_id(self) -> int:
        """What batches are filled up with: the text's padding, or the vocabulary's if the text has none."""
        pad = self.text_tokenizer.pad_token_id
        return self.vocabulary.pad_id if pad is None else int(pad)

    def __call__(
        self,
        text: str | Sequence[str],
        speech: Sequence[Any] = (),
        sample_rate: int | None = None,
        add_special_tokens: bool = True,
    ) -> BatchEncoding:
        """Texts and utterances to what a model takes.

        Args:
            text: one or several, with a slot ``<|speech|>`` for each utterance; ``<|speech_begin|>`` at the end of a
                prompt asks for speech.
            speech: the utterances of all slots in order: SpeechTokens (their rows one after another), or waveforms
                ``(S,)``.
            sample_rate: of the waveforms, in hertz.
            add_special_tokens: whether the text tokenizer adds its own, such as the one that begins a text.

        Returns:
            ``input_ids`` and ``attention_mask``, int64 ``(B, L)``; filled up on the text tokenizer's ``padding_side``.

        Raises:
            VocabularyError: there are more slots than utterances, or fewer, or no sample rate.
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
        """One conversation, by the text tokenizer's chat template, to what a model takes.

        Args:
            messages: as transformers takes them, with slots ``<|speech|>`` in their contents.
            speech: the utterances, as :meth:`__call__` takes them.
            sample_rate: of waveforms among them, in hertz.
            add_generation_prompt: whether the answer is the model's to write.

        Raises:
            As :meth:`__call__`.
        """
        rendered = self.render(messages, add_generation_prompt)
        return self(rendered, speech, sample_rate, add_special_tokens=False)  # the template has them

    def render(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
        """A conversation as the text that the chat template makes of it, its slots still in it."""
        return str(
            self.text_tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def fill(
        self, ids: Sequence[Sequence[int]], speech: Sequence[Any] = (), sample_rate: int | None = None
    ) -> list[list[int]]:
        """Put utterances into the slots of tokenised texts, in order.

        Args:
            ids: of texts, with :attr:`AudioVocabulary.slot_id` at each slot.
            speech: the utterances, as :meth:`__call__` takes them.
            sample_rate: of waveforms among them, in hertz.

        Raises:
            As :meth:`__call__`.
        """
        slot = self.vocabulary.slot_id
        utterances = [row for one in speech for row in self._as_ids(one, sample_rate)]
        slots = sum(list(row).count(slot) for row in ids)
        if slots != len(utterances):
            raise VocabularyError(
                f"there are {slots} slots {SLOT} in the text and {len(utterances)} utterances; expected as many of "
                f"each: write {SLOT} where an utterance belongs"
            )
        coming = iter(utterances)
        return [[i for id_ in row for i in (next(coming) if id_ == slot else (id_,))] for row in ids]

    def pad(self, ids: Sequence[Sequence[int]]) -> BatchEncoding:
        """Rows of different lengths to ``input_ids`` and ``attention_mask``, int64 ``(B, L)``."""
        longest = max(map(len, ids), default=0)
        left = self.text_tokenizer.padding_side == "left"
        input_ids = torch.full((len(ids), longest), self.pad_id, device="cpu")
        mask = torch.zeros(len(ids), longest, dtype=torch.int64, device="cpu")
        for given, real, row in zip(input_ids, mask, ids, strict=True):
            where = slice(longest - len(row), None) if left else slice(len(row))
            given[where], real[where] = torch.tensor(row, dtype=torch.int64, device="cpu"), 1
        return BatchEncoding({"input_ids": input_ids, "attention_mask": mask})

    def decode(self, ids: Tensor | Sequence[int]) -> TextAndSpeech:
        """A sequence that a model read or wrote, ``(L,)``, to its text and utterances.

        Nothing that a model writes is an error: of an utterance, what is valid is returned.

        Raises:
            VocabularyError: ``ids`` is no sequence of ids.
        """
        text, speech, done = [], [], 0
        spans = self.vocabulary.spans(ids)
        row = [int(i) for i in ids]
        for span in spans:
            text.append(self._decode_text(row[done : span.start]))
            speech.append(self.vocabulary.to_codes(row[span], strict=False))
            done = span.stop
        return TextAndSpeech(SLOT.join([*text, self._decode_text(row[done:])]), speech)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write the text tokenizer, which knows the vocabulary, and the speech tokenizer in a folder of its own.

        Raises:
            OutputError: they cannot be written.
        """
        directory = Path(directory)
        self.tokenizer.save(directory / _FOLDER)
        self.text_tokenizer.save_pretrained(directory)

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str], pattern: Pattern | None = None) -> "SpeechProcessor":
        """Read what :meth:`save_pretrained` wrote.

        Args:
            directory: where.
            pattern: the pattern, if it is one of your own that :data:`~speechtok.lm.PATTERNS` does not have.

        Raises:
            MissingFileError: there is no such directory.
            VocabularyError: it holds no extended text tokenizer, or that of another speech tokenizer.
            CheckpointError: the speech tokenizer is damaged.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise MissingFileError(f"{directory} does not exist; expected a folder that save_pretrained wrote")
        tokenizer = load(directory / _FOLDER)
        text_tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)  # type: ignore[no-untyped-call]
        described = vocabulary_of(text_tokenizer)
        if described is None:
            raise VocabularyError(
                f"{directory} has a text tokenizer without a vocabulary; expected one that save_pretrained wrote"
            )
        return cls(text_tokenizer, tokenizer, AudioVocabulary.from_dict(described, pattern))

    def _as_ids(self, speech: Any, sample_rate: int | None) -> list[list[int]]:
        """Utterances, each with its marks."""
        if not isinstance(speech, SpeechTokens):
            if sample_rate is None:
                raise VocabularyError(
                    f"speech holds a {type(speech).__name__} and sample_rate is not given; expected SpeechTokens, or "
                    "waveforms and their sample_rate"
                )
            speech = self.tokenizer.encode(speech, sample_rate)
        return [self.vocabulary.to_ids(speech[i])[0].tolist() for i in range(len(speech))]

    def _decode_text(self, ids: list[int]) -> str:
        return str(self.text_tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""
