"""Pairs of words, and non-words made of their halves, as sWUGGY has them (Nguyen et al. 2020, arXiv 2011.11588).

Two words of one speaker that share a vowel are cut in the middle of it, and their second halves change places. The two
non-words consist of the same audio as the two words, and each phone has a neighbour that it also has in a word; only
their order makes no word. So a language model that prefers the words knows more than which sounds follow each other.

Words are found by a pronunciation dictionary in the phones of the manifest.
"""

import functools
import importlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import speechtok
from speechtok.errors import SpeechtokError
from training.manifest import SILENCE, Phone, Utterance

VOWELS = {"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"}

MIN_PHONES = 3
MAX_PAIRS = 200

Pronunciations = Mapping[str, Sequence[tuple[str, ...]]]
"""Phones of each word, in capitals without stress, in one or several ways."""


@dataclass(frozen=True)
class Word:
    """One spoken word.

    Attributes:
        utterance: where it was said.
        phones: of the word.
    """

    utterance: Utterance
    phones: tuple[Phone, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the phones."""
        return tuple(phone.name for phone in self.phones)


@dataclass(frozen=True)
class Pair:
    """Two words of one speaker that share a vowel.

    Attributes:
        words: the words.
        cuts: middle of the shared vowel in each, in seconds.
    """

    words: tuple[Word, Word]
    cuts: tuple[float, float]


@functools.cache
def english_pronunciations() -> Pronunciations:
    """The CMU dictionary, as pocketsphinx brings it."""
    pocketsphinx: Any = importlib.import_module("pocketsphinx")
    path = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *phones = line.split()
        found[word.partition("(")[0].upper()].append(tuple(phones))
    return dict(found)


def find_words(utterance: Utterance, pronunciations: Pronunciations) -> list[Word]:
    """Words of an utterance, from the first to the first whose phones the dictionary does not explain."""
    spoken = [phone for phone in utterance.phones or () if phone.name != SILENCE]
    words, at = [], 0
    for written in (utterance.text or "").upper().replace("’", "'").split():
        text = written.strip('.,;:!?"()')
        choices = sorted(pronunciations.get(text, ()), key=len, reverse=True)
        names = tuple(phone.name for phone in spoken[at:])
        match = next((len(phones) for phones in choices if names[: len(phones)] == tuple(phones)), 0)
        if not match:
            break
        words.append(Word(utterance, tuple(spoken[at : at + match])))
        at += match
    return words


def find_pairs(utterances: Sequence[Utterance], pronunciations: Pronunciations, seed: int = 0) -> list[Pair]:
    """At most :data:`MAX_PAIRS` pairs, in random order; each word is used once.

    Args:
        utterances: those with phones, text and speaker are used.
        pronunciations: the dictionary, which the non-words are not in.
        seed: of the order.
    """
    rng = np.random.default_rng(seed)
    known = {tuple(phones) for ways in pronunciations.values() for phones in ways}
    by_speaker: dict[str, list[Word]] = defaultdict(list)
    for utterance in utterances:
        if utterance.phones and utterance.text and utterance.speaker is not None:
            words = find_words(utterance, pronunciations)
            by_speaker[utterance.speaker] += [word for word in words if len(word.phones) >= MIN_PHONES]
    pairs = []
    for speaker in sorted(by_speaker):
        words = by_speaker[speaker]
        waiting = [words[index] for index in rng.permutation(len(words))]
        while waiting:
            word = waiting.pop()
            for index, other in enumerate(waiting):
                cuts = _shared_vowel(word, other, known)
                if cuts:
                    pairs.append(Pair((word, other), cuts))
                    del waiting[index]
                    break
    return [pairs[index] for index in rng.permutation(len(pairs))[:MAX_PAIRS]]


def _shared_vowel(a: Word, b: Word, known: set[tuple[str, ...]]) -> tuple[float, float] | None:
    """Middle of a vowel inside both words, whose exchange of the second halves makes two non-words."""
    for i, first in enumerate(a.phones[1:-1], 1):
        for j, second in enumerate(b.phones[1:-1], 1):
            if first.name == second.name and first.name in VOWELS:
                made = a.names[: i + 1] + b.names[j + 1 :], b.names[: j + 1] + a.names[i + 1 :]
                if not known.intersection(made):
                    return (first.start + first.end) / 2, (second.start + second.end) / 2
    return None


def cut_pair(pair: Pair, fade_seconds: float = 0.005) -> tuple[list[np.ndarray], int] | None:
    """Audio of a pair: two words and two non-words, ``(S,)`` each, and the sample rate; ``None`` if it cannot be read.

    All four are joined at the cut, with a fade, so that they are treated alike.
    """
    halves, rates = [], []
    for word, cut in zip(pair.words, pair.cuts, strict=True):
        try:
            waveform, rate = speechtok.read_audio(word.utterance.audio)
        except (SpeechtokError, OSError, RuntimeError):
            return None
        fade = round(fade_seconds * rate)
        start, middle, end = (round(t * rate) for t in (word.phones[0].start, cut, word.phones[-1].end))
        x = waveform.numpy()
        halves.append((x[start : middle + fade], x[middle:end]))
        rates.append(rate)
    if len(set(rates)) > 1:
        return None
    (a, b), (c, d) = halves
    return [_join(*both, round(fade_seconds * rates[0])) for both in ((a, b), (c, d), (a, d), (c, b))], rates[0]


def _join(first: np.ndarray, second: np.ndarray, fade: int) -> np.ndarray:
    fade = min(fade, len(first), len(second))
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    mixed = first[len(first) - fade :] * (1 - ramp) + second[:fade] * ramp
    return np.concatenate([first[: len(first) - fade], mixed, second[fade:]])
