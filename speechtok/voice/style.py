"""Style: how an utterance is asked to sound, in a few steps of each quantity of its prosody."""

import bisect
import difflib
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import AudioError, InputError, quoted
from speechtok.voice.prosody import Prosody

NUM_STEPS = 7
"""Steps of each quantity."""

_POLES = {
    "pitch": ("low", "high"),
    "range": ("monotone", "lively"),
    "energy": ("soft", "loud"),
    "brightness": ("dark", "bright"),
}
"""Words for the lower and the upper steps of each quantity."""

QUANTITIES = tuple(_POLES)
"""What a style consists of, in the order of :meth:`Style.steps`."""

MEDIUM = "medium"

WORDS = {
    name: (f"very {low}", low, f"slightly {low}", MEDIUM, f"slightly {high}", high, f"very {high}")
    for name, (low, high) in _POLES.items()
}
"""The words of each quantity, from step 1 to step 7."""

STYLE_TOKENS = tuple(f"<|style_{name}_{word.replace(' ', '_')}|>" for name, words in WORDS.items() for word in words)
"""Names of the tokens of all steps in a text tokenizer of a language model."""

BOUNDS = {
    "pitch": (1.4, 5.9, 7.7, 9.7, 13.7, 17.8),
    "range": (1.9, 3.1, 4.2, 5.6, 7.5, 13.3),
    "energy": (-25.3, -21.5, -17.8, -14.9, -12.0, -8.8),
    "brightness": (-16.4, -12.1, -9.5, -7.3, -5.4, -1.7),
}
"""Measured values between the steps: semitones above 100 Hz, semitones, decibels, decibels; see :class:`Prosody`.

They are the 5th, 20th, 40th, 60th, 80th and 95th percentiles of 1000 utterances of the training speech, as
``python -m training.voice.style_bounds`` prints them.
"""

_TOKENS = dict(zip(STYLE_TOKENS, ((name, word) for name, words in WORDS.items() for word in words), strict=True))

_SYNONYMS = {
    "deep": "low",
    "flat": "monotone",
    "expressive": "lively",
    "quiet": "soft",
    "strong": "loud",
    "dull": "dark",
}
_NOUNS = {**{name: name for name in QUANTITIES}, "pitched": "pitch"}
_DEGREES = ("very", "slightly")
_FILLERS = ("a", "an", "the", "and", "with", "of", "in", "voice", "speech")
_ADJECTIVES = {word: (name, word) for name, poles in _POLES.items() for word in poles}
_ADJECTIVES |= {word: _ADJECTIVES[meaning] for word, meaning in _SYNONYMS.items()}
_KNOWN = (*_ADJECTIVES, *_DEGREES, MEDIUM, *_NOUNS, *_FILLERS)


@dataclass(frozen=True)
class Style:
    """How an utterance is asked to sound.

    Each quantity is one of its :data:`WORDS`, such as ``"very high"``, or ``None`` where nothing is asked.

    Attributes:
        pitch: ``"low"`` to ``"high"``: the median of the pitch.
        range: ``"monotone"`` to ``"lively"``: how far the pitch moves.
        energy: ``"soft"`` to ``"loud"``: vocal effort, whatever the volume.
        brightness: ``"dark"`` to ``"bright"``: the treble.

    Raises:
        InputError: a word is not one of the quantity.
    """

    pitch: str | None = None
    range: str | None = None
    energy: str | None = None
    brightness: str | None = None

    def __post_init__(self) -> None:
        for name in QUANTITIES:
            word = getattr(self, name)
            if word is not None:
                object.__setattr__(self, name, _word_of(name, word))

    @classmethod
    def of(cls, speech: Any, sample_rate: int | None = None) -> "Style":
        """Style of an utterance; a quantity that cannot be measured, as in silence, is ``None``.

        Args:
            speech: measured prosody, or a waveform ``(S,)``.
            sample_rate: of a waveform, in hertz.

        Raises:
            AudioError: the waveform or its rate cannot be used.
        """
        if isinstance(speech, Prosody):
            prosody = speech
        elif sample_rate is None:
            raise AudioError("sample_rate is None; expected that of the waveform, in hertz")
        else:
            prosody = Prosody.of(speech, sample_rate)
        return cls.from_steps(steps_of(measured_values(prosody).values()))

    @classmethod
    def parse(cls, text: str) -> "Style":
        """Read a description such as ``"a very high, lively voice with low energy"``.

        A description has adjectives (``low`` and ``high``, ``monotone`` and ``lively``, ``soft`` and ``loud``, ``dark``
        and ``bright``), each alone or after ``very`` or ``slightly``, in any order. ``low``, ``medium`` and ``high``
        may also stand before ``pitch``, ``range``, ``energy`` or ``brightness``.

        Raises:
            InputError: a word is unknown, or two words contradict each other.
        """
        if not isinstance(text, str):
            raise InputError(f"style is {quoted(text)}; expected a description, such as 'a high, soft voice'")
        asked: dict[str, str] = {}
        words = [word for word in re.split(r"[\s,.;-]+", text.lower()) if word]
        position = 0
        while position < len(words):
            if words[position] in _FILLERS:
                position += 1
                continue
            name, word, position = _read_phrase(words, position)
            _ask(asked, name, word)
        return cls(**asked)

    @classmethod
    def from_dict(cls, values: Mapping[str, str | None]) -> "Style":
        """Inverse of :meth:`to_dict`.

        Raises:
            InputError: a quantity or a word is unknown.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"style is {quoted(values)}; expected a table such as {{'pitch': 'high'}}")
        for name in values:
            if name not in QUANTITIES:
                raise InputError(f"style has {quoted(name)}, which is not a quantity; {_hint(name, QUANTITIES)}")
        return cls(**values)

    @classmethod
    def from_steps(cls, steps: Any) -> "Style":
        """Inverse of :meth:`steps`: 1 to :data:`NUM_STEPS` for each quantity, 0 where nothing is asked, ``(4,)``.

        Raises:
            InputError: there are not four whole numbers in this range.
        """
        numbers = np.asarray(steps)
        whole = numbers.shape == (len(QUANTITIES),) and numbers.dtype.kind in "iu"
        if not whole or numbers.min() < 0 or numbers.max() > NUM_STEPS:
            raise InputError(
                f"steps is {quoted(steps)}; expected {len(QUANTITIES)} whole numbers from 0 to {NUM_STEPS}, one for "
                f"each of {', '.join(QUANTITIES)}"
            )
        return cls(**{n: WORDS[n][int(step) - 1] for n, step in zip(QUANTITIES, numbers, strict=True) if step})

    @classmethod
    def from_tokens(cls, tokens: Iterable[str]) -> "Style":
        """Inverse of :meth:`tokens`, in any order.

        Raises:
            InputError: a token is not one of :data:`STYLE_TOKENS`, or two contradict each other.
        """
        asked: dict[str, str] = {}
        for token in tokens:
            if token not in _TOKENS:
                raise InputError(f"the token is {quoted(token)}; {_hint(token, STYLE_TOKENS)}")
            _ask(asked, *_TOKENS[token])
        return cls(**asked)

    def to_dict(self) -> dict[str, str]:
        """The words of the quantities that are asked for."""
        return {name: word for name, word in asdict(self).items() if word is not None}

    def steps(self) -> Tensor:
        """Step of each of :data:`QUANTITIES`, 1 to :data:`NUM_STEPS`; 0 where nothing is asked; int64 ``(4,)``."""
        asked = self.to_dict()
        numbers = [WORDS[name].index(asked[name]) + 1 if name in asked else 0 for name in QUANTITIES]
        return torch.tensor(numbers, dtype=torch.int64, device="cpu")

    def tokens(self) -> list[str]:
        """Tokens for a language model, one for each quantity that is asked for."""
        return [f"<|style_{name}_{word.replace(' ', '_')}|>" for name, word in self.to_dict().items()]

    def __str__(self) -> str:
        """A description that :meth:`parse` reads."""
        asked = self.to_dict()
        adjectives = [word for word in asked.values() if word != MEDIUM]
        medium = [f"{MEDIUM} {name}" for name, word in asked.items() if word == MEDIUM]
        voice = " ".join(filter(None, ["a", ", ".join(adjectives), "voice"]))
        return f"{voice} with {' and '.join(medium)}" if medium else voice


def as_style(style: Style | str | Mapping[str, str | None] | None) -> Style:
    """The style of a description, of a table, or none.

    Raises:
        InputError: it cannot be read.
    """
    if style is None:
        return Style()
    if isinstance(style, Style):
        return style
    return Style.from_dict(style) if isinstance(style, Mapping) else Style.parse(style)


def measured_values(prosody: Prosody) -> dict[str, float]:
    """What :data:`BOUNDS` divide into steps, for each of :data:`QUANTITIES`; NaN where it cannot be measured."""
    values = prosody.median_pitch, prosody.pitch_range, prosody.energy, prosody.brightness
    return dict(zip(QUANTITIES, values, strict=True))


def steps_of(values: Iterable[float]) -> list[int]:
    """Steps of measured values of all :data:`QUANTITIES`, as of :meth:`Style.steps`; 0 for NaN."""
    return [
        0 if math.isnan(value) else 1 + bisect.bisect_right(BOUNDS[name], value)
        for name, value in zip(QUANTITIES, values, strict=True)
    ]


def _ask(asked: dict[str, str], name: str, word: str) -> None:
    """Add a word to what is asked for; it must not contradict another one."""
    if asked.setdefault(name, word) != word:
        raise InputError(f"style asks for {_phrase(name, asked[name])} and {_phrase(name, word)}; expected one {name}")


def _read_phrase(words: list[str], position: int) -> tuple[str, str, int]:
    """Quantity and word of the phrase at ``position``, and the position after it."""
    first = words[position]
    degree = first if first in _DEGREES else ""
    position += bool(degree)
    adjective = words[position] if position < len(words) else ""
    noun = _NOUNS.get(words[position + 1]) if position + 1 < len(words) else None
    if adjective == MEDIUM and not degree:
        if noun is None:
            raise InputError(
                f"style has 'medium' alone; expected 'medium {QUANTITIES[0]}', or another quantity after it"
            )
        return noun, MEDIUM, position + 2
    if adjective not in _ADJECTIVES:
        if degree:
            raise InputError(
                f"style has {quoted(degree)} before {quoted(adjective)}; expected an adjective, such as "
                f"'{degree} high': {_hint(adjective, _ADJECTIVES)}"
            )
        if adjective in _NOUNS:
            raise InputError(f"style has {quoted(adjective)} without an adjective; expected 'high {_NOUNS[adjective]}'")
        raise InputError(f"style has the word {quoted(adjective)}, which is not known; {_hint(adjective, _KNOWN)}")
    name, word = _ADJECTIVES[adjective]
    if noun is not None and noun != name:
        if name != "pitch":
            raise InputError(f"style has '{adjective} {noun}'; expected {_choice(noun)}, for {noun}")
        word = _POLES[noun][_POLES["pitch"].index(word)]
    return noun or name, " ".join(filter(None, [degree, word])), position + (1 if noun is None else 2)


def _word_of(name: str, word: Any) -> str:
    """The word of a quantity that ``word`` means."""
    if not isinstance(word, str):
        raise InputError(f"{name} is {quoted(word)}; expected {_choice(name)}")
    plain = " ".join(word.lower().split())
    degree, _, adjective = plain.rpartition(" ")
    plain = f"{degree} {_SYNONYMS.get(adjective, adjective)}".strip()
    if plain not in WORDS[name]:
        near = difflib.get_close_matches(quoted(plain).strip("'"), WORDS[name], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"{name} is {quoted(word)}; {hint}expected {_choice(name)}")
    return plain


def _choice(name: str) -> str:
    low, high = _POLES[name]
    return f"{low!r}, 'medium' or {high!r}, or {low!r} and {high!r} after 'very' or 'slightly'"


def _phrase(name: str, word: str) -> str:
    return repr(f"{word} {name}" if word == MEDIUM else word)


def _hint(word: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(quoted(word).strip("'"), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected {', '.join(itertools.islice(known, 8))}"
