"""Exact change of the sample rate: the same samples, to the bit, in any chunks, on any threads and machine."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.audio import check_lengths, check_sample_rate
from speechtok.errors import AudioError, InputError, StreamError, quoted
from speechtok.polyphase import find_filter


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """Samples of the result of :func:`resample` for ``samples`` samples."""
    return -(-samples * to_rate // from_rate)


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Change the sample rate of a waveform.

    Up to 91 % of the lower rate's Nyquist frequency, the gain is 0 dB within 0.001 dB. Frequencies that the new rate
    cannot hold are attenuated by 97 dB. The delay is 0. Samples are first rounded to multiples of 2**-23, which changes
    nothing in 16-bit or 24-bit audio.

    Args:
        waveform: ``(B, S)`` in [-1, 1], on any device; it is computed on the CPU.
        from_rate: its sample rate, in hertz.
        to_rate: the sample rate of the result, in hertz.

    Returns:
        float32 ``(B, ceil(S * to_rate / from_rate))`` in [-1, 1], on the same device; ``waveform`` itself if the rates
        are equal.
    """
    from_rate, to_rate = check_sample_rate(from_rate), check_sample_rate(to_rate)
    if from_rate == to_rate:
        return waveform
    filter_ = find_filter(from_rate, to_rate)
    with torch.no_grad():
        signal = F.pad(waveform.cpu(), (filter_.half - 1, 0))
        return filter_(signal, 0, resampled_length(waveform.shape[1], from_rate, to_rate)).to(waveform.device)


class _Row(NamedTuple):
    """State of a row: the samples that later outputs need, and how many samples came in and went out."""

    pending: Tensor
    taken: int
    given: int
    flushed: bool


class Resampler:
    """Change the sample rate of audio that arrives piece by piece.

    The outputs, joined together, are those of :func:`resample` for the whole, for chunks of any lengths. They come
    :attr:`latency` after their time.

    Args:
        from_rate: sample rate of the chunks, in hertz.
        to_rate: sample rate of the result, in hertz.
        rows: rows ``B``, each an utterance.
    """

    def __init__(self, from_rate: int, to_rate: int, rows: int = 1) -> None:
        self.from_rate, self.to_rate = check_sample_rate(from_rate), check_sample_rate(to_rate)
        self._filter = find_filter(self.from_rate, self.to_rate)
        with torch.inference_mode(False):
            pending = torch.zeros(max(0, self._filter.half - 1), dtype=torch.float32, device="cpu")
        self._first = _Row(pending, 0, 0, False)
        # rows are replaced, never changed: a shallow copy of the resampler keeps its state
        self._rows = (self._first,) * rows
        self._lengths = (0,) * rows

    @property
    def latency(self) -> float:
        """Audio that must come in after the time of an output before it goes out, in seconds."""
        return self._filter.half / self.from_rate

    @property
    def lengths(self) -> list[int]:
        """Samples of each row in the last result of :meth:`push` or :meth:`flush`."""
        return list(self._lengths)

    @property
    def num_bytes(self) -> int:
        """Memory of the state, in bytes. It does not grow with time."""
        storages = {row.pending.data_ptr(): row.pending.untyped_storage().nbytes() for row in self._rows}
        return sum(storages.values())

    def push(self, chunk: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """Take the next samples.

        Args:
            chunk: ``(B, S)`` in [-1, 1], with any ``S`` from 0 on.
            lengths: ``(B,)``, samples of each row that count; all by default.

        Returns:
            float32 ``(B, S')`` on the CPU: all samples that are now complete. A row with fewer samples than another
            (see :attr:`lengths`) is filled up with 0.

        Raises:
            AudioError: the chunk or the lengths are of another number of rows.
            StreamError: a row that gets samples was flushed.
        """
        if chunk.ndim != 2 or len(chunk) != len(self._rows):
            raise AudioError(f"the chunk has shape {tuple(chunk.shape)}; expected ({len(self._rows)}, S)")
        samples = check_lengths(lengths, len(chunk), chunk.shape[1], minimum=0)
        over = [index for index, n in enumerate(samples) if n and self._rows[index].flushed]
        if over:
            raise StreamError(f"push to row {over[0]} after its flush; start it anew with reset(rows=[{over[0]}])")
        return self._step(chunk.detach().cpu(), samples, ending=[])

    def flush(self, rows: Iterable[int] | None = None) -> Tensor:
        """End utterances: return the samples that waited for later ones, as if silence followed.

        Args:
            rows: rows to end; all by default. They take no more samples until :meth:`reset`.

        Returns:
            float32 ``(B, S')``, as from :meth:`push`.

        Raises:
            InputError: a row does not exist.
            StreamError: a row was flushed before.
        """
        chosen = self._check_rows(rows)
        over = [row for row in chosen if self._rows[row].flushed]
        if over:
            raise StreamError(f"flush of row {over[0]} after its flush; start it anew with reset(rows=[{over[0]}])")
        samples = [0] * len(self._rows)
        for row in chosen:
            samples[row] = self._filter.half
        silence = torch.zeros(len(samples), self._filter.half, dtype=torch.float32, device="cpu")
        return self._step(silence, samples, ending=chosen)

    def reset(self, rows: Iterable[int] | None = None) -> None:
        """Start new utterances, and discard the state of the old ones.

        Args:
            rows: rows to reset; all by default.

        Raises:
            InputError: a row does not exist.
        """
        chosen = set(self._check_rows(rows))
        self._rows = tuple(self._first if index in chosen else row for index, row in enumerate(self._rows))

    def _check_rows(self, rows: Iterable[int] | None) -> list[int]:
        chosen = list(range(len(self._rows)) if rows is None else rows)
        for row in chosen:
            if row not in range(len(self._rows)):
                raise InputError(f"rows has {quoted(row)}; expected rows from 0 to {len(self._rows) - 1}")
        return chosen

    def _step(self, chunk: Tensor, samples: list[int], ending: list[int]) -> Tensor:
        groups: dict[tuple[int, int, int], list[int]] = {}
        for index, (row, n) in enumerate(zip(self._rows, samples, strict=True)):
            groups.setdefault((row.taken, row.given, n), []).append(index)
        rows, parts = list(self._rows), []
        for (taken, given, n), members in groups.items():
            new = chunk[:, :n] if len(groups) == 1 else chunk[members, :n]
            signal = torch.cat([torch.stack([rows[index].pending for index in members]), new], 1)
            stop = max(given, self._filter.count(taken + n))
            parts.append((members, self._filter(signal, given, stop)))
            unneeded = self._filter.start(stop) - self._filter.start(given)
            for index, pending in zip(members, signal[:, unneeded:].clone(), strict=True):
                rows[index] = _Row(pending, taken + n, stop, rows[index].flushed or index in ending)
        lengths = [0] * len(rows)
        for members, part in parts:
            for index in members:
                lengths[index] = part.shape[1]
        if len(parts) == 1:
            result = parts[0][1]
        else:
            result = torch.zeros(len(rows), max(lengths), dtype=torch.float32, device="cpu")
            for members, part in parts:
                result[members, : part.shape[1]] = part
        self._rows, self._lengths = tuple(rows), tuple(lengths)
        return result
