"""What stands between a text and its speech: the phones, a letter each, where their speech begins or ends.

A model that has heard a few hours does not find out by itself which letters are which sounds, and when. So, where a
manifest has the phones of an utterance, it says them before it speaks (``text → phones``), and writes each once more
before the speech of that phone alone (as ELLA-V does, arXiv 2401.07333); and while it hears, it writes down after
every fifth of a second what it has heard.
"""

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

LATE = 0.02
"""Seconds that codebook 0 of a causal encoder tells a phone later than it sounds: a frame, as its PNMI shows."""

HEARD = 10
"""Frames of speech that are heard at a time, before what was said in them is written down."""

UNSURE = 3
"""Of these the last: a phone that ends in them is written down a piece later."""


@dataclass(frozen=True)
class Phone:
    """A sound of an utterance.

    Attributes:
        letter: one of :data:`LETTERS`, or :data:`SILENCE`.
        frames: that it lasts, one at least.
    """

    letter: str
    frames: int


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
    """The phones of a manifest, ``[phone, start_s, end_s]`` one after another, as frames of the codes.

    What is shorter than a frame has none of its own, and is left out. The last phone ends with the codes.

    Raises:
        InputError: they are no such rows.
    """
    phones: list[Phone] = []
    begin, last = 0, len(rows) - 1
    for index, row in enumerate(rows):
        try:
            name, start, end = row
            letter, edge = letter_of(name), round((float(end) + LATE) * frame_rate)
            if not 0 <= start < end:
                raise ValueError(f"it goes from {start} to {end}")
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"phone {index} is {row!r} ({error}); expected [phone, start_s, end_s]") from error
        edge = frames if index == last else min(edge, frames)
        if edge > begin:
            phones.append(Phone(letter, edge - begin))
            begin = edge
    if phones and begin < frames:  # the last one came too late to be there
        phones[-1] = Phone(phones[-1].letter, phones[-1].frames + frames - begin)
    return tuple(phones)


def script(phones: Sequence[Phone]) -> str:
    """Their letters."""
    return "".join(phone.letter for phone in phones)


def spelled(tokens: SpeechTokens, phones: Sequence[Phone]) -> list[tuple[str, SpeechTokens]]:
    """Each phone's letter and speech."""
    pieces, begin = [], 0
    for phone in phones:
        pieces.append((phone.letter, tokens.crop(begin, begin + phone.frames)))
        begin += phone.frames
    return pieces


def heard(tokens: SpeechTokens, phones: Sequence[Phone]) -> list[tuple[SpeechTokens, str]]:
    """Speech, :data:`HEARD` frames at a time, and the letters of the phones that have ended by then."""
    frames, pieces, done, end = tokens.codes.shape[2], [], 0, 0
    ends = [end := end + phone.frames for phone in phones]
    for begin in range(0, frames, HEARD):
        stop = min(begin + HEARD, frames)
        sure = stop if stop == frames else stop - UNSURE
        upto = sum(end <= sure for end in ends)
        pieces.append((tokens.crop(begin, stop), script(phones[done:upto])))
        done = upto
    return pieces


class Lexicon:
    """How words are pronounced: what makes texts without speech to learn phones from.

    Args:
        path: a pronouncing dictionary as CMU's: lines of a word and its phones, ``word(2)`` for another way.
        texts: whose words are drawn half of the time; the other half are any.

    Raises:
        MissingFileError: there is no such file.
        InputError: it has none of the words.
    """

    def __init__(self, path: str, texts: Sequence[str]) -> None:
        if not Path(path).is_file():
            raise MissingFileError(
                f"lexicon is {path!r}, which does not exist; expected a pronouncing dictionary, or lexicon='' for none"
            )
        self._words: dict[str, str] = {}
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            word, _, phones = line.partition(" ")
            if word and phones and not line.startswith((";", "#")) and "(" not in word:
                self._words[word.lower()] = "".join(map(letter_of, phones.split()))
        self._any = sorted(self._words)
        self._known = [word for text in texts for word in text.split() if word in self._words]
        if not self._known:
            raise InputError(
                f"{path} has {len(self._any)} words, none of which is in the texts; expected their lexicon"
            )

    def draw(self, words: int, seed: Sequence[int]) -> tuple[str, str]:
        """A text of so many words, and its script: a function of the arguments."""
        rng = np.random.default_rng(list(seed))
        text = []
        for _ in range(words):
            drawn = self._known if rng.random() < 0.5 else self._any
            text.append(drawn[int(rng.integers(len(drawn)))])
        return " ".join(text), SILENCE + "".join(self._words[word] for word in text) + SILENCE
