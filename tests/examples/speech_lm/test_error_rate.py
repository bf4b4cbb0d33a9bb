import pytest

from examples.speech_lm.error_rate import character_error_rate


def test_insertions_deletions_and_substitutions_are_counted():
    assert character_error_rate(["abc"], ["abc"]) == 0
    assert character_error_rate(["abcd", "ef"], ["abxd", "efg"]) == pytest.approx(2 / 6)
    assert character_error_rate(["abc"], [""]) == 1
