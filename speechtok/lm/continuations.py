"""Valid continuations of a sequence that grows id by id, for servers that decode many requests at once."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor

from speechtok.errors import VocabularyError
from speechtok.lm.parser import LineParser
from speechtok.lm.vocabulary import AudioVocabulary


class Continuations:
    """Ids that may follow a sequence of text and speech, in amortised constant time per id.

    The result is that of :meth:`AudioVocabulary.continuations` for the whole sequence, which takes time in proportion
    to the length of the utterance.

    Args:
        vocabulary: vocabulary with an interleaved pattern, and the offset that it has in the text tokenizer.

    Raises:
        VocabularyError: the vocabulary has a parallel pattern.
    """

    def __init__(self, vocabulary: AudioVocabulary) -> None:
        if vocabulary.is_grid:
            raise VocabularyError(
                f"the pattern {vocabulary.pattern.name!r} gives grids of ids, which cannot be mixed with text; "
                "expected an interleaved pattern, such as 'flatten' or 'delay'"
            )
        self._vocabulary = vocabulary
        self._parser: LineParser | None = None  # within an utterance
        self._is_valid = True  # what the utterance has so far

    def feed(self, ids: Iterable[int]) -> None:
        """Take the next ids. Invalid ones are never an error: the utterance may only end after them."""
        v = self._vocabulary
        for id_ in ids:
            if id_ == v.bos_id:
                parser = v.parser()
                assert isinstance(parser, LineParser)
                self._parser, self._is_valid = parser, True
            elif id_ == v.eos_id:
                self._parser = None
            elif self._parser is not None and self._is_valid:
                try:
                    self._parser.feed([id_ - v.first_code])
                except VocabularyError:
                    self._is_valid = False

    def followed_by(self, ids: Iterable[int]) -> "Continuations":
        """The sequence with further ids, such as the draft of speculative decoding; this one does not change."""
        other = copy.copy(self)
        other._parser = None if self._parser is None else self._parser.copy()
        other.feed(ids)
        return other

    @property
    def allows_text(self) -> bool:
        """Whether text may follow: the sequence does not end within an utterance."""
        return self._parser is None

    def ranges(self) -> tuple[range, ...]:
        """Ids below :attr:`AudioVocabulary.stop_id` that may follow, as ranges."""
        v = self._vocabulary
        if self._parser is None:
            return range(v.offset), range(v.bos_id, v.bos_id + 1)
        end = range(v.eos_id, v.eos_id + 1)
        if not self._is_valid:
            return (end,)
        codes = [range(v.first_code + r.start, v.first_code + r.stop) for r in self._parser.following()]
        return (*codes, end) if self._parser.is_complete else (*codes,)

    def mask(self, num_ids: int) -> Tensor:
        """Whether each id may follow, bool ``(num_ids,)``.

        Args:
            num_ids: ids of the model. Those after the vocabulary are text that was added later, or unused rows.
        """
        allowed = torch.zeros(num_ids, dtype=torch.bool, device="cpu")
        for ids in self.ranges():
            allowed[ids.start : ids.stop] = True
        allowed[self._vocabulary.stop_id :] = self.allows_text
        return allowed
