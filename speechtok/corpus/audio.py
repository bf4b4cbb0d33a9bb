"""The audio of an utterance, wherever its source keeps it."""

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.audio import read_audio
from speechtok.corpus import storage
from speechtok.corpus.item import Item
from speechtok.errors import AudioError, SpeechtokError, TokensError, quoted
from speechtok.resampling import resample
from speechtok.tokens import SpeechTokens


class AudioReader:
    """Reads utterances. It keeps the last recording and the last rows of Parquet, which the next utterance often needs.

    Args:
        max_seconds: longer recordings are refused.
    """

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._recording: tuple[str, Tensor, int] | None = None
        self._rows: tuple[str, int, int, Any] | None = None  # file, first row, row after the last one, column

    def waveform(self, item: Item) -> tuple[Tensor, int]:
        """Waveform ``(S,)`` and sample rate.

        Raises:
            AudioError: it cannot be read, or the utterance lies outside of the recording.
        """
        if item.start is None and item.seconds is None:
            return read_audio(self._source(item), self._max_seconds)
        if self._recording is None or self._recording[0] != item.audio:
            self._recording = None  # frees memory before the next one is read
            self._recording = (item.audio, *read_audio(self._source(item), self._max_seconds))
        _, waveform, rate = self._recording
        start = round((item.start or 0.0) * rate)
        stop = len(waveform) if item.seconds is None else round(((item.start or 0.0) + item.seconds) * rate)
        # durations are often rounded to milliseconds
        if start >= len(waveform) or stop > len(waveform) + rate // 50 or stop <= start:
            raise AudioError(
                f"the utterance lies from {start / rate:.3f} to {stop / rate:.3f} s in {quoted(item.audio)}, which has "
                f"{len(waveform) / rate:.3f} s; expected a part of it",
                "outside",
            )
        return waveform[start:stop], rate

    def tokens(self, item: Item) -> SpeechTokens:
        """Tokens of one utterance.

        Raises:
            TokensError: they cannot be read, or are those of several utterances.
        """
        source = self._source(item)
        if item.facts is not None:
            return _tokens_of_array(source, item.facts)
        tokens = SpeechTokens.from_bytes(source) if isinstance(source, bytes) else SpeechTokens.load(source)
        if len(tokens) != 1:
            raise TokensError(f"the tokens file has {len(tokens)} utterances; expected one")
        return tokens

    def forget(self) -> None:
        """Free the memory of what was kept."""
        self._recording = self._rows = None

    def _source(self, item: Item) -> Any:
        """What :func:`read_audio` takes."""
        if item.member is not None:
            return storage.read_range(item.audio, *item.member)
        if item.row is not None:
            return self._cell(item)
        if storage.is_url(item.audio):
            with storage.open_bytes(item.audio) as file:
                return file.read()
        return item.audio

    def _cell(self, item: Item) -> Any:
        assert item.row is not None
        assert item.column is not None
        if self._rows is None or self._rows[0] != item.audio or not self._rows[1] <= item.row < self._rows[2]:
            self._rows = None
            self._rows = _row_group(item.audio, item.row, item.column)
        cell = self._rows[3][item.row - self._rows[1]].as_py() or {}
        if cell.get("bytes"):
            return cell["bytes"]
        if cell.get("path"):
            return storage.join(storage.parent(item.audio), cell["path"])
        raise AudioError("its row has neither bytes nor a path; expected audio", "empty")


def _tokens_of_array(data: bytes, facts: dict[str, Any]) -> SpeechTokens:
    """Tokens of an array ``(Q, T)`` in a file of NumPy."""
    try:
        codes = torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False).astype(np.int64))[None]
        facts = dict(facts)
        samples = torch.tensor([facts.pop("num_samples")], dtype=torch.int64, device="cpu")
        return SpeechTokens(codes, torch.tensor([codes.shape[2]], device="cpu"), samples, **facts)
    except (ValueError, TypeError, KeyError, EOFError) as error:
        raise TokensError(f"the array of codes cannot be read ({error!s:.200}); export the corpus again") from error


def _row_group(name: str, row: int, column: str) -> tuple[str, int, int, Any]:
    import pyarrow.parquet as pq

    with storage.open_bytes(name) as file:
        parquet = pq.ParquetFile(file)
        first = 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            if row < first + count:
                table = parquet.read_row_group(group, columns=[f"{column}.bytes", f"{column}.path"])
                return name, first, first + count, table.column(column).combine_chunks()
            first += count
    raise AudioError(f"row {row} is not in {quoted(name)}; expected the file as it was planned", "missing")


def reason_of(error: BaseException) -> tuple[str, str]:
    """Reason and message of an utterance that could not be read."""
    message = str(error)
    if isinstance(error, MemoryError):
        return "memory", "not enough memory for it; run fewer jobs at a time"
    if isinstance(error, FileNotFoundError):
        return "missing", message
    if isinstance(error, AudioError):
        return error.reason, message
    if isinstance(error, TokensError):
        return "tokens", message
    if isinstance(error, SpeechtokError):
        return "unusable", message
    if isinstance(error, OSError):
        return "io", message
    return "error", f"{type(error).__name__}: {message}"


def mono_at(waveform: Tensor, rate: int, target: int) -> Tensor:
    """The waveform ``(S,)`` at another rate."""
    return waveform if rate == target else resample(waveform[None], rate, target)[0]
