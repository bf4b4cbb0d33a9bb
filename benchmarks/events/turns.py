"""Ends of turns: how often a policy cuts a turn off, against how long it waits at its end.

A turn is an utterance with its own pauses, and two and a half seconds of silence after it. All silences are made of the
recording's room tone. A policy watches from the start of the turn. It is *false* if it ends the turn at any time before
the last sample of speech. Its *delay* is the time from there to the first frame in which it ends the turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.dataset import Corpus
from training.events.scenes import Labels, Turn, active_rms, draw_noise, frame_labels, join, rebuild, room_tone

LEAD_SECONDS, TAIL_SECONDS = 0.5, 2.5


@dataclass(frozen=True)
class TestTurn:
    """A turn to be ended.

    Attributes:
        waveform: float32 ``(S,)``.
        labels: of its frames.
        start: first sample of speech.
        end: sample after the last one of speech.
    """

    __test__ = False  # not a test of pytest

    waveform: np.ndarray
    labels: Labels
    start: int
    end: int


def make_turn(
    recorded: Turn,
    hop_length: int,
    sample_rate: int,
    seed: int,
    noise: Corpus | None = None,
    snr_db: float | None = None,
) -> TestTurn:
    """The turn of a recording, with the lengths of its pauses; with noise, if an SNR is given."""
    rng = np.random.default_rng((seed, 7))
    turn = rebuild(recorded, sample_rate, rng)
    lead = room_tone(recorded, round(LEAD_SECONDS * sample_rate), sample_rate, rng)
    tail = room_tone(recorded, round(TAIL_SECONDS * sample_rate), sample_rate, rng)
    waveform = join([lead, turn.waveform, tail], sample_rate)
    spans = tuple((start + len(lead), end + len(lead)) for start, end in turn.spans)
    if snr_db is not None:
        level = active_rms(waveform, spans) * 10 ** (-snr_db / 20)
        waveform = waveform + np.float32(level) * draw_noise(
            noise, len(waveform), rng, 0.0 if noise is not None else 1.0
        )
    waveform = waveform / max(1.0, float(np.abs(waveform).max()))
    labels = frame_labels([[spans]], len(waveform), hop_length, sample_rate)
    return TestTurn(waveform.astype(np.float32), labels, spans[0][0], spans[-1][1])


@dataclass(frozen=True)
class Policy:
    """When a turn is over.

    Attributes:
        threshold: probability from which it is over; above 1 for a silence timer.
        min_delay: frames of silence before that counts.
        max_delay: frames of silence after which it is over whatever the probability.
    """

    threshold: float
    min_delay: int
    max_delay: int


@dataclass(frozen=True)
class Result:
    """Result of a policy over turns.

    Attributes:
        cut_off: whether each turn was cut off, ``(N,)``.
        delays: of each turn, in seconds, ``(N,)``.
    """

    cut_off: np.ndarray
    delays: np.ndarray


class Watched:
    """Turns as a detector heard them.

    Args:
        turns: the turns.
        speech: of each turn, probabilities or decisions ``(T,)``, speech from 0.5 on.
        end_of_turn: of each turn, probabilities ``(T,)``; none for a silence timer.
        hop_length: samples per frame.
        sample_rate: in hertz.
    """

    def __init__(
        self,
        turns: Sequence[TestTurn],
        speech: Sequence[np.ndarray],
        end_of_turn: Sequence[np.ndarray] | None,
        hop_length: int,
        sample_rate: int,
    ) -> None:
        frames = max(len(row) for row in speech)
        self.frame_seconds = hop_length / sample_rate
        silent = np.stack([np.pad(row < 0.5, (0, frames - len(row)), constant_values=True) for row in speech])
        self.probability = np.zeros(silent.shape)
        for row, found in zip(self.probability, end_of_turn or [], strict=False):
            row[: len(found)] = found
        # frames of silence up to and with this one; before any speech was heard, a turn cannot end
        count = np.arange(1, frames + 1)
        spoken = np.maximum.accumulate(np.where(silent, 0, count), axis=1)
        self._started = spoken > 0
        self.silence = np.where(self._started, count - spoken, 0)
        times = count * hop_length
        ends = np.array([[turn.end] for turn in turns])
        self._before = (times < ends) & (times > np.array([[turn.start] for turn in turns]))
        self._after = times >= ends
        self._late = (times - ends) / sample_rate
        self._longest = np.array([len(row) for row in speech]) * self.frame_seconds - ends[:, 0] / sample_rate

    def apply(self, policy: Policy) -> Result:
        """Watch all turns with a policy. A turn that it never ends counts with all the time that there was."""
        over = (self.probability >= policy.threshold) & (self.silence >= policy.min_delay)
        over = (over | (self.silence >= policy.max_delay)) & self._started
        late = np.where(over & self._after, self._late, np.inf).min(1)
        return Result((over & self._before).any(1), np.minimum(late, self._longest))


def timer_at(watched: Watched, delay: float) -> Result:
    """Result of a silence timer with a mean delay, in seconds, interpolated between the two waits around it."""
    waits = range(1, round(2.0 / watched.frame_seconds))
    results = [watched.apply(Policy(2.0, 0, wait)) for wait in waits]
    means = np.array([result.delays.mean() for result in results])  # ascending
    above = int(np.searchsorted(means, delay).clip(1, len(means) - 1))
    share = float(np.clip((delay - means[above - 1]) / max(1e-9, means[above] - means[above - 1]), 0, 1))
    low, high = results[above - 1], results[above]
    return Result((1 - share) * low.cut_off + share * high.cut_off, (1 - share) * low.delays + share * high.delays)


def compare_timer(result: Result, timer: Result, resamples: int = 2_000) -> dict[str, Any]:
    """A timer beside a policy: its share of turns cut off, and the 95 % interval of how many more that are."""
    difference = timer.cut_off.astype(float) - result.cut_off
    drawn = np.random.default_rng(0).integers(0, len(difference), (resamples, len(difference)))
    low, high = np.quantile(difference[drawn].mean(1), [0.025, 0.975])
    return {
        "delay": float(timer.delays.mean()),
        "cut_off": float(timer.cut_off.mean()),
        "more": [float(low), float(high)],
    }


def choose_policies(watched: Watched, delays: Sequence[float]) -> list[Policy]:
    """For each mean delay, the policy that cuts off the fewest turns; to be called on development data.

    Of policies that cut off equally many, the fastest is taken.
    """
    step = round(0.1 / watched.frame_seconds)
    policies = [
        Policy(float(threshold), shortest, longest)
        for threshold in np.r_[0.02:0.1:0.02, 0.1:0.96:0.05, 0.97, 0.98, 0.99]
        for shortest in range(1, 6 * step, 2)
        for longest in range(2 * step, 21 * step, step)
        if shortest < longest
    ]
    results = [watched.apply(policy) for policy in policies]
    costs = np.array([result.cut_off.mean() for result in results])
    means = np.array([result.delays.mean() for result in results])
    chosen = []
    for delay in delays:
        allowed = np.flatnonzero(means <= delay)
        best = allowed[np.lexsort((means[allowed], costs[allowed]))[0]] if len(allowed) else means.argmin()
        chosen.append(policies[int(best)])
    return chosen
