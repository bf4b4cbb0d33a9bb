"""What a voice model is asked: an utterance, a prompt of a voice, and other utterances to compare the result with."""

import fnmatch
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from speechtok.errors import InputError, quoted
from training.manifest import Utterance

PROMPT_SECONDS = 3.0
"""Length of a prompt."""

MIN_UTTERANCES = 3
"""Utterances that a speaker needs: one to say again, one for the prompt, and one to compare with."""

MAX_OTHERS = 5
"""Utterances of a voice that results are compared with."""

_MAX_PROMPTS = 4
"""Utterances that a long prompt is made of."""


@dataclass(frozen=True)
class Voice:
    """A voice to speak with.

    Attributes:
        speaker: its name.
        prompts: utterances for the prompt: the first, and further ones if a prompt is longer.
        others: further utterances, which are in no prompt.
    """

    speaker: str
    prompts: tuple[Utterance, ...]
    others: tuple[Utterance, ...]


@dataclass(frozen=True)
class Case:
    """An utterance to generate again from its codebook 0.

    Attributes:
        source: the utterance.
        voice: of its speaker, without the utterance.
        wrong: of another speaker of the same gender; ``None`` if there is none.
    """

    source: Utterance
    voice: Voice
    wrong: Voice | None


@dataclass(frozen=True)
class Speakers:
    """Speakers who have enough utterances.

    Attributes:
        utterances: by speaker, in the order of the manifest.
        left_out: number of speakers with fewer than :data:`MIN_UTTERANCES`.
        unnamed: number of utterances without a speaker.
    """

    utterances: dict[str, list[Utterance]]
    left_out: int
    unnamed: int


def group_speakers(utterances: Sequence[Utterance], pattern: str = "*") -> Speakers:
    """Group utterances by speaker.

    Args:
        utterances: from which to choose.
        pattern: of the names of the speakers, such as ``so762-*``.

    Raises:
        InputError: no speaker has enough utterances.
    """
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        if utterance.speaker is not None and fnmatch.fnmatchcase(utterance.speaker, pattern):
            groups.setdefault(utterance.speaker, []).append(utterance)
    kept = {name: group for name, group in groups.items() if len(group) >= MIN_UTTERANCES}
    if not kept:
        raise InputError(
            f"no speaker that fits {quoted(pattern)} has {MIN_UTTERANCES} of the {len(utterances)} utterances; "
            "expected a manifest that names speakers"
        )
    return Speakers(kept, len(groups) - len(kept), sum(utterance.speaker is None for utterance in utterances))


def make_cases(speakers: Speakers, limit: int | None = None) -> list[Case]:
    """A case for each utterance. The first of all speakers come first, so that ``limit`` keeps as many of each."""
    turns = itertools.zip_longest(*speakers.utterances.values())
    sources = [utterance for turn in turns for utterance in turn if utterance is not None]
    return [_make_case(speakers, source) for source in sources[:limit]]


def _make_case(speakers: Speakers, source: Utterance) -> Case:
    speaker = str(source.speaker)
    rng = random.Random(f"wrong {source.id}")
    alike = [
        name
        for name, group in speakers.utterances.items()
        if name != speaker and gender_of(group) == gender_of(speakers.utterances[speaker])
    ]
    wrong = make_voice(speakers, rng.choice(alike), source) if alike else None
    return Case(source, make_voice(speakers, speaker, source), wrong)


def make_voice(speakers: Speakers, speaker: str, source: Utterance | None = None) -> Voice:
    """The voice of a speaker, without ``source``; prompts are of utterances that are long enough, if there are any.

    The choice depends on the names of the utterances alone.
    """
    rest = [utterance for utterance in speakers.utterances[speaker] if source is None or utterance.id != source.id]
    random.Random(f"{speaker} {'' if source is None else source.id}").shuffle(rest)
    rest.sort(key=lambda utterance: (utterance.seconds or 0.0) < PROMPT_SECONDS)
    first, others, further = rest[:1], rest[1 : 1 + MAX_OTHERS], rest[1 + MAX_OTHERS :]
    return Voice(speaker, (*first, *further[: _MAX_PROMPTS - 1]), tuple(others))


def choose_voices(speakers: Speakers, count: int) -> list[Voice]:
    """At most ``count`` voices, of each gender in turn."""
    genders: dict[str | None, list[str]] = {}
    for name, group in speakers.utterances.items():
        genders.setdefault(gender_of(group), []).append(name)
    turns = itertools.zip_longest(*genders.values())
    names = [name for turn in turns for name in turn if name is not None]
    return [make_voice(speakers, name) for name in names[:count]]


def gender_of(utterances: Sequence[Utterance]) -> str | None:
    """Gender of the speaker of all utterances; speakers of whom it is not known are a group, too."""
    return next((utterance.gender for utterance in utterances if utterance.gender is not None), None)
