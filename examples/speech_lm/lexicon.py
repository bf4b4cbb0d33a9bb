"""A pronouncing dictionary: words and their phones."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from examples.speech_lm.phones import SILENCE, Phone, Word, split_words, to_letter
from speechtok.errors import InputError, MissingFileError


class Lexicon:
    """Pronunciations of words. They split aligned phones into words, and serve as training text without speech.

    Args:
        path: pronouncing dictionary in CMU format: each line has a word and its phones, ``word(2)`` for an alternative.

    Raises:
        MissingFileError: the file does not exist.
        InputError: the file is not a pronouncing dictionary.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise MissingFileError(
                f"lexicon is {path!r}, which does not exist; expected a pronouncing dictionary, or lexicon='' for none"
            )
        self._pronunciations: dict[str, list[str]] = {}
        for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").split("\n"), 1):
            name, *phones = line.partition("#")[0].split() or [";;;"]
            if not phones or name.startswith(";;;"):
                continue
            try:
                letters = "".join(map(to_letter, phones))
            except InputError as error:
                raise InputError(f"{path}, line {number}: {error}") from error
            self._pronunciations.setdefault(re.sub(r"\(\d+\)$", "", name.lower()), []).append(letters)
        self._words = sorted(word for word in self._pronunciations if split_words(word) == [word])
        if not self._words:
            raise InputError(f"{path} has no words; expected a pronouncing dictionary: lines of a word and its phones")

    def split(self, text: str, phones: Sequence[Phone]) -> tuple[Word, ...]:
        """Split phones into the words of a text and the pauses between them; empty if the phones do not match."""
        letters = "".join(phone.letter for phone in phones)

        def skip_pauses(position: int) -> int:
            return len(letters) - len(letters[position:].lstrip(SILENCE))

        # for each word: its possible ends, each with its begin and the end of the previous word
        found: list[dict[int, tuple[int, int]]] = []
        ends = [0]
        for word in split_words(text):
            matches: dict[int, tuple[int, int]] = {}
            for before in ends:
                begin = skip_pauses(before)
                for pronunciation in self._pronunciations.get(word, []):
                    if letters.startswith(pronunciation, begin):
                        matches.setdefault(begin + len(pronunciation), (begin, before))
            found.append(matches)
            ends = list(matches)
        complete = [end for end in ends if skip_pauses(end) == len(letters)]
        if not complete or not found:
            return ()
        spans, end = [], complete[0]
        for matches in reversed(found):
            begin, before = matches[end]
            spans.append((begin, end))
            end = before
        words, done = [], 0
        for word, (begin, end) in zip(split_words(text), reversed(spans), strict=True):
            words += [Word("", (phone,)) for phone in phones[done:begin]]
            words.append(Word(word, tuple(phones[begin:end])))
            done = end
        return (*words, *(Word("", (phone,)) for phone in phones[done:]))

    def draw(self, count: int, known: Sequence[str], seed: Sequence[int]) -> list[tuple[str, str]]:
        """Draw words with their pronunciations.

        Args:
            count: number of words.
            known: words that make up half of the draws, if there are any.
            seed: of the drawing.
        """
        rng = np.random.default_rng(list(seed))
        drawn = []
        for _ in range(count):
            words = known if known and rng.random() < 0.5 else self._words
            word = words[int(rng.integers(len(words)))]
            drawn.append((word, self._pronunciations[word][0]))
        return drawn
