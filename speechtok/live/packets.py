"""Packets of a network that may lose and reorder them: put in order, counted, and concealed."""

from dataclasses import dataclass, field

import numpy as np

REORDER_SECONDS = 0.06
"""How long a packet waits for one before it that has not come."""
MAX_GAP_SECONDS = 2.0
"""Longest loss that is concealed; after a longer one, the clock goes on at the new time."""
FADE_SECONDS = 0.06
"""After this time, concealment has become silence."""
_SHORTEST_PITCH, _LONGEST_PITCH = 0.0025, 0.015


@dataclass
class PacketCounts:
    """What a network did, in packets; ``lost_samples`` in samples."""

    received: int = 0
    lost_samples: int = 0
    gaps: int = 0
    late: int = 0
    reordered: int = 0
    duplicate: int = 0
    jumps: int = 0


@dataclass
class PacketOrder:
    """Puts packets in the order of their timestamps, which count samples (or frames), and wrap around at 2**32.

    Args:
        rate: samples (or frames) per second.
    """

    rate: float
    counts: PacketCounts = field(default_factory=PacketCounts)

    def __post_init__(self) -> None:
        self._expected: int | None = None
        self._waiting: dict[int, np.ndarray] = {}

    def push(self, timestamp: int, samples: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Take a packet.

        Args:
            timestamp: of its first sample.
            samples: with the time last.

        Returns:
            Packets that are next, in order; each with the number of samples that were lost before it.
        """
        counts = self.counts
        counts.received += 1
        length = samples.shape[-1]
        if self._expected is None:
            self._expected = timestamp
        ahead = (timestamp - self._expected + 2**31) % 2**32 - 2**31
        if abs(ahead) > MAX_GAP_SECONDS * self.rate:
            counts.jumps += 1
            ready = self.flush()
            self._expected = (timestamp + length) % 2**32
            return [*ready, (0, samples)]
        if ahead < 0:
            counts.late += 1
            return []
        if ahead and timestamp in self._waiting:
            counts.duplicate += 1
            return []
        if not ahead and self._waiting:
            counts.reordered += 1
        self._waiting[timestamp] = samples
        return self._take(self.rate * REORDER_SECONDS)

    def flush(self) -> list[tuple[int, np.ndarray]]:
        """Packets that wait for one before them, as if it was lost."""
        return self._take(0)

    def _take(self, patience: float) -> list[tuple[int, np.ndarray]]:
        ready: list[tuple[int, np.ndarray]] = []
        expected = self._expected
        if expected is None:
            return ready
        while self._waiting:
            times = {(time - expected) % 2**32: time for time in self._waiting}
            gap = min(times)
            nearest = times[gap]
            if gap:
                last = max(ahead + self._waiting[time].shape[-1] for ahead, time in times.items())
                if last - gap < patience:
                    break
                self.counts.gaps += 1
                self.counts.lost_samples += gap
            samples = self._waiting.pop(nearest)
            ready.append((gap, samples))
            expected = (nearest + samples.shape[-1]) % 2**32
        self._expected = expected
        return ready


class Concealment:
    """Fills gaps of audio: the last pitch period is repeated, and fades to silence.

    Args:
        sample_rate: in hertz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._shortest = max(1, round(_SHORTEST_PITCH * sample_rate))
        self._longest = round(_LONGEST_PITCH * sample_rate)
        self._fade = round(FADE_SECONDS * sample_rate)
        self._history = np.zeros(0, np.float32)

    def heard(self, samples: np.ndarray) -> None:
        """Take samples that came."""
        self._history = np.concatenate([self._history, samples])[-2 * self._longest :]

    def fill(self, gap: int) -> np.ndarray:
        """Samples for a gap, float32 ``(gap,)``."""
        filled = np.zeros(gap, np.float32)
        history = self._history
        if len(history) == 2 * self._longest and history.any():
            period = history[-self._pitch(history) :]
            n = min(gap, self._fade)
            filled[:n] = np.resize(period, n) * (1 - np.arange(n, dtype=np.float32) / self._fade)
        self.heard(filled)
        return filled

    def _pitch(self, history: np.ndarray) -> int:
        """The lag at which the end of the history resembles what was before it."""
        window = self._longest
        end = history[-window:].astype(np.float64)
        best, pitch = -1.0, self._longest
        for lag in range(self._shortest, self._longest + 1):
            before = history[-window - lag : -lag].astype(np.float64)
            score = float(end @ before) / (float(np.sqrt(end @ end * (before @ before))) + 1e-9)
            if score > best + 1e-3:
                best, pitch = score, lag
        return pitch
