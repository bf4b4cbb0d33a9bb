import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.speech_lm.phones import phones_to_frames, split_words, to_letter
from training.manifest import Phone


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["SIL", "AA", "AA0", "ZH"]), st.integers(1, 40)), max_size=12),
    st.integers(0, 60),
)
def test_phones_cover_all_frames_in_order(rows, frames):
    ends = np.cumsum([0, *(length for _, length in rows)]) / 100
    aligned = [Phone(name, start, end) for (name, _), start, end in zip(rows, ends, ends[1:], strict=False)]
    phones = phones_to_frames(aligned, frames, 50.0)
    assert sum(phone.frames for phone in phones) == (frames if rows else 0)
    assert all(phone.frames > 0 for phone in phones)
    letters = iter("".join(to_letter(name) for name, _ in rows) + "_")  # a pause if frames are left
    assert all(phone.letter in letters for phone in phones)


def test_gaps_between_phones_are_pauses():
    rows = [Phone("AA", 0.5, 0.6), Phone("B", 0.61, 0.7), Phone("D", 0.9, 1.0)]
    assert [(phone.letter, phone.frames) for phone in phones_to_frames(rows, 60, 50.0)] == [
        ("_", 26), ("a", 5), ("b", 5), ("_", 10), ("d", 5), ("_", 9)
    ]  # fmt: skip


def test_words_have_no_punctuation():
    assert split_words("Don't, SAY so!") == ["don't", "say", "so"]
