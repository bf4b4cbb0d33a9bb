"""Utterances to batches of ids: what a model reads, and what of it is to be learned."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer as TextTokenizer
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from examples.speech_lm.config import SpeechLmConfig
from examples.speech_lm.phones import HEARD, LETTERS, SILENCE, Lexicon, heard
from examples.speech_lm.prepare import Utterance, load_lexicon
from speechtok.errors import InputError
from speechtok.lm import PLACEHOLDER_TOKEN, AudioVocabulary, SpeechCollator, SpeechProcessor
from speechtok.lm.collator import IGNORE
from speechtok.tokens import SpeechTokens

SAY = "Say: {text}\n"
"""Before speech that says a text."""

SAID = "\nSaid:"
"""Between speech and the text that it says, which follows a space."""

DRAWN_WORDS = 12
"""Of an example that is drawn from the lexicon."""

LETTERS_AND_MARKS = "".join([*dict.fromkeys(LETTERS.values()), SILENCE, "[] "])
"""All that phones and words are written with but for the words themselves: each is an id of its own."""

Part = tuple[str | SpeechTokens, bool]
"""A piece of an example, and whether it is to be learned; of speech that is given, only when it begins."""


class Examples(Protocol):
    """What is learned from, by number."""

    lengths: list[int]
    """About as many ids as each has."""

    def batch(self, indices: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and ``labels``, int64 ``(B, L)``."""
        ...


class LanguageExamples:
    """Speech and text, each utterance once for every task that it has what is needed for.

    ===============  ========================================================================================
    ``hear``         its speech, and then its text: of an utterance without one, the speech alone
    ``say``          its text, and then its speech
    ``listen``       its speech, which is how speech goes on
    ``hear_phones``  pieces of its speech, and after each the phones and words that were heard
    ``say_phones``   its text, and then for each word its phones, and for each phone its speech
    ``pronounce``    words that are drawn from the lexicon, and their phones
    ===============  ========================================================================================

    All is learned but what is given to a model that says a text or hears speech.

    Args:
        utterances: with the vocabulary's codebooks.
        processor: of text and speech.
        tasks: some of these.
        lexicon: what ``pronounce`` draws from, for every utterance with phones.
        seed: of what is drawn.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        processor: SpeechProcessor,
        tasks: Sequence[str],
        lexicon: Lexicon | None = None,
        seed: int = 0,
    ) -> None:
        self._processor, self._lexicon, self._seed = processor, lexicon, seed
        self._known = [word.text for one in utterances for word in one.words if word.text]
        self._collate = SpeechCollator(processor)
        self._fill = {"input_ids": processor.vocabulary.pad_id, "attention_mask": 0, "labels": IGNORE}
        self._examples: list[tuple[str, Utterance]] = []
        self._made: dict[int, dict[str, Tensor]] = {}
        self.lengths: list[int] = []
        for one in utterances:
            speech, text = processor.vocabulary.to_ids(one.tokens).shape[1], len(one.text.encode())
            phones, pieces = sum(len(word.phones) for word in one.words), one.tokens.codes.shape[2] // HEARD
            for task, needed, length in (
                ("hear", True, speech + text),
                ("say", one.text, speech + text),
                ("listen", True, speech),
                ("hear_phones", one.words, speech + text + phones + 2 * pieces),
                ("say_phones", one.words, speech + 2 * text + 5 * phones),
                ("pronounce", one.words and lexicon, 17 * DRAWN_WORDS),
            ):
                if task in tasks and needed:
                    self._examples.append((task, one))
                    self.lengths.append(length)

    def batch(self, indices: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """See :meth:`Examples.batch`."""
        rows = [self._row(i, epoch) for i in indices]
        return {
            name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=fill)
            for name, fill in self._fill.items()
        }

    def _row(self, index: int, epoch: int) -> dict[str, Tensor]:
        """An example as ids; kept, as every epoch asks for it, but for what is drawn anew."""
        task, one = self._examples[index]
        if task == "pronounce":
            assert self._lexicon is not None
            drawn = self._lexicon.draw(DRAWN_WORDS, self._known, (self._seed, epoch, index))
            return self._of_parts([part for word, letters in drawn for part in pronounced(word, letters)], ends=False)
        if index not in self._made:
            if task.endswith("_phones"):
                self._made[index] = self._of_parts(parts_of(one, task), ends=True)
            else:
                batch = self._collate([_example(one, task)])
                self._made[index] = {name: batch[name][0] for name in self._fill}
        return self._made[index]

    def _of_parts(self, parts: Sequence[Part], ends: bool) -> dict[str, Tensor]:
        """An example of parts as ids; the text's end after it is learned, if it ``ends`` and the text has one."""
        v, end = self._processor.vocabulary, self._processor.text_tokenizer.eos_token_id
        ids = opening(self._processor)
        labels = [IGNORE] * len(ids)
        for part, learned in parts:
            given = isinstance(part, SpeechTokens)
            new = v.to_ids(part)[0].tolist() if isinstance(part, SpeechTokens) else text_ids(self._processor, part)
            ids += new
            labels += new if learned else [*new[:given], *[IGNORE] * (len(new) - given)]
        if ends and end is not None:
            ids, labels = [*ids, end], [*labels, end]
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.ones(len(ids), dtype=torch.int64),
            "labels": torch.tensor(labels),
        }


def opening(processor: SpeechProcessor) -> list[int]:
    """What the text tokenizer begins a text with."""
    text = processor.text_tokenizer
    return [i for i in text("")["input_ids"] if i != text.eos_token_id]


def text_ids(processor: SpeechProcessor, text: str) -> list[int]:
    """The ids of a piece of text."""
    return list(processor.text_tokenizer(text, add_special_tokens=False)["input_ids"])


def one_id_each(processor: SpeechProcessor, letters: str) -> list[int]:
    """The ids of single letters.

    Raises:
        InputError: the text tokenizer has not one id for each.
    """
    ids = [text_ids(processor, letter) for letter in letters]
    if any(len(i) != 1 for i in ids) or len({i[0] for i in ids}) < len(letters):
        raise InputError(
            f"the text tokenizer has the ids {ids} for the letters {letters!r}; expected one each to write phones "
            "with: choose another, or lexicon=''"
        )
    return [i for (i,) in ids]


def pronounced(word: str, letters: str) -> list[Part]:
    """A word and its phones: ``[bear]bEr`` and a space. What it is is given, and that it is the next one learned."""
    return [("[", True), (word, False), ("]", False), *((letter, True) for letter in letters), (" ", True)]


def parts_of(one: Utterance, task: str) -> list[Part]:
    """An utterance with words, to say or to hear by its phones."""
    parts: list[Part] = []
    if task == "hear_phones":
        for speech, letters in heard(one.tokens, one.words):
            parts += [(speech, False), *((letter, True) for letter in letters)]
        return parts
    parts.append((SAY.format(text=one.text), False))
    begin = 0
    for word in one.words:
        if word.text:
            parts += pronounced(word.text, "".join(phone.letter for phone in word.phones))
        for phone in word.phones:
            # a pause is the model's own choice
            parts += [(phone.letter, not word.text), (one.tokens.crop(begin, begin + phone.frames), True)]
            begin += phone.frames
    return parts


def _example(one: Utterance, task: str) -> dict[str, Any]:
    """What :class:`speechtok.lm.SpeechCollator` takes."""
    if task == "listen":
        return {"prompt": "", "answer": PLACEHOLDER_TOKEN, "speech": [one.tokens]}
    if task == "hear":
        return {
            "prompt": "",
            "answer": f"{PLACEHOLDER_TOKEN}{SAID} {one.text}" if one.text else PLACEHOLDER_TOKEN,
            "speech": [one.tokens],
        }
    return {"prompt": SAY.format(text=one.text), "answer": PLACEHOLDER_TOKEN, "speech": [one.tokens]}


class VoiceExamples:
    """Crops of speech, of which the codebooks after the first are to be learned: codebook 0 is given.

    Args:
        utterances: with the vocabulary's codebooks.
        vocabulary: its pattern has codebook 0 of a frame before the others.
        frames: of a crop.
        seed: of where the crops are.
    """

    def __init__(self, utterances: Sequence[Utterance], vocabulary: AudioVocabulary, frames: int, seed: int) -> None:
        self._vocabulary, self._frames, self._seed = vocabulary, frames, seed
        # a long utterance gives as many crops as it has room for
        self._codes = [
            one.tokens.codes[0] for one in utterances for _ in range(max(1, one.tokens.codes.shape[2] // frames))
        ]
        self.lengths = [min(codes.shape[1], frames) * vocabulary.num_codebooks + 2 for codes in self._codes]

    def batch(self, indices: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """See :meth:`Examples.batch`."""
        v = self._vocabulary
        rows = [v.to_ids(self._crop(index, epoch)[None])[0] for index in indices]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=v.pad_id)
        given = ids < v.first_code + v.codebook_size  # marks and codebook 0
        return {
            "input_ids": ids,
            "attention_mask": (ids != v.pad_id).long(),
            "labels": ids.masked_fill(given, IGNORE),
        }

    def _crop(self, index: int, epoch: int) -> Tensor:
        codes = self._codes[index]
        room = max(0, codes.shape[1] - self._frames)
        start = int(np.random.default_rng((self._seed, epoch, index)).integers(0, room + 1))
        return codes[:, start : start + self._frames]


def examples_of(
    config: SpeechLmConfig, utterances: Sequence[Utterance], processor: SpeechProcessor, held_out: bool = False
) -> Examples:
    """What the stage of the config learns from; of what is ``held_out``, nothing is drawn.

    Raises:
        InputError: there is a lexicon, and the text tokenizer has no single ids for letters.
    """
    v = processor.vocabulary
    if config.stage == "language":
        if not config.lexicon:
            return LanguageExamples(utterances, processor, ("hear", "say"))
        one_id_each(processor, LETTERS_AND_MARKS)
        lexicon = None if held_out else load_lexicon(config.lexicon)
        tasks = ("listen", "hear_phones", "say_phones", "pronounce")
        return LanguageExamples(utterances, processor, tasks, lexicon, config.seed)
    return VoiceExamples(utterances, v, crop_frames(config, v), config.seed)


def crop_frames(config: SpeechLmConfig, vocabulary: AudioVocabulary) -> int:
    """Frames that the stage ``voice`` sees at a time."""
    return max(
        2, round(config.crop_seconds * vocabulary.tokenizer_info.sample_rate / vocabulary.tokenizer_info.hop_length)
    )


def batches(lengths: Sequence[int], most_ids: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch: a function of the arguments alone; examples of about one length are together."""
    rng = np.random.default_rng((seed, epoch))
    order = np.argsort(np.asarray(lengths) * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
    cut = list(_cut(order.tolist(), lengths, most_ids))
    return [cut[i] for i in rng.permutation(len(cut))]


def _cut(order: Sequence[int], lengths: Sequence[int], most_ids: int) -> Iterator[list[int]]:
    batch: list[int] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        if batch and longest * (len(batch) + 1) > most_ids:
            yield batch
            batch, longest = [], lengths[index]
        batch.append(index)
    if batch:
        yield batch


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A text tokenizer whose ids are bytes, and ``<|end|>`` of a text: it needs no training, and knows every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = TextTokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
