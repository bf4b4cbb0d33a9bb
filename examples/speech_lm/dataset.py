"""Training examples of all stages."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from examples.speech_lm.config import SpeechLmConfig
from examples.speech_lm.lexicon import Lexicon
from examples.speech_lm.models import SpeechOnly
from examples.speech_lm.phones import CHUNK_FRAMES
from examples.speech_lm.prepare import TokenizedUtterance, load_lexicon
from examples.speech_lm.prompts import (
    ASR_PROMPT,
    MARKUP,
    PHONE_LETTERS,
    TTS_PROMPT,
    Part,
    asr_parts,
    letter_ids,
    opening_ids,
    pronunciation_parts,
    text_ids,
    tts_parts,
)
from speechtok.lm import PLACEHOLDER_TOKEN, AudioVocabulary, SpeechCollator, SpeechProcessor
from speechtok.lm.collator import IGNORE
from speechtok.tokens import SpeechTokens

PRONUNCIATIONS = 12
"""Words in an example of the task ``pronunciation``."""


class Dataset(Protocol):
    """Training examples, by index.

    Attributes:
        lengths: approximate number of ids of each example.
    """

    lengths: list[int]

    def batch(self, indices: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """Collate examples into ``input_ids``, ``attention_mask`` and ``labels``, int64 ``(B, L)``."""
        ...


class LanguageDataset:
    """Text and speech: one example for each utterance and each task that it has the text or phones for.

    =================  =====================================================================================
    ``asr``            speech, then its transcript; only the speech if there is no transcript
    ``tts``            a text, then its speech
    ``continuation``   speech
    ``asr_phones``     speech in chunks, and after each chunk the phones and words that have ended
    ``tts_phones``     a text, then for each word its phones, and for each phone its speech
    ``pronunciation``  words drawn from the lexicon, and their phones
    =================  =====================================================================================

    The model learns everything except the text to synthesize and the speech to transcribe.

    Args:
        utterances: with the codebooks of the vocabulary.
        processor: for text and speech.
        tasks: some of the tasks above.
        lexicon: source of the task ``pronunciation``, which has one example for each utterance with phones.
        seed: of the drawn words.
    """

    def __init__(
        self,
        utterances: Sequence[TokenizedUtterance],
        processor: SpeechProcessor,
        tasks: Sequence[str],
        lexicon: Lexicon | None = None,
        seed: int = 0,
    ) -> None:
        self._processor, self._lexicon, self._seed = processor, lexicon, seed
        self._known = [word.text for utterance in utterances for word in utterance.words if word.text]
        self._collate = SpeechCollator(processor)
        self._padding = {"input_ids": processor.vocabulary.pad_id, "attention_mask": 0, "labels": IGNORE}
        self._examples: list[tuple[str, TokenizedUtterance]] = []
        self._cache: dict[int, dict[str, Tensor]] = {}
        self.lengths: list[int] = []
        for utterance in utterances:
            speech = processor.vocabulary.to_ids(utterance.tokens).shape[1]
            text, words = len(utterance.text.encode()), utterance.words
            phones = sum(len(word.phones) for word in words)
            chunks = utterance.tokens.codes.shape[2] // CHUNK_FRAMES
            for task, available, length in (
                ("asr", True, speech + text),
                ("tts", utterance.text, speech + text),
                ("continuation", True, speech),
                ("asr_phones", words, speech + text + phones + 2 * chunks),
                ("tts_phones", words, speech + 2 * text + 5 * phones),
                ("pronunciation", words and lexicon, 17 * PRONUNCIATIONS),
            ):
                if task in tasks and available:
                    self._examples.append((task, utterance))
                    self.lengths.append(length)

    def batch(self, indices: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """See :meth:`Dataset.batch`."""
        rows = [self._row(i, epoch) for i in indices]
        return {
            name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=value)
            for name, value in self._padding.items()
        }

    def _row(self, index: int, epoch: int) -> dict[str, Tensor]:
        """One example. Examples are cached, except for ``pronunciation``, which differs in every epoch."""
        task, utterance = self._examples[index]
        if task == "pronunciation":
            assert self._lexicon is not None
            drawn = self._lexicon.draw(PRONUNCIATIONS, self._known, (self._seed, epoch, index))
            parts = [part for word, letters in drawn for part in pronunciation_parts(word, letters)]
            return self._encode_parts(parts, end=False)
        if index not in self._cache:
            if task.endswith("_phones"):
                parts = asr_parts(utterance) if task == "asr_phones" else tts_parts(utterance)
                self._cache[index] = self._encode_parts(parts, end=True)
            else:
                batch = self._collate([_collator_example(utterance, task)])
                self._cache[index] = {name: batch[name][0] for name in self._padding}
        return self._cache[index]

    def _encode_parts(self, parts: Sequence[Part], end: bool) -> dict[str, Tensor]:
        """Encode parts as one example; ``end`` adds the end token of the text, if the text tokenizer has one."""
        v, eos = self._processor.vocabulary, self._processor.tokenizer.eos_token_id
        ids = opening_ids(self._processor)
        labels = [IGNORE] * len(ids)
        for part, learned in parts:
            is_speech = isinstance(part, SpeechTokens)
            new = v.to_ids(part)[0].tolist() if isinstance(part, SpeechTokens) else text_ids(self._processor, part)
            ids += new
            labels += new if learned else [*new[:is_speech], *[IGNORE] * (len(new) - is_speech)]
        if end and eos is not None:
            ids, labels = [*ids, eos], [*labels, eos]
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.ones(len(ids), dtype=torch.int64),
            "labels": torch.tensor(labels),
        }


def _collator_example(utterance: TokenizedUtterance, task: str) -> dict[str, Any]:
    """An example in the format of :class:`speechtok.lm.SpeechCollator`."""
    speech = {"audio": [utterance.tokens]}
    if task == "continuation" or (task == "asr" and not utterance.text):
        return {"prompt": "", "answer": PLACEHOLDER_TOKEN, **speech}
    if task == "asr":
        return {"prompt": "", "answer": f"{PLACEHOLDER_TOKEN}{ASR_PROMPT} {utterance.text}", **speech}
    return {"prompt": TTS_PROMPT.format(text=utterance.text), "answer": PLACEHOLDER_TOKEN, **speech}


class CropDataset:
    """Crops of speech, of all codebooks.

    Args:
        utterances: with the codebooks of the vocabulary. Long utterances give several crops.
        vocabulary: with any pattern. The batches of an epoch do not depend on it.
        frames: length of a crop.
        seed: of the positions of the crops.
    """

    def __init__(
        self, utterances: Sequence[TokenizedUtterance], vocabulary: AudioVocabulary, frames: int, seed: int
    ) -> None:
        self._vocabulary, self._frames, self._seed = vocabulary, frames, seed
        self._codes = [
            utterance.tokens.codes[0]
            for utterance in utterances
            for _ in range(max(1, utterance.tokens.codes.shape[2] // frames))
        ]
        self.lengths = [self.frames(index) * vocabulary.num_codebooks + 2 for index in range(len(self._codes))]

    def frames(self, index: int) -> int:
        """Frames of a crop."""
        return min(self._codes[index].shape[1], self._frames)

    def batch(self, indices: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """See :meth:`Dataset.batch`."""
        v = self._vocabulary
        rows = [v.to_ids(self._crop(index, epoch)[None])[0] for index in indices]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=v.pad_id)
        is_padding = ids == v.pad_id
        # of a grid, GridLanguageModel knows what it learns
        return {
            "input_ids": ids,
            "attention_mask": (~is_padding).long(),
            "labels": ids.masked_fill(is_padding, IGNORE),
        }

    def _crop(self, index: int, epoch: int) -> Tensor:
        codes = self._codes[index]
        last_start = max(0, codes.shape[1] - self._frames)
        start = int(np.random.default_rng((self._seed, epoch, index)).integers(0, last_start + 1))
        return codes[:, start : start + self._frames]


def make_dataset(
    config: SpeechLmConfig,
    utterances: Sequence[TokenizedUtterance],
    processor: SpeechProcessor | SpeechOnly,
    held_out: bool = False,
) -> Dataset:
    """Create the dataset of the stage of a config.

    Args:
        config: of the training.
        utterances: with the codebooks of the vocabulary.
        processor: for text and speech.
        held_out: for validation, without words drawn from the lexicon.

    Raises:
        InputError: there is a lexicon, and the text tokenizer lacks single ids for letters.
    """
    v = processor.vocabulary
    if config.stage != "language":
        return CropDataset(utterances, v, crop_frames(config, v), config.seed)
    assert isinstance(processor, SpeechProcessor)
    if not config.lexicon:
        return LanguageDataset(utterances, processor, ("asr", "tts"))
    letter_ids(processor, PHONE_LETTERS + MARKUP)
    lexicon = None if held_out else load_lexicon(config.lexicon)
    tasks = ("continuation", "asr_phones", "tts_phones", "pronunciation")
    return LanguageDataset(utterances, processor, tasks, lexicon, config.seed)


def crop_frames(config: SpeechLmConfig, vocabulary: AudioVocabulary) -> int:
    """Length of the crops, in frames."""
    info = vocabulary.tokenizer_info
    return max(2, round(config.crop_seconds * info.sample_rate / info.hop_length))
