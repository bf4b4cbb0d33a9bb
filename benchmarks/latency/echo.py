"""Interruptions in simulated rooms: how often an echo stops the agent, and how soon the user does.

``python -m benchmarks.latency.echo --data DIR`` lets the agent say one speaker's utterances and the user another's, in
rooms with reverberation, delay and noise, with the agent's echo at several levels relative to the user. Without
``--data``, the sample of the package is the speech of both.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

import speechtok
from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.data import read_utterances
from benchmarks.latency.client import SAMPLE
from speechtok.live import DuplexSession, EnergyDetector, Step

LEVELS_DB = 0, -10, -20
ROOMS = (0.2, 0.02), (0.4, 0.02), (0.2, 0.15), (0.4, 0.15)
"""Reverberation and delay of each room, in seconds."""
AGENT_SECONDS, USER_START, USER_SECONDS = 12.0, 8.0, 3.0
LEVEL = 0.05
"""Root mean square of the user's speech."""
NOISE = 5e-4


@dataclass
class EchoResult:
    """Outcome at one level.

    Attributes:
        conversations: how many.
        false: interruptions before the user spoke.
        minutes: of the agent's speech before that.
        delays: from the user's first sound to the interruption, in seconds, where there was one.
        missed: conversations without a right interruption, of those without a false one.
    """

    conversations: int = 0
    false: int = 0
    minutes: float = 0.0
    delays: list[float] = field(default_factory=list)
    missed: int = 0


def read_speakers(data: str | None, count: int, sample_rate: int) -> list[np.ndarray]:
    """Speech of ``count`` speakers, each of the length of the agent's, at one loudness."""
    if data is None:
        sources = [[SAMPLE]] * count
    else:
        files: dict[str, list[object]] = {}
        for utterance in read_utterances(data):
            files.setdefault(str(getattr(utterance, "speaker", None) or utterance.audio), []).append(utterance.audio)
        sources = [list(some) for some in list(files.values())[:count]]  # type: ignore[misc]
    speakers = []
    for some in sources:
        parts, samples = [], round(AGENT_SECONDS * sample_rate)
        for file in some:
            waveform, rate = speechtok.read_audio(file)
            speech = speechtok.resampling.resample(waveform[None], rate, sample_rate)[0].numpy()
            parts.append(LEVEL * speech / np.sqrt(np.square(speech).mean() + 1e-9))
            if sum(map(len, parts)) >= samples:
                break
        speakers.append(np.resize(np.concatenate(parts), samples))
    return speakers


def make_room(reverberation: float, delay: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """An impulse response of unit energy."""
    n = round(reverberation * sample_rate)
    response = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n)
    response[0] = 5.0
    return np.concatenate([np.zeros(round(delay * sample_rate)), response / np.sqrt(np.square(response).sum())])


def converse(
    session: DuplexSession, near: np.ndarray, gain: float, room: np.ndarray, rng: np.random.Generator
) -> list[Step]:
    """Push the user's speech with the echo of what the session plays."""
    hop = 320
    echo = np.zeros(len(near) + len(room) + 2 * hop)
    steps = []
    for start in range(0, len(near) - hop + 1, hop):
        heard = near[start : start + hop] + gain * echo[start : start + hop] + NOISE * rng.standard_normal(hop)
        steps.append(session.push(heard.astype(np.float32).clip(-1, 1)))
        # a loudspeaker plays it while the next frame is recorded
        echo[start + hop : start + 2 * hop + len(room) - 1] += np.convolve(steps[-1].audio, room)
    return steps


def run(speakers: Sequence[np.ndarray], level_db: float, seed: int, cancel: bool, energy: bool) -> EchoResult:
    """All rooms and pairs of speakers at one level."""
    tok, rng, result = speechtok.load(), np.random.default_rng(seed), EchoResult()
    rate = tok.sample_rate
    for index, far in enumerate(speakers):
        for reverberation, delay in ROOMS:
            near = np.zeros(round(AGENT_SECONDS * rate), np.float32)
            start, user = round(USER_START * rate), speakers[(index + 1) % len(speakers)]
            user = user[np.flatnonzero(np.abs(user) > 0.5 * LEVEL)[0] :][: round(USER_SECONDS * rate)]
            near[start : start + len(user)] = user
            detector = EnergyDetector(tok.hop_length) if energy else None
            with DuplexSession(tok, detector=detector, cancel_echo=cancel) as session:
                session.speak(tok.encode(torch.from_numpy(far.astype(np.float32)), rate))
                room = make_room(reverberation, delay, rate, rng)
                steps = converse(session, near, 10 ** (level_db / 20), room, rng)
            times = [e.time for step in steps for e in step.events if e.type == "agent_interrupted"]
            result.conversations += 1
            result.minutes += min([USER_START, *times]) / 60
            if times and times[0] < USER_START:
                result.false += 1
            elif times and times[0] < USER_START + USER_SECONDS:
                result.delays.append(times[0] - USER_START)
            else:
                result.missed += 1
    return result


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency.echo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", help="manifest or folder of audio (the sample of the package)")
    parser.add_argument("--speakers", type=integer_from(2), default=4, help="speakers (4)")
    parser.add_argument("--energy", action="store_true", help="listen to loudness instead of the turn detector")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    speakers = read_speakers(arguments.data, arguments.speakers, 16_000)
    print("| echo, dB | canceller | conversations | false | false a minute | missed | delay, median, s | 90 %, s |")
    print("|---|---|---|---|---|---|---|---|")
    for level in LEVELS_DB:
        for cancel in (True, False):
            r = run(speakers, level, arguments.seed, cancel, arguments.energy)
            delays = [f"{np.percentile(r.delays or [np.nan], share):.2f}" for share in (50, 90)]
            print(
                f"| {level} | {'yes' if cancel else 'no'} | {r.conversations} | {r.false} | "
                f"{r.false / r.minutes:.2f} | {r.missed} | {' | '.join(delays)} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
