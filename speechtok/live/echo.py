"""Echo of the agent in the user's microphone: what it takes away, and how sure it is that somebody else speaks."""

import math
from typing import NamedTuple

import numpy as np

_FORGETTING = 0.9995
"""How much of the echo path stays the same from frame to frame."""
_NEAR_END_SMOOTHING = 0.8
_LOW, _HIGH = 200.0, 4_000.0
"""Band in which levels are compared, in hertz: the one of speech."""
_NEAR_DB = 6.0
"""Level from which the rest is more than echo."""
_RISE_DB, _SLOW_RISE_DB, _FALL_DB = 0.4, 0.06, 0.1
"""Change per frame of the estimate of the echo that is left: while it is exceeded, while somebody speaks, and else."""
_MIN_LEFT_DB = -20.0
"""Echo that a linear filter cannot take away, relative to the echo."""
_LOUDEST_ECHO = 2.0
"""Power of an echo, relative to what was played, that a filter which has not learned yet must expect."""
_LEARNING_SECONDS = 0.5
"""The agent's speech after which this expectation has fallen to a third."""
_FLOOR = 2e-6
"""Power per sample below which nothing is audible: -57 dB of full scale."""


class EchoFrame(NamedTuple):
    """The microphone without the echo, for one frame.

    Attributes:
        audio: the rest, float32 ``(hop_length,)``.
        near_end_db: level of the rest above the echo that may be left in it, in decibels. Above some 6 dB, somebody
            other than the agent makes a sound.
        active: whether the agent could be heard at all.
    """

    audio: np.ndarray
    near_end_db: float
    active: bool


class EchoCanceller:
    """Adaptive filter from what the agent plays to what the microphone hears.

    It is the partitioned frequency-domain Kalman filter. The filter keeps the variance of its own error for each
    frequency, so it learns fast from echo, slowly while both speak, and knows how much echo it may have left.

    Args:
        hop_length: samples per frame.
        sample_rate: in hertz.
        tail: longest delay of an echo, with that of the devices and the network, in seconds.
    """

    def __init__(self, hop_length: int, sample_rate: int, tail: float = 0.4) -> None:
        self._hop = hop_length
        self._partitions = max(1, round(tail * sample_rate / hop_length))
        self._bins = hop_length + 1
        frequencies = np.arange(self._bins) * sample_rate / (2 * hop_length)
        self._learning = math.exp(-hop_length / sample_rate / _LEARNING_SECONDS)
        self._band = (frequencies >= _LOW) & (frequencies <= _HIGH)
        self.reset()

    def reset(self) -> None:
        """Forget the room."""
        shape = self._partitions, self._bins
        self._played = np.zeros(2 * self._hop, np.float32)
        self._far = np.zeros(shape, np.complex64)
        self._filter = np.zeros(shape, np.complex64)
        decay = 0.2 * np.exp(-np.arange(self._partitions) / (0.3 * self._partitions))
        self._variance = np.repeat(decay[:, None], self._bins, 1).astype(np.float32)
        self._near = np.zeros(self._bins, np.float32)
        self._left_db = 0.0
        self._unknown = _LOUDEST_ECHO

    def push(self, microphone: np.ndarray, played: np.ndarray) -> EchoFrame:
        """Take one frame of the microphone and the frame that was played meanwhile, float32 ``(hop_length,)`` each."""
        hop = self._hop
        self._played[:hop] = self._played[hop:]
        self._played[hop:] = played
        self._far[1:] = self._far[:-1]
        self._far[0] = np.fft.rfft(self._played)
        power = self._far.real**2 + self._far.imag**2
        if not power.any():
            return EchoFrame(microphone, 60.0, active=False)
        echo_spectrum = (self._filter * self._far).sum(0)
        echo = np.fft.irfft(echo_spectrum)[hop:].astype(np.float32)
        rest = microphone - echo
        padded = np.zeros(2 * hop, np.float32)
        padded[hop:] = rest
        error = np.fft.rfft(padded).astype(np.complex64)
        error_power = error.real**2 + error.imag**2
        uncertain = 0.5 * (power * self._variance).sum(0)
        expected = 0.5 * (power * (self._filter.real**2 + self._filter.imag**2)).sum(0)
        loudest = 0.5 * float(power[:, self._band].sum(1).max())
        level = self._level(error_power, uncertain, expected, self._unknown * loudest)
        active = bool(power[:, self._band].mean() > _FLOOR * 2 * hop)
        if active:
            self._unknown *= self._learning
        self._near += (1 - _NEAR_END_SMOOTHING) * (error_power - self._near)
        self._adapt(error, power, uncertain, np.maximum(self._near, error_power))
        return EchoFrame(rest, level, active)

    def _level(self, error_power: np.ndarray, uncertain: np.ndarray, expected: np.ndarray, unknown: float) -> float:
        floor = _FLOOR * self._hop * self._band.sum()
        rest, unsure, echo = (float(part[self._band].sum()) for part in (error_power, uncertain, expected))
        left = unsure + 10 ** (self._left_db / 10) * echo + unknown
        level = 10 * math.log10((rest + floor) / (left + floor))
        if echo > floor:
            observed = 10 * math.log10((rest + floor) / (echo + floor))
            if observed < self._left_db:
                self._left_db = max(self._left_db - _FALL_DB, _MIN_LEFT_DB)
            else:
                self._left_db = min(self._left_db + (_SLOW_RISE_DB if level > _NEAR_DB else _RISE_DB), 0.0)
        return level

    def _adapt(self, error: np.ndarray, power: np.ndarray, uncertain: np.ndarray, near: np.ndarray) -> None:
        gain = self._variance / (uncertain + near + 1e-9)
        step = np.fft.irfft(gain * self._far.conj() * error)
        step[:, self._hop :] = 0.0  # a partition is one frame long
        self._filter += np.fft.rfft(step).astype(np.complex64)
        keep = _FORGETTING**2
        self._variance *= keep * (1 - 0.5 * gain * power).clip(0)
        self._variance += (1 - keep) * (self._filter.real**2 + self._filter.imag**2)
        self._variance += 1e-9
        self._filter *= _FORGETTING
