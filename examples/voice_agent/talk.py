"""Talk to the agent at this machine's microphone and loudspeaker, without a server.

python -m examples.voice_agent.talk
python -m examples.voice_agent.talk --input question.wav --output conversation.wav    # without a sound card
"""

import argparse
import queue
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import speechtok
from examples.voice_agent.agents import from_environment
from speechtok.errors import InputError, SpeechtokError
from speechtok.live import DuplexSession, Step
from speechtok.live.conversation import Turn

FRAME_SECONDS = 0.02
EXTRA_SECONDS = 12.0
"""Silence after a file, for the answer."""

Agent = Callable[[Turn | None], Iterable[Any]]


def follow(session: DuplexSession, step: Step, agent: Agent) -> None:
    """Print what happened, and answer turns."""
    for event in step.events:
        print(f"{event.time:7.2f} s  {event.type}", file=sys.stderr)
    for interruption in step.interruptions:
        for heard in interruption.heard:
            print(f"           heard {heard.frames} frames: {heard.text!r}", file=sys.stderr)
    for turn in step.turns:
        session.speak(agent(turn))
    session.check()


def talk_in_file(
    tokenizer: speechtok.Tokenizer, agent: Agent, source: str, target: str, real_time: bool = True
) -> None:
    """Play a file to the session, and write a stereo file: the user at the left, the agent at the right."""
    waveform, rate = speechtok.read_audio(source)
    audio = np.concatenate([waveform.numpy(), np.zeros(round(EXTRA_SECONDS * rate), np.float32)])
    size, answers, users = round(FRAME_SECONDS * rate), [], []
    with DuplexSession(tokenizer, sample_rate=rate) as session:
        began = time.monotonic()
        for place in range(0, len(audio), size):
            step = session.push(audio[place : place + size])
            answers.append(step.audio)
            users.append(step.codes)
            follow(session, step, agent)
            if real_time:
                time.sleep(max(0.0, began + place / rate - time.monotonic()))
    from speechtok.resampling import resample

    user = resample(waveform[None], rate, tokenizer.sample_rate)[0].numpy()
    answer = np.concatenate(answers)
    both = np.zeros((2, len(answer)), np.float32)
    both[0, : len(user)] = user[: len(answer)]
    both[1] = answer
    import soundfile

    soundfile.write(target, both.T, tokenizer.sample_rate)


def talk_here(tokenizer: speechtok.Tokenizer, agent: Agent) -> None:
    """Connect the session to the sound card until Ctrl-C."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise InputError(f"the sound card needs sounddevice ({error}); pip install sounddevice, or --input") from error
    rate = tokenizer.sample_rate
    incoming: queue.Queue[np.ndarray] = queue.Queue()
    outgoing: queue.Queue[np.ndarray] = queue.Queue()

    def exchange(indata: np.ndarray, outdata: np.ndarray, frames: int, timing: Any, status: Any) -> None:
        incoming.put(indata[:, 0].copy())
        try:
            outdata[:, 0] = outgoing.get_nowait()
        except queue.Empty:
            outdata[:] = 0

    with (
        DuplexSession(tokenizer) as session,
        sounddevice.Stream(rate, round(FRAME_SECONDS * rate), channels=1, dtype="float32", callback=exchange),
    ):
        session.speak(agent(None))
        while True:
            step = session.push(incoming.get())
            outgoing.put(step.audio)
            follow(session, step, agent)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.voice_agent.talk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", help="audio file instead of the microphone")
    parser.add_argument("--output", default="conversation.wav", help="file of the conversation (conversation.wav)")
    arguments = parser.parse_args(argv)
    try:
        tokenizer = speechtok.load()
        agent = from_environment(tokenizer)
        if arguments.input:
            talk_in_file(tokenizer, agent, arguments.input, arguments.output)
        else:
            talk_here(tokenizer, agent)
    except KeyboardInterrupt:
        return 130
    except (SpeechtokError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
