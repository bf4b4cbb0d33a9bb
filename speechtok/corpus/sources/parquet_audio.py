"""Parquet files with a column ``Audio`` as Hugging Face datasets write it: a struct of ``bytes`` and ``path``."""

from collections.abc import Iterator
from typing import Any

from speechtok.corpus import storage
from speechtok.corpus.item import Item
from speechtok.errors import InputError, quoted
from speechtok.parquet import import_pyarrow

_FIELDS = {
    "id": ("id", "utt_id", "key", "segment_id", "file"),
    "text": ("text", "transcription", "sentence", "transcript", "normalized_text", "raw_text"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "lang": ("lang", "language", "locale"),
    "seconds": ("seconds", "duration", "audio_duration"),
}
"""Names that columns have in well-known data sets."""


def read(name: str) -> Iterator[Item]:
    """The rows of a file. The audio itself is read by the workers."""
    import_pyarrow()
    import pyarrow.parquet as pq

    with storage.open_bytes(name) as file:
        try:
            parquet = pq.ParquetFile(file)
            column = _audio_column(parquet.schema_arrow)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            yield Item(name, name, fault=("damaged", f"it cannot be read as Parquet ({error!s:.80})"))
            return
        if column is None:
            raise InputError(
                f"{quoted(name)} has the columns {quoted(parquet.schema_arrow.names)}; expected one with audio: a "
                "struct of bytes and path, as datasets write it"
            )
        chosen = {
            field: next((n for n in names if n in parquet.schema_arrow.names), None) for field, names in _FIELDS.items()
        }
        wanted = [f"{column}.path", *(n for n in chosen.values() if n)]
        index = 0
        for batch in parquet.iter_batches(columns=wanted, batch_size=4096):
            for row in batch.to_pylist():
                yield _item(name, column, index, row, chosen)
                index += 1


def _item(name: str, column: str, index: int, row: dict[str, Any], chosen: dict[str, str | None]) -> Item:
    values = {field: row.get(source) if source else None for field, source in chosen.items()}
    path = (row.get(column) or {}).get("path")
    seconds = values["seconds"]
    described: dict[str, Any] = {
        field: None if values[field] is None else str(values[field]) for field in ("text", "speaker", "lang")
    }
    return Item(
        str(values["id"] or path or f"{name}#{index}"),
        name,
        hint=float(seconds) if isinstance(seconds, (int, float)) and 0 < seconds < 1e9 else None,
        row=index,
        column=column,
        **described,
    )


def _audio_column(schema: Any) -> str | None:
    import pyarrow as pa

    for field in schema:
        if pa.types.is_struct(field.type) and {"bytes", "path"} <= {child.name for child in field.type}:
            return str(field.name)
    return None
