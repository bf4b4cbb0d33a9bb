"""Utterances to batches of ids: what a model reads, and what of it is to be learned."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer as TextTokenizer
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from examples.speech_lm.config import SpeechLmConfig
from examples.speech_lm.phones import HEARD, Lexicon, heard, script, spelled
from examples.speech_lm.prepare import Utterance
from speechtok.lm import AudioVocabulary, SpeechCollator, SpeechProcessor
from speechtok.lm.collator import IGNORE
from speechtok.lm.vocabulary import SLOT

SAY = "Say: {text}\n"
"""Before speech that says a text."""

SAID = "\nSaid:"
"""Between speech and the text that it says, which follows a space."""

MOST_WORDS = 8
"""Of a text that is drawn from the lexicon."""

SCRIPT = "{script}\n"
"""The phones of a text, a letter each, before they are spoken."""


class Examples(Protocol):
    """What is learned from, by number."""

    lengths: list[int]
    """About as many ids as each has."""

    def batch(self, indices: Sequence[int], epoch: int) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and ``labels``, int64 ``(B, L)``."""
        ...


class LanguageExamples:
    """Speech and text, each utterance once for every task that it has what is needed for.

    =============  ============================================================================================
    ``hear``       its speech, and then its text: of an utterance without one, the speech alone
    ``say``        its text, and then its speech
    ``listen``     its speech, which is how speech goes on
    ``hear_phones``  pieces of its speech, the phones heard after each, and then its text
    ``say_phones``   its text, its phones, and then each phone's speech
    ``pronounce``  a text that is drawn from the lexicon, and then its phones
    =============  ============================================================================================

    All is learned but the text that is to be said.

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
        self._collate = SpeechCollator(processor)
        self._fill = {"input_ids": processor.vocabulary.pad_id, "attention_mask": 0, "labels": IGNORE}
        self._examples: list[tuple[str, Utterance]] = []
        self._collated: dict[int, dict[str, Tensor]] = {}
        self.lengths: list[int] = []
        for one in utterances:
            speech, text = processor.vocabulary.to_ids(one.tokens).shape[1], len(one.text.encode())
            pieces = math.ceil(one.tokens.codes.shape[2] / HEARD)
            for task, needed, length in (
                ("hear", True, speech + text),
                ("say", one.text, speech + text),
                ("listen", True, speech),
                ("hear_phones", one.phones, speech + text + len(one.phones) + 2 * pieces),
                ("say_phones", one.phones, speech + text + 5 * len(one.phones)),
                ("pronounce", one.phones and lexicon, 14 * self._words(len(self._examples))),
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

    @staticmethod
    def _words(index: int) -> int:
        """Of the text that example ``index`` draws: many more or less, and always as many."""
        return 1 + index % MOST_WORDS

    def _row(self, index: int, epoch: int) -> dict[str, Tensor]:
        """An example as ids; kept, as every epoch asks for it, but for what is drawn anew."""
        task, one = self._examples[index]
        if index in self._collated:
            return self._collated[index]
        if task == "pronounce":
            assert self._lexicon is not None
            text, phones = self._lexicon.draw(self._words(index), (self._seed, epoch, index))
            example = {"prompt": SAY.format(text=text), "answer": SCRIPT.format(script=phones)}
        else:
            example = _example(one, task)
        batch = self._collate([example])
        row = {name: batch[name][0] for name in self._fill}
        if task != "pronounce":
            self._collated[index] = row
        return row


def _example(one: Utterance, task: str) -> dict[str, Any]:
    """What :class:`speechtok.lm.SpeechCollator` takes."""
    if task == "listen":
        return {"prompt": "", "answer": SLOT, "speech": [one.tokens]}
    if task == "hear":
        return {"prompt": "", "answer": f"{SLOT}{SAID} {one.text}" if one.text else SLOT, "speech": [one.tokens]}
    if task == "hear_phones":
        pieces = heard(one.tokens, one.phones)
        written = "".join(SLOT + letters for _, letters in pieces)
        return {"prompt": "", "answer": f"{written}{SAID} {one.text}", "speech": [speech for speech, _ in pieces]}
    prompt = SAY.format(text=one.text)
    if task == "say":
        return {"prompt": prompt, "answer": SLOT, "speech": [one.tokens]}
    spoken = spelled(one.tokens, one.phones)
    answer = SCRIPT.format(script=script(one.phones)) + "".join(letter + SLOT for letter, _ in spoken)
    return {"prompt": prompt, "answer": answer, "speech": [speech for _, speech in spoken]}


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


def examples_of(config: SpeechLmConfig, utterances: Sequence[Utterance], processor: SpeechProcessor) -> Examples:
    """What the stage of the config learns from."""
    v = processor.vocabulary
    if config.stage == "language":
        lexicon = Lexicon(config.lexicon, [one.text for one in utterances if one.phones]) if config.lexicon else None
        tasks = ("listen", "hear_phones", "say_phones", "pronounce") if config.phones else ("hear", "say")
        return LanguageExamples(utterances, processor, tasks, lexicon, config.seed)
    return VoiceExamples(utterances, v, crop_frames(config, v), config.seed)


def crop_frames(config: SpeechLmConfig, vocabulary: AudioVocabulary) -> int:
    """Frames that the stage ``voice`` sees at a time."""
    return max(2, round(config.crop_seconds * vocabulary.facts.sample_rate / vocabulary.facts.hop_length))


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
