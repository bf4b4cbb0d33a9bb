"""The mono waveform of a file, mixed block by block while it is decoded."""

import numpy as np

from speechtok.errors import AudioError

_FIRST = 2**20
"""Samples that are allocated before the first block; what a header announces is not believed beyond that."""

CANCELLED = 0.01
"""Channels are not averaged if their average has less than this part (-20 dB) of their mean energy."""


class Mono:
    """Samples of all blocks, channels averaged.

    Memory is that of the mono samples and one block, however many channels there are.

    Args:
        name: of the file, for messages.
        channel: the channel to take, in place of the average.
        max_seconds: longer audio is refused while it is decoded; ``None`` for no limit.
    """

    def __init__(self, name: str, channel: int | None = None, max_seconds: float | None = None) -> None:
        self.name = name
        self.rate = 0
        self.length = 0
        self._channel = channel
        self._max_seconds = max_seconds
        self._samples = np.empty(0, np.float32)
        self._energy = 0.0
        self._channel_energies = np.zeros(0)

    def set_rate(self, rate: int, expected: int = 0) -> None:
        """Set the sample rate of what follows, and how many samples may come.

        Raises:
            AudioError: another rate than before.
        """
        if self.rate and rate != self.rate:
            raise AudioError(
                f"{self.name} changes its sample rate from {self.rate} to {rate} Hz; "
                "expected one rate: split the file, or convert it"
            )
        self.rate = rate
        self._reserve(self.length + min(expected, _FIRST))

    def push(self, block: np.ndarray) -> None:
        """Append float32 samples, ``(S, channels)``.

        Raises:
            AudioError: there are more than ``max_seconds``.
        """
        channels = block.shape[1]
        self._reserve(self.length + len(block))
        mixed = self._samples[self.length : self.length + len(block)]
        self.length += len(block)
        if self._max_seconds is not None and self.length > self._max_seconds * self.rate:
            raise AudioError(
                f"{self.name} is longer than {self._max_seconds:g} s, which max_seconds allows", "too_long"
            )
        if channels == 1:
            mixed[:] = block[:, 0]
        elif self._channel is not None:
            mixed[:] = block[:, min(self._channel, channels - 1)]
        else:
            block.mean(axis=1, out=mixed)
            if len(self._channel_energies) < channels:
                self._channel_energies = np.pad(self._channel_energies, (0, channels - len(self._channel_energies)))
            self._channel_energies[:channels] += np.einsum("sc,sc->c", block, block, dtype=np.float64)
            self._energy += float(np.dot(mixed, mixed))

    def _reserve(self, length: int) -> None:
        if length > len(self._samples):
            # in place: the system moves the memory of a long waveform without copying it
            self._samples.resize(max(length, len(self._samples) * 9 // 8), refcheck=False)

    def cancelled_channel(self) -> int | None:
        """The channel to take if the average lost nearly everything, as of a pair with one channel inverted.

        It is the first that has at least half of the energy of the loudest.
        """
        energies = self._channel_energies
        if len(energies) < 2 or not self._energy < CANCELLED * energies.sum() / len(energies):
            return None
        return int((energies >= energies.max() / 2).argmax())

    def finish(self) -> np.ndarray:
        """The samples, float32 ``(S,)``."""
        self._samples.resize(self.length, refcheck=False)
        return self._samples
