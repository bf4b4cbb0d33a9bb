"""The agent's echo in the user's microphone does not interrupt the agent, and the user does."""

from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from speechtok.live import DuplexSession, EnergyDetector

RATE, HOP = 16_000, 320


def read_speech():
    """The sample of the package."""
    waveform, _ = speechtok.read_audio(Path(speechtok.__file__).parent / "assets" / "sample.flac")
    return (0.05 * waveform / waveform.square().mean().sqrt()).numpy()


def make_room(reverberation, delay, seed):
    """An impulse response of unit energy: the direct sound, and noise that dies away."""
    rng = np.random.default_rng(seed)
    n = round(reverberation * RATE)
    response = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n)
    response[0] = 5.0
    return np.concatenate([np.zeros(round(delay * RATE)), response / np.sqrt(np.square(response).sum())])


def converse(tok, far, near, level_db, room, monkeypatch):
    """A session whose agent says ``far``, in a room where the user says ``near``. Returns the events.

    The agent's codes are decoded to ``far``, so that the test is about speech. The microphone hears the echo of what
    the session really played, as a room gives it back.
    """
    session = DuplexSession(tok, detector=EnergyDetector(HOP))
    monkeypatch.setattr(session._decoder, "decode", lambda codes: torch.from_numpy(take(far, codes.shape[2])))
    place = 0

    def take(audio, frames):
        nonlocal place
        part = audio[place : place + frames * HOP]
        place += frames * HOP
        return part[None]

    session.speak(torch.zeros(1, len(far) // HOP, dtype=torch.int64))
    rng = np.random.default_rng(0)
    gain, events = 10 ** (level_db / 20), []
    echo = np.zeros(len(near) + len(room) + 2 * HOP)
    for start in range(0, len(near), HOP):
        microphone = near[start : start + HOP] + gain * echo[start : start + HOP] + 5e-4 * rng.standard_normal(HOP)
        step = session.push(microphone.astype(np.float32).clip(-1, 1))
        # a loudspeaker plays it while the next frame is recorded
        echo[start + HOP : start + 2 * HOP + len(room) - 1] += np.convolve(step.audio, room)
        events += step.events
    session.close()
    return events


@pytest.mark.parametrize("level_db", [0, -10, -20])
@pytest.mark.parametrize(("reverberation", "delay"), [(0.2, 0.0), (0.3, 0.12)])
def test_an_echo_does_not_interrupt_and_the_user_does(tiny, speech, level_db, reverberation, delay, monkeypatch):
    far = read_speech()
    room = make_room(reverberation, delay, level_db + 30)
    silence = np.zeros(5 * RATE, np.float32)
    events = converse(tiny, far, silence, level_db, room, monkeypatch)
    assert [event.type for event in events] == ["agent_started"]
    near = np.concatenate([silence[: 4 * RATE], 0.5 * speech(2.0, 2)])
    events = converse(tiny, far, near, level_db, room, monkeypatch)
    interrupted = [event for event in events if event.type == "agent_interrupted"]
    assert interrupted
    assert 4.0 <= interrupted[0].time <= 5.2


def test_after_the_agent_the_user_is_heard_as_before(tiny, speech, monkeypatch):
    far = 0.5 * speech(2.0, 1)
    near = np.concatenate([np.zeros(4 * RATE, np.float32), 0.1 * speech(1.0, 2), np.zeros(2 * RATE, np.float32)])
    events = converse(tiny, far, near, 0, make_room(0.3, 0.1, 0), monkeypatch)
    assert [event.type for event in events] == [
        "agent_started",
        "agent_stopped",
        "speech_started",
        "speech_stopped",
        "end_of_turn",
    ]


def test_with_headphones_there_is_no_echo_to_cancel(tiny, speech):
    with DuplexSession(tiny, cancel_echo=False) as session:
        session.speak(torch.zeros(1, 50, dtype=torch.int64))
        audio = speech(0.5)
        codes = [session.push(audio[place : place + HOP]).codes for place in range(0, len(audio), HOP)]
    assert torch.equal(torch.cat(codes, 2), tiny.encode(audio, RATE).codes)
