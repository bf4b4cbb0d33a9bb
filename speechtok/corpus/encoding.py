"""The work of a build: a part of a plan to a file. It runs in the worker processes of any engine."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechtok.corpus.audio import AudioReader, mono_at, reason_of
from speechtok.corpus.item import Item
from speechtok.corpus.labels import Clip, Label, split_labels
from speechtok.corpus.segments import cut_at_pauses
from speechtok.corpus.settings import Layout, Settings
from speechtok.corpus.table import Fault, Row, make_quarantine, make_table, write_table
from speechtok.errors import FingerprintError, TokensError
from speechtok.tokenizer import Tokenizer

MAX_GROUP = 16
MAX_GROUP_SAMPLES = 2_000_000
"""Bounds of a batch, with padding."""

FAULTS = b"speechtok.faults"
"""Key of the metadata of a part that counts its faults by reason."""


@dataclass(frozen=True)
class Task:
    """A part of a plan, or one utterance of it.

    Attributes:
        shard: index of the shard.
        part: index of the part in the shard.
        items: utterances, as JSON.
        index: of the only utterance; ``None`` for the whole part.
        seconds: expected duration.
    """

    shard: int
    part: int
    items: str
    index: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Done:
    """Sums over a part that is written.

    Attributes:
        rows: utterances.
        seconds: of audio.
        faults: utterances that could not be read, by reason.
    """

    rows: int
    seconds: float
    faults: Mapping[str, int]


@dataclass
class _Loaded:
    """An utterance, read.

    ``waveform`` is at the rate of the tokenizer; ``codes`` is of a source with tokens, or made in :meth:`_encode`.
    """

    item: Item
    start: float
    seconds: float
    rate: int | None = None
    original: Tensor | None = None
    waveform: Tensor | None = None
    codes: np.ndarray | None = None
    num_samples: int = 0


class PartEncoder:
    """Encodes parts and writes them. It is copied to other processes.

    Args:
        tokenizer: that encodes.
        settings: of the corpus.
        folder: of the corpus.
    """

    def __init__(self, tokenizer: Tokenizer, settings: Settings, folder: Path) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        self.layout = Layout(folder)
        self._labels: dict[str, Label] | None = None

    def warm_up(self) -> None:
        """Compute once, so that forked processes share what is prepared at the first use."""
        self.tokenizer.encode(torch.zeros(self.tokenizer.hop_length, device="cpu"), self.tokenizer.sample_rate)

    def __call__(self, task: Task) -> Done:
        """Encode a part and write it."""
        return self.finish(task, self.read(task))

    def read(self, task: Task) -> tuple[list[_Loaded], list[tuple[int, Fault]]]:
        """Read the utterances of a part: the work that needs the disk. A fault has the index of its utterance."""
        items = [Item.from_dict(values) for values in json.loads(task.items)]
        reader = AudioReader(self.settings.max_hours * 3600)
        loaded: list[_Loaded] = []
        faults: list[tuple[int, Fault]] = []
        for index, item in enumerate(items):
            if item.fault is not None:
                faults.append((index, Fault(item, *item.fault)))
                continue
            try:
                loaded += self._load(reader, item)
            except Exception as error:  # whatever a damaged file can bring about
                faults.append((index, Fault(item, *reason_of(error))))
        return loaded, faults

    def finish(self, task: Task, read: tuple[list[_Loaded], list[tuple[int, Fault]]]) -> Done:
        """Encode what was read, and write it."""
        loaded, numbered = read
        faults = [fault for _, fault in numbered]
        for group in _groups([one for one in loaded if one.codes is None]):
            try:
                self._encode(group)
            except Exception:  # one of them, or not enough memory for all
                for one in group:
                    try:
                        self._encode([one])
                    except Exception as error:
                        faults.append(Fault(one.item, *reason_of(error)))
        codes = self.settings.format
        rows = [self._row(one) for one in loaded if one.codes is not None]
        columns = {name: kind for label in self.labels.values() for name, kind in label.columns.items()}
        table = make_table(rows, codes, columns)
        counts: dict[str, int] = {}
        for fault in faults:
            counts[fault.reason] = counts.get(fault.reason, 0) + 1
        write_part(self.layout.part(task.shard, task.part, task.index), table, faults)
        return Done(len(rows), sum(row.num_samples for row in rows) / codes.sample_rate, counts)

    @property
    def labels(self) -> dict[str, Label]:
        """Labels of each utterance, made at the first use in a process."""
        if self._labels is None:
            self._labels = split_labels(self.settings.labels)[0]
            for label in self._labels.values():
                label.bind(self.tokenizer)
        return self._labels

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_labels": None}

    def _load(self, reader: AudioReader, item: Item) -> list[_Loaded]:
        if item.is_tokens:
            return [self._load_tokens(reader, item)]
        waveform, rate = reader.waveform(item)
        start = item.start or 0.0
        limit = self.settings.max_utterance
        if limit is None or len(waveform) <= limit * rate:
            whole = mono_at(waveform, rate, self.tokenizer.sample_rate)
            return [_Loaded(item, start, len(waveform) / rate, rate, waveform, whole, num_samples=len(whole))]
        pieces = []
        for number, (first, last) in enumerate(cut_at_pauses(waveform.numpy(), rate, limit)):
            # the text and the phones are those of the whole recording
            part = dataclasses.replace(item, id=f"{item.id}#{number:05}", text=None, phones=None)
            piece = mono_at(waveform[first:last], rate, self.tokenizer.sample_rate)
            cut = waveform[first:last]
            begin, seconds = start + first / rate, (last - first) / rate
            pieces.append(_Loaded(part, begin, seconds, rate, cut, piece, num_samples=len(piece)))
        return pieces

    def _load_tokens(self, reader: AudioReader, item: Item) -> _Loaded:
        tokens = reader.tokens(item)
        codes = self.settings.format
        if not self.tokenizer.made(tokens.fingerprint):
            raise FingerprintError(
                f"the tokens were made by tokenizer {tokens.fingerprint:.80}; expected {codes.fingerprint:.80}: encode "
                "the audio again, or build the corpus with --model"
            )
        if tokens.num_codebooks < codes.num_codebooks:
            raise TokensError(f"the tokens have {tokens.num_codebooks} codebooks; expected {codes.num_codebooks}")
        if not int(tokens.num_samples):
            raise TokensError("the tokens hold no samples; expected at least one")
        grid = tokens.codes[0, : codes.num_codebooks, : int(tokens.lengths)].numpy().astype(np.uint16)
        samples = int(tokens.num_samples)
        return _Loaded(item, 0.0, samples / codes.sample_rate, codes=grid, num_samples=samples)

    def _encode(self, group: Sequence[_Loaded]) -> None:
        waveforms = [one.waveform for one in group if one.waveform is not None]
        batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        tokens = self.tokenizer.encode(
            batch, self.tokenizer.sample_rate, [len(row) for row in waveforms], self.settings.format.num_codebooks
        )
        grids = tokens.codes.cpu().numpy().astype(np.uint16)
        for one, grid, length in zip(group, grids, tokens.lengths.tolist(), strict=True):
            one.codes = np.ascontiguousarray(grid[:, :length])

    def _row(self, one: _Loaded) -> Row:
        assert one.codes is not None
        row = Row(one.item, one.codes, one.num_samples, one.start, one.seconds, one.rate)
        for label in self.labels.values():
            clip = Clip(
                None if one.waveform is None else one.waveform.numpy(),
                self.tokenizer.sample_rate,
                None if one.original is None else one.original.numpy(),
                one.rate or 0,
                one.codes,
                self.settings.format.frame_rate,
                row.labels,
            )
            values = label(clip)
            row.labels |= {name: values.get(name) for name in label.columns}
        return row


def write_part(path: Path, table: Any, faults: Sequence[Fault]) -> None:
    """Write a part: its rows, and in the metadata its faults."""
    rows = make_quarantine(faults).to_pylist()
    metadata = {**(table.schema.metadata or {}), FAULTS: json.dumps(rows).encode()}
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # of an earlier attempt
    write_table(table.replace_schema_metadata(metadata), path)


def _groups(loaded: list[_Loaded]) -> Iterator[list[_Loaded]]:
    """Utterances of similar length."""
    group: list[_Loaded] = []
    for one in sorted(loaded, key=lambda one: one.num_samples):
        if group and (len(group) == MAX_GROUP or (len(group) + 1) * one.num_samples > MAX_GROUP_SAMPLES):
            yield group
            group = []
        group.append(one)
    if group:
        yield group
