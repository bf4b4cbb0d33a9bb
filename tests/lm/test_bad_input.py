"""What users get wrong first: each says what was found, what was expected, and the way out."""

import numpy as np
import pytest
import torch

from speechtok.errors import SpeechtokError


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


SOUND = {"type": "audio"}
CASES = {
    "no sampling rate": (lambda p, w, t: p("<|speech|>", w), "sampling_rate is not given; expected"),
    "sampling rate 0": (lambda p, w, t: p("<|speech|>", w, 0), "0; expected"),
    "negative sampling rate": (lambda p, w, t: p("<|speech|>", w, -16_000), "-16000; expected"),
    "sampling rate as text": (lambda p, w, t: p("<|speech|>", w, "16k"), "'16k'; expected"),
    "column without a rate": (lambda p, w, t: p("<|speech|>", {"array": w}), "sampling_rate is not given; expected"),
    "audio without a placeholder": (lambda p, w, t: p("hello", t), r"0 placeholders .* for 1 utterances; expected"),
    "a placeholder without audio": (lambda p, w, t: p("<|speech|>"), r"1 placeholders .* for 0 utterances; expected"),
    "more placeholders in a batch": (
        lambda p, w, t: p(["<|speech|>", "<|speech|>"], t),
        r"2 placeholders .* for 1 utterances; expected equal",
    ),
    "a chat without audio": (lambda p, w, t: p.apply_chat_template(user(SOUND)), "pass one for each, or put it into"),
    "audio beside a chat": (
        lambda p, w, t: p.apply_chat_template(user({"type": "text", "text": "hi"}), audio=t),
        r"0 placeholders .* for 1 utterances",
    ),
    "a message in a batch": (
        lambda p, w, t: p.apply_chat_template([user("hi"), *user("hi")]),
        "expected a list of messages with role and content, or a list of such lists",
    ),
    "an unknown part": (
        lambda p, w, t: p.apply_chat_template(user({"type": "video", "video": "a.mp4"})),
        "has the part {'type': 'video', .*}; expected {'type': 'text'",
    ),
    "a part with an address": (
        lambda p, w, t: p.apply_chat_template(user({"type": "audio", "url": "https://a/b.wav"})),
        "expected audio or path: download it first",
    ),
    "stereo": (lambda p, w, t: p("<|speech|>", torch.zeros(2, 1, 100), 16_000), "expected"),
    "not a number": (lambda p, w, t: p("<|speech|>", np.full(500, np.nan, np.float32), 16_000), "expected"),
    "truncation": (lambda p, w, t: p("hi", truncation=True), "expected False: shorten the audio"),
}
"""Calls with a processor, a waveform and tokens; and what the error says."""


@pytest.mark.parametrize("name", list(CASES))
def test_the_error_says_what_was_expected(one, speech, tokens, name):
    call, message = CASES[name]
    with pytest.raises(SpeechtokError, match=message) as caught:
        call(one, speech(0.2, 0), tokens[0])
    assert isinstance(caught.value, ValueError)


def test_a_batch_of_texts_with_and_without_speech_is_allowed(one, tokens):
    chats = [user("hi", {"type": "audio", "audio": tokens[0]}), user("hi"), user({"type": "audio", "audio": tokens[1]})]
    batch = one.apply_chat_template(chats)
    for row, chat in enumerate(chats):
        alone = one.apply_chat_template(chat)["input_ids"][0]
        assert torch.equal(batch["input_ids"][row][batch["attention_mask"][row].bool()], alone)


def test_waveforms_of_another_rate_are_resampled(one, speech):
    waveform = speech(0.3, 0, sample_rate=44_100)
    expected = one.vocabulary.to_ids(one.speech_tokenizer.encode(waveform, 44_100))
    assert torch.equal(one("<|speech|>", waveform, 44_100, add_special_tokens=False)["input_ids"], expected)
