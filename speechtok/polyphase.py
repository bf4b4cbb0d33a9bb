"""A low-pass filter with whole-number coefficients, at the rates ``up / down`` of a resampler.

The filter is a sinc with a Kaiser window, read from a table of whole numbers. Samples and coefficients are whole
numbers, and every sum of their products stays below 2**53: float64 holds it exactly, so the order of summation does not
matter. ``docs/exactness.md`` specifies the arithmetic for other languages.
"""

import functools
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import AudioError

REACH = 72
"""Samples of the lower rate, to each side, that an output depends on."""
_CUTOFF = 22 / 23
"""Cutoff, relative to the lower Nyquist frequency. The pass band ends at 21/23, and the stop band begins at 1."""
_BETA = 9.83
"""Shape of the Kaiser window: a stop band of 97 dB."""
_STEPS = 512
"""Entries of the table per sample of the lower rate."""
_GAIN_BITS = 28
"""The coefficients of one output sum to 2**28. Their absolute values sum to less than 3 * 2**28."""
_SAMPLE_BITS = 23
"""A sample of 1.0 is 2**23."""
_FRACTION_BITS = 20
"""Bits of the position between two entries of the table."""
_TABLE_DIGEST = "0ebf422c7b6423fe"

_WIDTH = 48
"""Outputs of one matrix product, which is fast for multiples of 24 columns."""
_MAX_WEIGHTS = 2**19
"""Coefficients to keep for one pair of rates; a pair that needs more computes them for each output."""
_PIECE = 2**18
"""Samples, or coefficients, to work on at a time: memory stays bounded, and caches stay warm."""


class Filter(ABC):
    """Outputs at ``up / down`` times the rate of the inputs, a fraction in lowest terms.

    Output ``n`` is at the time of input ``n * down / up``, and depends on the ``half`` inputs to each side of it.
    """

    def __init__(self, up: int, down: int) -> None:
        self.up, self.down = up, down
        self.half = -(-REACH * max(up, down) // up)
        self.taps = 2 * self.half

    def start(self, output: int) -> int:
        """The first input that a call needs that begins with ``output``; negative before the first input."""
        return output * self.down // self.up - (self.half - 1)

    def count(self, inputs: int) -> int:
        """Outputs that depend on none but the first ``inputs`` inputs."""
        return max(0, -(-(inputs - self.half) * self.up // self.down))

    def __call__(self, signal: Tensor, first: int, stop: int) -> Tensor:
        """Compute outputs ``first`` to ``stop``.

        Args:
            signal: ``(B, S)``, inputs from ``start(first)`` on, followed by silence.
            first: the first output.
            stop: the output after the last one.

        Returns:
            float32 ``(B, stop - first)``.
        """
        outputs = torch.empty(len(signal), stop - first, dtype=torch.float32, device="cpu")
        for place, sums in self._sums(signal, first, stop):
            part = outputs[:, place : place + sums.shape[1]]
            part.copy_(sums.mul_(2.0 ** -(_SAMPLE_BITS + _GAIN_BITS)).clamp_(-1.0, 1.0))
        return outputs

    @abstractmethod
    def _sums(self, signal: Tensor, first: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Sums of products ``(B, n)``, and the place of the first one after ``first``, piece by piece."""


class IdentityFilter(Filter):
    """Equal rates: the samples themselves."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.half = self.taps = 0

    def start(self, output: int) -> int:  # noqa: D102
        return output

    def __call__(self, signal: Tensor, first: int, stop: int) -> Tensor:  # noqa: D102
        return signal[:, : stop - first].clone()

    def _sums(self, signal: Tensor, first: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        raise NotImplementedError


class BlockFilter(Filter):
    """A filter of few phases: a block of outputs is one product of a band matrix with the inputs.

    The inputs are cut into rows of ``stride``, as many as a block moves on. A block's outputs depend on several of
    these rows; each pair of such a row and ``_WIDTH`` outputs is one matrix product over all blocks.
    """

    def __init__(self, up: int, down: int) -> None:
        super().__init__(up, down)
        cycles = max(1, min(_WIDTH // up, _MAX_WEIGHTS // (self.taps * up)))
        self.width, self.stride = up * cycles, down * cycles
        coefficients = torch.from_numpy(_coefficients(np.arange(up) * down % up * 1.0, up, down))
        self._products: list[tuple[int, slice, slice, Tensor]] = []  # row, its inputs, outputs, weights
        for left in range(0, self.width, _WIDTH):
            right = min(left + _WIDTH, self.width)
            bases = [output * down // up for output in range(left, right)]
            low, high = bases[0], bases[-1] + self.taps
            weights = torch.zeros(high - low, right - left, dtype=torch.float64, device="cpu")
            for column, base in enumerate(bases):
                weights[base - low : base - low + self.taps, column] = coefficients[(left + column) % up]
            for row in range(low // self.stride, -(-high // self.stride)):
                begin, end = max(low, row * self.stride), min(high, (row + 1) * self.stride)
                inputs = slice(begin - row * self.stride, end - row * self.stride)
                self._products.append((row, inputs, slice(left, right), weights[begin - low : end - low].clone()))
        self._following = max(row for row, *_ in self._products)

    def start(self, output: int) -> int:  # noqa: D102
        return output // self.width * self.stride - (self.half - 1)

    def _sums(self, signal: Tensor, first: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        skip, batch = first % self.width, len(signal)
        blocks = -(-(skip + stop - first) // self.width)
        at_a_time = max(8, _PIECE // (batch * self.stride))
        for block in range(0, blocks, at_a_time):
            count = min(at_a_time, blocks - block)
            rows = batch * (count + self._following)
            inputs = _as_levels(signal, block * self.stride, (count + self._following) * self.stride)
            inputs = inputs.view(rows, self.stride)
            sums = torch.zeros(rows, self.width, dtype=torch.float64, device="cpu")
            used = rows - self._following
            for row, columns, outputs, weights in self._products:
                sums[:used, outputs].addmm_(inputs[row : row + used, columns], weights)
            # rows of the result that span two rows of the signal mean nothing
            wanted = sums.view(batch, count + self._following, self.width)[:, :count].flatten(1)
            before = skip if block == 0 else 0
            place = block * self.width - skip + before
            yield place, wanted[:, before : before + stop - first - place]


class DirectFilter(Filter):
    """A filter of many phases: the coefficients of an output are computed where they are needed."""

    def _sums(self, signal: Tensor, first: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        at_a_time = max(1, _PIECE // 4 // self.taps)
        for begin in range(first, stop, at_a_time):
            end = min(begin + at_a_time, stop)
            start = begin * self.down // self.up
            positions = np.arange(end - begin) * self.down + begin * self.down - start * self.up
            bases, phases = np.divmod(positions, self.up)
            coefficients = torch.from_numpy(_coefficients(phases.astype(np.float64), self.up, self.down))
            inputs = _as_levels(signal, start - (self.half - 1) - self.start(first), int(bases[-1]) + self.taps)
            windows = inputs.unfold(1, self.taps, 1)[:, torch.from_numpy(bases)]
            yield begin - first, windows.mul_(coefficients).sum(2)


@functools.lru_cache(maxsize=8)
def find_filter(from_rate: int, to_rate: int) -> Filter:
    """The filter for a pair of rates, in hertz."""
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    taps = 2 * REACH * max(up, down) // up
    if up == down:
        return IdentityFilter()
    with torch.inference_mode(False), torch.no_grad():
        if up * (taps + _WIDTH * down // up) <= _MAX_WEIGHTS:
            return BlockFilter(up, down)
        return DirectFilter(up, down)


def _as_levels(signal: Tensor, start: int, length: int) -> Tensor:
    """Whole numbers of 2**-23, float64 ``(B, length)``, of ``signal`` from ``start`` on, followed by silence."""
    levels = torch.zeros(len(signal), length, dtype=torch.float64, device="cpu")
    part = signal[:, start : start + length]
    full_scale = 2.0**_SAMPLE_BITS
    levels[:, : part.shape[1]].copy_(part).mul_(full_scale).round_().clamp_(-full_scale, full_scale)
    return levels


def _coefficients(phases: np.ndarray, up: int, down: int) -> np.ndarray:
    """Coefficients of the outputs that lie ``phases / up`` inputs after an input.

    All values are whole numbers below 2**53; quotients of such numbers, rounded down, are exact in float64.

    Args:
        phases: float64 ``(N,)``, whole numbers from 0 to ``up - 1``.
        up: see :class:`Filter`.
        down: see :class:`Filter`.

    Returns:
        Whole numbers, float64 ``(N, K)``, for the inputs from ``half - 1`` before that input to ``half`` after it.
    """
    table, slopes = _table()
    longer = max(up, down)
    half = -(-REACH * longer // up)
    positions = np.arange(1 - half, half + 1.0) * up - phases[:, None]
    positions *= _STEPS
    positions += (REACH + 1) * _STEPS * longer  # in the table, times longer
    entries = positions / longer
    np.floor(entries, out=entries)
    indices = entries.astype(np.int64)
    entries *= longer
    positions -= entries  # past an entry
    positions *= 2**_FRACTION_BITS
    positions /= longer
    values: np.ndarray = np.floor(positions, out=positions)
    values *= slopes.take(indices)
    values *= 2.0**-_FRACTION_BITS
    values += 0.5
    np.floor(values, out=values)
    values += table.take(indices)
    if down > up:
        values *= up
        values += down // 2
        values /= down
        np.floor(values, out=values)
    # what is missing to the exact gain goes to the input that is nearest
    nearest = np.where(2 * phases <= up, half - 1, half)
    values[np.arange(len(phases)), nearest] += 2**_GAIN_BITS - values.sum(1)
    return values


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """The filter from ``-REACH - 1`` to ``REACH + 1`` samples of the lower rate, and the differences of its entries."""
    time = np.arange(-REACH * _STEPS, REACH * _STEPS + 1) / _STEPS
    window = np.i0(_BETA * np.sqrt(1 - (time / REACH) ** 2)) / np.i0(_BETA)
    table = np.rint(_CUTOFF * np.sinc(_CUTOFF * time) * window * 2**_GAIN_BITS)
    # no entry lies so near to the middle of two whole numbers that the functions of another library would change it
    digest = hashlib.sha256(table.astype("<i4").tobytes()).hexdigest()[:16]
    if digest != _TABLE_DIGEST:
        raise AudioError(f"the resampling filter hashes to {digest} on this machine; expected {_TABLE_DIGEST}")
    return np.pad(table, _STEPS), np.pad(np.append(np.diff(table), 0.0), _STEPS)
