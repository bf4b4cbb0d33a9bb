"""What stands between words and their speech: phones, a letter each.

A model that has heard a few hours does not find out by itself which letters are which sounds, and when. So, where a
manifest has the phones of an utterance, a word is written, then its phones, and then each phone once more before the
speech of that phone alone (as in ELLA-V, arXiv 2401.07333); and after every fifth of a second that is heard, the phones
that have ended in it, and after those of a word the word. So whatever depends on something stands just behind it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechtok.errors import InputError, MissingFileError
from speechtok.tokens import SpeechTokens

LETTERS = {
    "AA": "a", "AE": "@", "AH": "A", "AO": "c", "AW": "W", "AX": "x", "AY": "Y", "EH": "E", "ER": "R", "EY": "e",
    "IH": "I", "IX": "X", "IY": "i", "OW": "o", "OY": "O", "UH": "U", "UW": "u",
    "B": "b", "CH": "C", "D": "d", "DH": "D", "F": "f", "G": "g", "HH": "h", "JH": "J", "K": "k", "L": "l", "M": "m",
    "N": "n", "NG": "G", "P": "p", "R": "r", "S": "s", "SH": "S", "T": "t", "TH": "T", "V": "v", "W": "w", "Y": "y",
    "Z": "z", "ZH": "Z",
}  # fmt: skip
"""ARPAbet with two letters to ARPAbet with one."""

SILENCE = "_"
"""The letter of a pause, and of noise: ``SIL``, ``+NOISE+`` and their like."""

LATE = 1
"""Frames that codebook 0 of a causal encoder tells a phone later than it sounds, as its PNMI shows."""

HEARD = 10
"""Frames of speech that are heard at a time, before what was said in them is written down: 0.2 s of the default."""

UNSURE = 3
"""Of these the last: a phone that ends in them is written down a piece later."""

GAP = 0.03
"""Seconds without a phone that are a pause."""


@dataclass(frozen=True)
class Phone:
    """A sound of an utterance.

    Attributes:
        letter: one of :data:`LETTERS`, or :data:`SILENCE`.
        frames: that it lasts, one at least.
    """

    letter: str
    frames: int


@dataclass(frozen=True)
class Word:
    """A word of an utterance and its phones; or a pause, which has no text.

    Attributes:
        text: as :func:`words_of` has it.
        phones: one at least.
    """

    text: str
    phones: tuple[Phone, ...]


def words_of(text: str) -> list[str]:
    """Its words in lower case, without punctuation."""
    return re.findall(r"[\w']+", text.lower())


def letter_of(phone: str) -> str:
    """The letter of a phone of ARPAbet, with or without a digit for its stress.

    Raises:
        InputError: it is none.
    """
    name = phone.rstrip("012")
    if name in LETTERS:
        return LETTERS[name]
    if name == "SIL" or (name.startswith("+") and name.endswith("+")):
        return SILENCE
    raise InputError(f"the phone is {phone!r}; expected ARPAbet, such as AA, SIL, or +NOISE+")


def align(rows: Sequence[Any], frames: int, frame_rate: float) -> tuple[Phone, ...]:
    """The phones of a manifest, ``[phone, start_s, end_s]`` in order, as frames of the codes.

    What is shorter than a frame has none of its own, and is left out. Where there is no phone, there is a pause; the
    last of all ends with the codes.

    Raises:
        InputError: they are no such rows, or one begins before the one before it ends.
    """
    ends: list[tuple[str, float]] = []
    for index, row in enumerate(rows):
        try:
            name, start, end = row
            before = ends[-1][1] if ends else 0.0
            if not 0 <= start < end < math.inf:
                raise ValueError(f"it goes from {start} to {end}")
            if start < before - GAP:
                raise ValueError(f"the one before ends at {before}")
            if start > before + GAP:
                ends.append((SILENCE, float(start)))
            ends.append((letter_of(name), float(end)))
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"phone {index} is {row!r} ({error}); expected [phone, start_s, end_s]") from error
    if ends and ends[-1][1] < frames / frame_rate - GAP:
        ends.append((SILENCE, frames / frame_rate))
    phones: list[Phone] = []
    begin = 0
    for index, (letter, end) in enumerate(ends, 1):
        edge = frames if index == len(ends) else min(round(end * frame_rate) + LATE, frames)
        if edge > begin:
            phones.append(Phone(letter, edge - begin))
            begin = edge
    return tuple(phones)


def letters_of(words: Sequence[Word]) -> str:
    """Their phones but for the pauses."""
    return "".join(phone.letter for word in words if word.text for phone in word.phones)


def heard(tokens: SpeechTokens, words: Sequence[Word]) -> list[tuple[SpeechTokens, str]]:
    """Speech, :data:`HEARD` frames at a time, and the letters of the phones that have ended by then.

    A word stands in brackets after its phones, as soon as a phone has ended that is not of it, or all is over.
    """
    written: list[tuple[int, str]] = []  # by the frame that ends it
    end, before = 0, ""
    for word in words:
        for phone in word.phones:
            end += phone.frames
            written.append((end, before + phone.letter))
            before = ""
        before = f"[{word.text}]" if word.text else ""
    written.append((tokens.codes.shape[2], before))
    pieces, done, frames = [], 0, tokens.codes.shape[2]
    for begin in range(0, frames, HEARD):
        stop = min(begin + HEARD, frames)
        upto = len(written) if stop == frames else sum(end <= stop - UNSURE for end, _ in written)
        pieces.append((tokens.crop(begin, stop), "".join(letters for _, letters in written[done:upto])))
        done = upto
    return pieces


class Lexicon:
    """How words are pronounced: it tells of which word a phone is, and makes texts without speech to learn from.

    Args:
        path: a pronouncing dictionary as CMU's: lines of a word and its phones, ``word(2)`` for another way.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no such dictionary.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise MissingFileError(
                f"lexicon is {path!r}, which does not exist; expected a pronouncing dictionary, or lexicon='' for none"
            )
        self._ways: dict[str, list[str]] = {}
        for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            name, *phones = line.partition("#")[0].split() or [";;;"]
            if not phones or name.startswith(";;;"):
                continue
            try:
                letters = "".join(map(letter_of, phones))
            except InputError as error:
                raise InputError(f"{path}, line {number}: {error}") from error
            self._ways.setdefault(re.sub(r"\(\d+\)$", "", name.lower()), []).append(letters)
        self._any = sorted(word for word in self._ways if words_of(word) == [word])
        if not self._any:
            raise InputError(f"{path} has no words; expected a pronouncing dictionary: lines of a word and its phones")

    def split(self, text: str, phones: Sequence[Phone]) -> tuple[Word, ...]:
        """The words of a text and the pauses between them; none if they cannot have these phones."""
        letters = "".join(phone.letter for phone in phones)

        def pause(place: int) -> int:
            return len(letters) - len(letters[place:].lstrip(SILENCE))

        # for each word, where it may end, and then where it begins and the one before ends
        found: list[dict[int, tuple[int, int]]] = []
        ends = [0]
        for word in words_of(text):
            places: dict[int, tuple[int, int]] = {}
            for before in ends:
                begin = pause(before)
                for way in self._ways.get(word, []):
                    if letters.startswith(way, begin):
                        places.setdefault(begin + len(way), (begin, before))
            found.append(places)
            ends = list(places)
        whole = [end for end in ends if pause(end) == len(letters)]
        if not whole or not found:
            return ()
        spans, end = [], whole[0]
        for places in reversed(found):
            begin, before = places[end]
            spans.append((begin, end))
            end = before
        words, done = [], 0
        for word, (begin, end) in zip(words_of(text), reversed(spans), strict=True):
            words += [Word("", (phone,)) for phone in phones[done:begin]]
            words.append(Word(word, tuple(phones[begin:end])))
            done = end
        return (*words, *(Word("", (phone,)) for phone in phones[done:]))

    def draw(self, words: int, known: Sequence[str], seed: Sequence[int]) -> list[tuple[str, str]]:
        """So many words, half of them of ``known``, and their phones: a function of the arguments."""
        rng = np.random.default_rng(list(seed))
        drawn = []
        for _ in range(words):
            among = known if known and rng.random() < 0.5 else self._any
            word = among[int(rng.integers(len(among)))]
            drawn.append((word, self._ways[word][0]))
        return drawn
