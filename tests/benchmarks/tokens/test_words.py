"""Words found in phones, and non-words made of their halves."""

import numpy as np
import pytest
import soundfile

from benchmarks.tokens.words import cut_pair, english_pronunciations, find_pairs, find_words
from training.manifest import Phone, Utterance

KNOWN = {
    "CAT": [("K", "AE", "T")],
    "MAP": [("M", "AE", "P")],
    "THE": [("DH", "AH"), ("DH", "IY")],
    "SUN": [("S", "AH", "N")],
}


def spoken(folder, text: str, names: str, speaker: str | None = "s", name: str = "a") -> Utterance:
    """An utterance whose phones take 0.1 s each."""
    path = folder / f"{name}.wav"
    soundfile.write(path, np.linspace(0, 0.5, 16_000), 16_000)
    phones = tuple(Phone(phone, 0.1 * i, 0.1 * (i + 1)) for i, phone in enumerate(names.split()))
    return Utterance(path, name, text=text, phones=phones, speaker=speaker, lang="en")


def test_words_are_found_by_their_pronunciations_up_to_the_first_that_does_not_fit(tmp_path):
    utterance = spoken(tmp_path, "The cat, the map.", "SIL DH IY K AE T DH AH SIL M AE P")
    words = find_words(utterance, KNOWN)
    assert [word.names for word in words] == [("DH", "IY"), ("K", "AE", "T"), ("DH", "AH"), ("M", "AE", "P")]
    assert words[1].phones[0].start == pytest.approx(0.3)
    assert len(find_words(spoken(tmp_path, "the dog map", "DH AH D AO G M AE P"), KNOWN)) == 1
    assert len(find_words(spoken(tmp_path, "the cat", "DH AH K AE"), KNOWN)) == 1


def test_words_with_a_common_vowel_are_paired_if_their_halves_make_no_words(tmp_path):
    utterance = spoken(tmp_path, "cat map sun", "K AE T M AE P S AH N")
    (pair,) = find_pairs([utterance], KNOWN)
    assert {word.names for word in pair.words} == {("K", "AE", "T"), ("M", "AE", "P")}
    assert sorted(pair.cuts) == pytest.approx([0.15, 0.45])
    assert find_pairs([utterance], KNOWN | {"CAP": [("K", "AE", "P")]}) == []
    assert find_pairs([spoken(tmp_path, "cat map", "K AE T M AE P", speaker=None)], KNOWN) == []
    apart = [spoken(tmp_path, "cat", "K AE T", "s", "a"), spoken(tmp_path, "map", "M AE P", "t", "b")]
    assert find_pairs(apart, KNOWN) == []


def test_halves_change_places_and_no_audio_is_lost(tmp_path):
    (pair,) = find_pairs([spoken(tmp_path, "cat map", "K AE T M AE P")], KNOWN)
    cut = cut_pair(pair)
    assert cut is not None
    (first, second, mixed, other), rate = cut
    assert rate == 16_000
    assert {len(first), len(second)} == {round(0.3 * rate)}
    assert len(mixed) == len(other) == len(first)
    half = round(0.14 * rate)
    assert np.array_equal(mixed[:half], first[:half])
    assert np.array_equal(mixed[-half:], second[-half:])
    assert np.array_equal(other[:half], second[:half])
    whole, _ = soundfile.read(pair.words[0].utterance.audio, dtype="float32")
    start = round(pair.words[0].phones[0].start * rate)
    assert first == pytest.approx(whole[start : start + len(first)], abs=1e-4)
    pair.words[0].utterance.audio.unlink()
    assert cut_pair(pair) is None


@pytest.mark.slow
def test_the_english_dictionary_has_several_ways_for_a_word():
    found = english_pronunciations()
    assert ("HH", "AH", "L", "OW") in found["HELLO"]
    assert len(found["THE"]) > 1
