"""Words, their phones, and the frames of each phone.

A model trained on a few hours of speech does not discover which letters stand for which sounds. Where a manifest has
phones, they form an intermediate step. To speak, the model writes a word, its phones, and then each phone again,
followed by the speech of that phone, as in ELLA-V (arXiv 2401.07333). To transcribe, it writes after every fifth of a
second the phones that have ended, and after the phones of a word the word. Every output then depends on what
immediately precedes it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from speechtok.errors import InputError
from speechtok.tokens import SpeechTokens
from training import manifest

LETTERS = {
    "AA": "a", "AE": "@", "AH": "A", "AO": "c", "AW": "W", "AX": "x", "AY": "Y", "EH": "E", "ER": "R", "EY": "e",
    "IH": "I", "IX": "X", "IY": "i", "OW": "o", "OY": "O", "UH": "U", "UW": "u",
    "B": "b", "CH": "C", "D": "d", "DH": "D", "F": "f", "G": "g", "HH": "h", "JH": "J", "K": "k", "L": "l", "M": "m",
    "N": "n", "NG": "G", "P": "p", "R": "r", "S": "s", "SH": "S", "T": "t", "TH": "T", "V": "v", "W": "w", "Y": "y",
    "Z": "z", "ZH": "Z",
}  # fmt: skip
"""Two-letter ARPAbet to one-letter ARPAbet."""

SILENCE = "_"
"""Letter for pauses and noise."""

DELAY_FRAMES = 1
"""Frames by which codebook 0 of a causal encoder lags behind the phones, as measured by its PNMI."""

CHUNK_FRAMES = 10
"""Frames of speech between two transcribed pieces of text: 0.2 s for the default tokenizer."""

HOLD_BACK_FRAMES = 3
"""A phone that ends in the last frames of a chunk is transcribed after the next chunk."""

MIN_PAUSE = 0.03
"""Shortest gap between two phones that counts as a pause, in seconds."""


@dataclass(frozen=True)
class Phone:
    """A phone of an utterance.

    Attributes:
        letter: one of the values of :data:`LETTERS`, or :data:`SILENCE`.
        frames: duration in frames, at least 1.
    """

    letter: str
    frames: int


@dataclass(frozen=True)
class Word:
    """A word of an utterance, or a pause.

    Attributes:
        text: the word, as returned by :func:`split_words`; empty for a pause.
        phones: at least one.
    """

    text: str
    phones: tuple[Phone, ...]


def split_words(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation."""
    return re.findall(r"[\w']+", text.lower())


def to_letter(phone: str) -> str:
    """Convert an ARPAbet phone, with or without a stress digit, to its letter.

    Raises:
        InputError: the phone is not ARPAbet.
    """
    name = phone.rstrip("012")
    if name in LETTERS:
        return LETTERS[name]
    if name == manifest.SILENCE:
        return SILENCE
    raise InputError(f"phone is {phone[:80]!r}; expected ARPAbet, such as AA, or SIL for a pause")


def phones_to_frames(phones: Sequence[manifest.Phone], frames: int, frame_rate: float) -> tuple[Phone, ...]:
    """Place the phones of a manifest on the frames of the codes.

    Gaps become pauses, the last phone ends with the codes, and phones shorter than a frame are left out.

    Args:
        phones: forced alignment, in order.
        frames: number of frames ``T``.
        frame_rate: in hertz.

    Raises:
        InputError: a phone is not ARPAbet, is empty, or begins before the end of the previous one.
    """
    ends: list[tuple[str, float]] = []
    for index, phone in enumerate(phones):
        before = ends[-1][1] if ends else 0.0
        try:
            letter = to_letter(phone.name)
            if not 0 <= phone.start < phone.end < math.inf:
                raise InputError("it is empty")
            if phone.start < before - MIN_PAUSE:
                raise InputError(f"the previous phone ends at {before} s")
        except InputError as error:
            raise InputError(
                f"phone {index} is {phone.name[:80]!r} from {phone.start} to {phone.end} s ({error}); expected phones "
                "in order"
            ) from error
        if phone.start > before + MIN_PAUSE:
            ends.append((SILENCE, phone.start))
        ends.append((letter, phone.end))
    if ends and ends[-1][1] < frames / frame_rate - MIN_PAUSE:
        ends.append((SILENCE, frames / frame_rate))
    placed: list[Phone] = []
    begin = 0
    for index, (letter, end) in enumerate(ends, 1):
        edge = frames if index == len(ends) else min(round(end * frame_rate) + DELAY_FRAMES, frames)
        if edge > begin:
            placed.append(Phone(letter, edge - begin))
            begin = edge
    return tuple(placed)


def letters_of(words: Sequence[Word]) -> str:
    """Letters of all phones, without pauses."""
    return "".join(phone.letter for word in words if word.text for phone in word.phones)


def transcription_chunks(tokens: SpeechTokens, words: Sequence[Word]) -> list[tuple[SpeechTokens, str]]:
    """Split an utterance into chunks of :data:`CHUNK_FRAMES` frames, each with the text to write after it.

    The text holds the letters of the phones that have ended. A word follows its phones in brackets, as soon as a phone
    of another word or a pause has ended, or the utterance has.
    """
    written: list[tuple[int, str]] = []  # end frame, and the text that becomes known there
    end, before = 0, ""
    for word in words:
        for phone in word.phones:
            end += phone.frames
            written.append((end, before + phone.letter))
            before = ""
        before = f"[{word.text}]" if word.text else ""
    frames = tokens.codes.shape[2]
    written.append((frames, before))
    chunks, done = [], 0
    for begin in range(0, frames, CHUNK_FRAMES):
        stop = min(begin + CHUNK_FRAMES, frames)
        count = len(written) if stop == frames else sum(end <= stop - HOLD_BACK_FRAMES for end, _ in written)
        chunks.append((tokens.crop(begin, stop), "".join(text for _, text in written[done:count])))
        done = count
    return chunks
