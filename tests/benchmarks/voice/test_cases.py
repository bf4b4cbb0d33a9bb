import dataclasses
from pathlib import Path

import pytest

from benchmarks.voice.cases import choose_voices, group_speakers, make_cases, make_voice
from speechtok.errors import InputError
from training.manifest import Utterance


def make(**counts):
    """Utterances of speakers ``f1``, ``m2``, …: the first letter is the gender."""
    return [
        Utterance(Path(f"{name}-{i}.wav"), f"{name}-{i}", 2.0 + (i % 3), speaker=name, gender=name[0])
        for name, count in counts.items()
        for i in range(count)
    ]


@pytest.fixture
def speakers():
    return group_speakers(make(f1=8, m1=12, f2=3, m2=4))


def test_speakers_with_few_utterances_are_left_out_and_counted():
    found = group_speakers([*make(f1=3, m1=2, m2=1), Utterance(Path("x.wav"), "x")])
    assert list(found.utterances) == ["f1"]
    assert (found.left_out, found.unnamed) == (2, 1)


def test_a_pattern_chooses_speakers():
    assert list(group_speakers(make(f1=3, m1=3, m2=3), "m*").utterances) == ["m1", "m2"]
    with pytest.raises(InputError, match="no speaker that fits 'x' has 3 of the 9 utterances"):
        group_speakers(make(f1=3, m1=3, m2=3), "x")


def test_each_utterance_is_generated_once_and_a_limit_keeps_as_many_of_each_speaker(speakers):
    assert sorted(case.source.id for case in make_cases(speakers)) == sorted(
        utterance.id for group in speakers.utterances.values() for utterance in group
    )
    assert [case.source.id for case in make_cases(speakers, 6)] == ["f1-0", "m1-0", "f2-0", "m2-0", "f1-1", "m1-1"]


def test_prompt_references_and_source_are_different_utterances_of_one_speaker(speakers):
    for case in make_cases(speakers):
        mine = [case.source, *case.voice.prompts, *case.voice.others]
        assert {utterance.speaker for utterance in mine} == {case.voice.speaker}
        assert len({utterance.id for utterance in mine}) == len(mine)
        assert case.voice.prompts
        assert case.voice.others


def test_a_prompt_is_long_enough_if_any_utterance_is(speakers):
    for case in make_cases(speakers):
        rest = [u for u in speakers.utterances[case.voice.speaker] if u != case.source]
        assert (case.voice.prompts[0].seconds >= 3) == any(u.seconds >= 3 for u in rest)


def test_a_wrong_prompt_is_of_another_speaker_of_the_same_gender(speakers):
    for case in make_cases(speakers):
        assert case.wrong.speaker != case.voice.speaker
        assert case.wrong.speaker[0] == case.voice.speaker[0]


def test_without_another_speaker_of_the_gender_there_is_no_wrong_prompt():
    cases = make_cases(group_speakers(make(f1=3, m1=3)))
    assert [case.wrong for case in cases] == [None] * 6


def test_speakers_of_unknown_gender_are_a_group():
    unknown = [dataclasses.replace(utterance, gender=None) for utterance in make(a=3, b=3)]
    wrong = {case.voice.speaker: case.wrong.speaker for case in make_cases(group_speakers(unknown))}
    assert wrong == {"a": "b", "b": "a"}


def test_the_choice_is_the_same_every_time(speakers):
    assert make_cases(speakers) == make_cases(group_speakers(make(f1=8, m1=12, f2=3, m2=4)))
    assert make_voice(speakers, "m1") == make_voice(speakers, "m1")


def test_voices_are_of_each_gender_in_turn(speakers):
    assert [voice.speaker for voice in choose_voices(speakers, 3)] == ["f1", "m1", "f2"]
    assert len(choose_voices(speakers, 9)) == 4
