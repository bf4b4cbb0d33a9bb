import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.speech_lm.lexicon import Lexicon
from examples.speech_lm.phones import CHUNK_FRAMES, HOLD_BACK_FRAMES, Phone, transcription_chunks
from speechtok.tokens import SpeechTokens

PRONUNCIATIONS = {"a": ["A", "AA"], "ab": ["Ab"], "b": ["b", "Ab"], "c": ["b"]}


@pytest.fixture(scope="module")
def ambiguous(tmp_path_factory) -> Lexicon:
    """A lexicon with :data:`PRONUNCIATIONS`."""
    path = tmp_path_factory.mktemp("ambiguous") / "words.dict"
    path.write_text(";;; a comment\n\nempty\na AH\na(2) AH AH # a place\nab\tAH B\nb B\nb(2) AH B\nc B\n")
    return Lexicon(str(path))


spoken_words = st.lists(
    st.tuples(st.sampled_from(sorted(PRONUNCIATIONS)), st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=6
)


@pytest.mark.slow
@settings(max_examples=200)
@given(spoken_words, st.integers(0, 2), st.data())
def test_phones_are_split_into_words_by_some_pronunciation(ambiguous, spoken, first, data):
    ways = [(word, PRONUNCIATIONS[word][way % len(PRONUNCIATIONS[word])], pauses) for word, way, pauses in spoken]
    letters = "_" * first + "".join(way + "_" * pauses for _, way, pauses in ways)
    phones = [Phone(letter, data.draw(st.integers(1, 9))) for letter in letters]
    text = " ".join(word for word, _, _ in ways)
    words = ambiguous.split(text, phones)
    assert [phone for word in words for phone in word.phones] == phones
    assert [word.text for word in words if word.text] == text.split()
    for word in words:
        found = "".join(phone.letter for phone in word.phones)
        assert found == "_" if not word.text else found in PRONUNCIATIONS[word.text]
    assert not ambiguous.split(text + " c", phones)
    assert not ambiguous.split(text, [*phones, Phone("z", 1)])
    assert not ambiguous.split(text + " unknown", phones)

    chunks = transcription_chunks(random_tokens(sum(phone.frames for phone in phones)), words)
    assert all(chunk.codes.shape[2] <= CHUNK_FRAMES for chunk, _ in chunks)
    ends = np.cumsum([phone.frames for phone in phones])
    for number in range(1, len(chunks)):  # phones that end in the last frames of a chunk wait for the next one
        so_far = re.sub(r"\[.*?\]", "", "".join(written for _, written in chunks[:number]))
        assert len(so_far) == (ends <= number * CHUNK_FRAMES - HOLD_BACK_FRAMES).sum()
    written = "".join(part for _, part in chunks)
    assert re.sub(r"\[.*?\]", "", written) == letters
    assert re.findall(r"\[(.*?)\]", written) == text.split()


def random_tokens(frames: int) -> SpeechTokens:
    length = torch.tensor([frames])
    return SpeechTokens(torch.randint(0, 32, (1, 1, frames)), length, 320 * length, 16_000, 320, 32, "")


@pytest.mark.parametrize("frames", [1, 10, 11, 37])
def test_chunks_join_to_the_whole_utterance(frames):
    tokens = random_tokens(frames)
    chunks = [chunk.codes for chunk, _ in transcription_chunks(tokens, ())]
    assert torch.equal(torch.cat(chunks, 2), tokens.codes)


def test_draws_are_deterministic_and_differ_by_seed(lexicon):
    words = Lexicon(lexicon)
    assert words.draw(8, ["yes"], (0, 1)) == words.draw(8, ["yes"], (0, 1)) != words.draw(8, ["yes"], (0, 2))
