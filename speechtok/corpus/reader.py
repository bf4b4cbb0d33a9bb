"""Reading a corpus."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speechtok.corpus.manifest import read_manifest
from speechtok.errors import MissingFileError, TokensError
from speechtok.files import as_path
from speechtok.parquet import CodesFormat, import_pyarrow, read_schema
from speechtok.tokens import SpeechTokens
from speechtok.where import parse_where

_BATCH = 1_024


@dataclass(frozen=True)
class Utterance:
    """A row of a corpus.

    Attributes:
        id: key of the utterance.
        tokens: its codes, a batch of one.
        text: transcript, if known.
        speaker: name of the speaker, if known.
        lang: language tag, if known.
        columns: all other columns.
    """

    id: str
    tokens: SpeechTokens
    text: str | None
    speaker: str | None
    lang: str | None
    columns: dict[str, Any]


class Corpus:
    """A corpus on the disk, whose shards are read one after the other.

    Args:
        path: folder of a corpus, or one of its Parquet files.
        where: condition on the columns, such as ``'snr > 15 and lang == "en"'``; all rows by default.

    Raises:
        MissingFileError: there is no corpus.
        TokensError: its files are damaged.
        InputError: the condition cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], where: str | None = None) -> None:
        import_pyarrow()
        path = as_path(path)
        self.manifest: dict[str, Any] = {}
        if path.is_dir():
            self.manifest = read_manifest(path)
            self.files = [path / shard["file"] for shard in self.manifest["shards"]]
            missing = next((file for file in self.files if not file.is_file()), None)
            if missing is not None:
                raise MissingFileError(f"{missing} does not exist, and the manifest lists it; fetch the corpus again")
        else:
            self.files = [path]
        self.path: Path = path
        self.format, self.schema = read_schema(self.files[0])
        self.where = where
        self._filter = None if where is None else parse_where(where, self.schema.names)

    def __len__(self) -> int:
        """Number of utterances that fulfil the condition."""
        import pyarrow.dataset

        return int(pyarrow.dataset.dataset(self.files, format="parquet").count_rows(filter=self._filter))

    def tables(self, columns: list[str] | None = None) -> Iterator[Any]:
        """Batches of rows, as tables of pyarrow, with some columns or all.

        A column that the condition names need not be among them.
        """
        import pyarrow.dataset

        pa = import_pyarrow()
        for file in self.files:
            data = pyarrow.dataset.dataset(file, format="parquet")
            for batch in data.to_batches(columns=columns, filter=self._filter, batch_size=_BATCH, use_threads=False):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])

    def __iter__(self) -> Iterator[Utterance]:
        for table in self.tables():
            grids = self.format.read_codes(table.column("codes"), table.column("length").to_pylist())
            others = [name for name in table.column_names if name not in ("codes", "length", "num_samples")]
            rows = table.select(others).to_pylist()
            samples = table.column("num_samples").to_pylist()
            for grid, count, row in zip(grids, samples, rows, strict=True):
                tokens = make_tokens(self.format, grid, count)
                main = {name: row.pop(name, None) for name in ("id", "text", "speaker", "lang")}
                yield Utterance(tokens=tokens, columns=row, **main)


def make_tokens(codes: CodesFormat, grid: Any, num_samples: int) -> SpeechTokens:
    """Tokens of one utterance, from its codes ``(Q, T)``."""
    samples = torch.tensor([num_samples], device="cpu")
    frames = torch.tensor([grid.shape[1]], device="cpu")
    whole = torch.from_numpy(grid.astype("int64"))[None]
    try:
        return SpeechTokens(
            whole, frames, samples, codes.sample_rate, codes.hop_length, codes.codebook_size, codes.fingerprint
        )
    except TokensError as error:
        raise TokensError(f"a row of the corpus is damaged ({error!s:.200}); build it again") from error
