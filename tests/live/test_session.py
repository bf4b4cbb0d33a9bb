"""A duplex session: codes of the user, what was heard of the agent, interruptions, echo."""

import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import speechtok
from speechtok.errors import InputError, StreamError, TokensError
from speechtok.live import DuplexSession, TurnPolicy
from speechtok.live.conversation import Conversation
from speechtok.live.speaking import Speaker

HOP = 320


def push_all(session, audio, size=HOP):
    return [session.push(audio[start : start + size]) for start in range(0, len(audio), size)]


def make_codes(tok, frames, seed=0, num_codebooks=None):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(tok.codebook_size, (num_codebooks or tok.num_codebooks, frames), generator=generator)


@pytest.mark.parametrize(("rate", "size"), [(16_000, 320), (16_000, 1_111), (48_000, 960), (8_000, 100)])
def test_codes_are_those_of_encode_and_the_clocks_agree(tiny, speech, rate, size):
    audio = speech(0.7, sample_rate=rate)
    with DuplexSession(tiny, sample_rate=rate) as session:
        steps = push_all(session, audio, size)
        codes = torch.cat([step.codes for step in steps], 2)
        assert torch.equal(codes, tiny.encode(audio, rate).codes[:, :, : codes.shape[2]])
        assert codes.shape[2] >= 0.7 * 50 - 2
        assert session.clock == sum(len(step.audio) for step in steps) == -(-len(audio) * 16_000 // rate)


def test_what_the_agent_says_is_decode_of_its_codes(tiny):
    codes = [make_codes(tiny, frames, seed) for seed, frames in enumerate((7, 1, 12))]
    with DuplexSession(tiny) as session:
        for part in codes:
            session.speak(part)
        audio = np.concatenate([step.audio for step in push_all(session, np.zeros(30 * HOP, np.float32), 250)])
    whole = np.concatenate([tiny.decode(part[None])[0].numpy() for part in codes])
    assert np.array_equal(audio[: len(whole)], whole)
    assert not audio[len(whole) :].any()


def test_codes_that_come_late_make_a_pause_and_lose_nothing(tiny):
    codes = make_codes(tiny, 9)
    silence = np.zeros(HOP, np.float32)
    with DuplexSession(tiny) as session:
        utterance, parts = session.speak(), []
        for index in range(9):
            utterance.put(codes[:, index : index + 1])
            parts += [session.push(silence).audio for _ in range(index % 3)]
        utterance.end()
        parts += [session.push(silence).audio for _ in range(20)]
    sounding = np.concatenate(parts)
    sounding = sounding[sounding != 0]
    whole = tiny.decode(codes[None])[0].numpy()
    assert np.array_equal(sounding, whole[whole != 0])


schedules = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 1_500)),
        st.tuples(st.just("put"), st.integers(0, 4)),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("say"), st.integers(0, 5)),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(schedule=schedules, unplayed=st.integers(0, 3_000), seed=st.integers(0, 99))
def test_what_was_heard_is_right_to_the_frame_for_every_schedule(tiny, schedule, unplayed, seed):
    with DuplexSession(tiny, cancel_echo=False, interrupt_after=None) as session:
        said, out, open_ = [], [np.zeros(0, np.float32)], None
        for action, n in schedule:
            if action == "push":
                out.append(session.push(np.zeros(n, np.float32)).audio)
            elif action == "say":
                said.append(session.speak(make_codes(tiny, n, seed + len(said))))
                open_ = None if open_ is None else open_.end()
            elif action == "put":
                if open_ is None or open_.ended:
                    open_ = session.speak()
                    said.append(open_)
                open_.put(make_codes(tiny, n, seed + len(said)))
            elif open_ is not None and not open_.ended:
                open_.end()
        unplayed = min(unplayed, session.clock)
        result = session.interrupt(unplayed)
        heard = {id(part.utterance): part for part in result.heard}
        reached = np.concatenate(out)[: session.clock - unplayed]
        reached = reached[reached != 0]  # pauses between and within utterances
        for utterance in said:
            part = heard.get(id(utterance))
            samples = part.samples if part else utterance.num_frames * HOP
            audio = tiny.decode(utterance.codes[None])[0].numpy() if utterance.num_frames else np.zeros(0, np.float32)
            expected = audio[:samples]
            expected = expected[expected != 0]
            if utterance.num_frames * HOP - samples < HOP or (utterance.ended and not part):
                assert np.array_equal(reached[: len(expected)], expected)
            else:  # the audio of a frame depends on the next one, which the utterance has
                assert np.array_equal(reached[: len(expected)], expected)
            reached = reached[len(expected) :]
            if part:
                assert part.frames == samples // HOP
                assert torch.equal(part.codes, utterance.codes[:, : part.frames])
        assert not len(reached)
        assert not session.push(np.zeros(2_000, np.float32)).audio[80:].any()  # after the fade
        assert not session.agent_speaking


def test_speech_of_the_user_stops_the_agent_within_60_ms_of_its_detection(tiny, speech):
    policy = TurnPolicy()
    audio = np.concatenate([1e-4 * np.ones(8_000, np.float32), speech(1.0)])
    with DuplexSession(tiny, cancel_echo=False, policy=policy) as session:
        session.speak(make_codes(tiny, 200))
        steps = push_all(session, audio)
    events = {event.type: event for step in steps for event in step.events}
    detected, stopped = events["speech_started"].detected, events["agent_interrupted"].detected
    assert detected <= stopped <= detected + 2
    output = np.concatenate([step.audio for step in steps])
    assert output[: detected * HOP].any()
    assert not output[(detected + 1) * HOP + round(0.06 * 16_000) :].any()
    (interruption,) = [i for step in steps for i in step.interruptions]
    assert interruption.heard[0].frames == stopped  # frames went out together with those of the user


def test_the_turn_of_the_user_comes_with_its_tokens(tiny, speech):
    audio = np.concatenate([np.zeros(16_000, np.float32), speech(0.9), np.zeros(20_000, np.float32)])
    with DuplexSession(tiny, cancel_echo=False) as session:
        steps = push_all(session, audio)
    types = [event.type for step in steps for event in step.events]
    assert types == ["speech_started", "speech_stopped", "end_of_turn"]
    (turn,) = [turn for step in steps for turn in step.turns]
    codes = torch.cat([step.codes for step in steps], 2)
    stop = turn.first_frame + turn.tokens.codes.shape[2]
    assert torch.equal(turn.tokens.codes, codes[:, :, turn.first_frame : stop])
    assert stop == turn.event.detected + 1
    assert turn.first_frame * HOP <= 16_000 <= turn.event.frame * HOP


def test_a_model_that_yields_text_and_codes_is_cut_where_the_user_stopped_it(tiny):
    parts = [make_codes(tiny, 5, seed) for seed in range(8)]
    closed = threading.Event()

    def model():
        try:
            for index, part in enumerate(parts):
                yield f"word{index} "
                yield part
        finally:
            closed.set()

    with DuplexSession(tiny, cancel_echo=False) as session:
        utterance = session.speak(model(), wait=True)
        for _ in range(12):
            session.push(np.zeros(HOP, np.float32))
        (heard,) = session.interrupt().heard
        assert (heard.frames, heard.text) == (12, "word0 word1 word2 ")
        assert heard.utterance is utterance
        assert not utterance.put(parts[0])


def test_a_model_in_its_thread_is_closed_after_an_interruption(tiny):
    closed, waits = threading.Event(), threading.Event()

    def model():
        try:
            while True:
                yield make_codes(tiny, 50)
                waits.set()
        finally:
            closed.set()

    with DuplexSession(tiny) as session:
        session.speak(model())
        assert waits.wait(20)
        session.interrupt()
        assert closed.wait(20)
        session.check()


def test_an_exception_of_a_model_reaches_the_caller_and_the_conversation_goes_on(tiny):
    def model():
        yield make_codes(tiny, 3)
        raise OSError("the model is gone")

    with DuplexSession(tiny) as session:
        utterance = session.speak(model())
        for _ in range(200):
            session.push(np.zeros(HOP, np.float32))
            if utterance.ended and not session.agent_speaking:
                break
            threading.Event().wait(0.01)
        assert utterance.samples_played == 3 * HOP
        with pytest.raises(OSError, match="the model is gone"):
            session.check()
        session.check()


@pytest.mark.parametrize("pattern", ["flatten", "delay", "semantic"])
def test_ids_of_a_vocabulary_are_spoken(tiny, speech, pattern):
    vocabulary = speechtok.AudioVocabulary(tiny, pattern=pattern)
    tokens = tiny.encode(speech(0.3), 16_000)
    ids = vocabulary.to_ids(tokens)
    expected = vocabulary.to_codes(ids).codes[0]
    with DuplexSession(tiny, vocabulary=vocabulary) as session:
        utterance = session.speak(ids.flatten().tolist(), wait=True)
        assert torch.equal(utterance.codes, expected)


def test_text_is_spoken_by_a_synthesiser(tiny):
    spoken = {"good": make_codes(tiny, 3), "morning": make_codes(tiny, 4, 1)}
    with DuplexSession(tiny, synthesise=spoken.get) as session:
        utterance = session.speak(["good", "morning"], wait=True)
        assert torch.equal(utterance.codes, torch.cat(list(spoken.values()), 1))
        assert utterance.text(3) == "good"


def test_what_is_no_speech_is_refused_with_a_reason(tiny, new_tokenizer, speech):
    foreign = new_tokenizer(seed=1).encode(speech(0.2), 16_000)
    with DuplexSession(tiny) as session:
        with pytest.raises(TokensError, match="session's own"):
            session.speak(foreign)
        with pytest.raises(TokensError, match="at most 4"):
            session.speak(torch.zeros(5, 3, dtype=torch.int64))
        with pytest.raises(InputError, match="vocabulary="):
            session.speak([3], wait=True)
        with pytest.raises(InputError, match="expected codes"):
            session.speak([object()], wait=True)
        with pytest.raises(InputError, match="iterable"):
            session.speak(3.5)
        utterance = session.speak()
        utterance.end()
        with pytest.raises(StreamError, match="speak"):
            utterance.put(make_codes(tiny, 1))


def test_a_policy_checks_its_fields():
    with pytest.raises(InputError, match="ascending"):
        TurnPolicy(min_delay=0.9)
    with pytest.raises(InputError, match="stop <= start"):
        TurnPolicy(stop=0.9)
    with pytest.raises(InputError, match="seconds"):
        TurnPolicy(min_speech=-1)


def test_a_conversation_does_not_keep_the_codes_of_other_callers(tiny):
    conversation = Conversation(tiny, Speaker(tiny.num_codebooks, tiny.codebook_size, tiny.made))
    batch = np.zeros((64, tiny.num_codebooks, 1), np.int64)
    references = sys.getrefcount(batch)
    conversation.hear(torch.from_numpy(batch)[3], np.zeros(HOP, np.float32))
    assert sys.getrefcount(batch) == references
