"""Rows of a corpus as tables of Arrow, and the files that hold them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from speechtok.corpus.item import Item
from speechtok.files import make_folder, replacing
from speechtok.parquet import CodesFormat, import_pyarrow

BASE = {
    "id": "string",
    "codes": "codes",
    "length": "int32",
    "num_samples": "int64",
    "seconds": "float64",
    "text": "string",
    "speaker": "string",
    "lang": "string",
    "source": "string",
    "source_start": "float64",
    "source_seconds": "float64",
    "source_rate": "int32",
    "phones": "phones",
    "fingerprint": "string",
}
"""Columns of every corpus, and their types."""

QUARANTINE = {
    "id": "string",
    "source": "string",
    "source_start": "float64",
    "reason": "string",
    "message": "string",
    "text": "string",
}

ROW_GROUP = 1_024


@dataclass
class Row:
    """One utterance, encoded.

    Attributes:
        item: where it came from.
        codes: uint16 ``(Q, T)``.
        num_samples: at the rate of the tokenizer.
        start: in the source, in seconds.
        seconds: of the source.
        rate: sample rate of the source; ``None`` if it has tokens.
        labels: values of further columns.
    """

    item: Item
    codes: np.ndarray
    num_samples: int
    start: float
    seconds: float
    rate: int | None
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass
class Fault:
    """One utterance that could not be read, and why."""

    item: Item
    reason: str
    message: str


def arrow_type(name: str, codes: CodesFormat) -> Any:
    """Type of a column by the name that labels use."""
    pa = import_pyarrow()
    if name == "codes":
        return codes.codes_type()
    if name == "phones":
        return pa.list_(pa.struct([("phone", pa.string()), ("start", pa.float64()), ("end", pa.float64())]))
    if name.startswith("list<"):
        return pa.list_(arrow_type(name[5:-1], codes))
    return {"string": pa.string(), "bool": pa.bool_()}.get(name) or pa.type_for_alias(name)


def make_schema(codes: CodesFormat, columns: Mapping[str, str]) -> Any:
    """Schema of a shard: :data:`BASE`, and columns of labels."""
    pa = import_pyarrow()
    fields = [(name, arrow_type(kind, codes)) for name, kind in {**BASE, **columns}.items()]
    return pa.schema(fields, metadata=codes.metadata())


def make_table(rows: Sequence[Row], codes: CodesFormat, columns: Mapping[str, str]) -> Any:
    """Table of utterances."""
    pa = import_pyarrow()
    values: dict[str, Any] = {
        "id": [row.item.id for row in rows],
        "codes": codes.write_codes([row.codes for row in rows]),
        "length": [row.codes.shape[1] for row in rows],
        "num_samples": [row.num_samples for row in rows],
        "seconds": [row.num_samples / codes.sample_rate for row in rows],
        "text": [row.item.text for row in rows],
        "speaker": [row.item.speaker for row in rows],
        "lang": [row.item.lang for row in rows],
        "source": [source_name(row.item) for row in rows],
        "source_start": [row.start for row in rows],
        "source_seconds": [row.seconds for row in rows],
        "source_rate": [row.rate for row in rows],
        "phones": [_phones(row.item) for row in rows],
        "fingerprint": [codes.fingerprint] * len(rows),
    }
    values |= {name: [row.labels.get(name) for row in rows] for name in columns}
    schema = make_schema(codes, columns)
    arrays = [
        values[name] if name == "codes" else pa.array(values[name], kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def make_quarantine(faults: Sequence[Fault]) -> Any:
    """Table of utterances that could not be read."""
    pa = import_pyarrow()
    columns = {
        "id": [fault.item.id for fault in faults],
        "source": [source_name(fault.item) for fault in faults],
        "source_start": [fault.item.start for fault in faults],
        "reason": [fault.reason for fault in faults],
        "message": [fault.message[:500] for fault in faults],
        "text": [fault.item.text for fault in faults],
    }
    return pa.table({name: pa.array(columns[name], pa.type_for_alias(kind)) for name, kind in QUARANTINE.items()})


def source_name(item: Item) -> str:
    """File or URL of an utterance, and its place in a container."""
    if item.member is not None:
        return f"{item.audio}#{item.member[0]}+{item.member[1]}"
    return item.audio if item.row is None else f"{item.audio}#{item.row}"


def write_table(table: Any, path: str | os.PathLike[str]) -> int:
    """Write a table as Parquet, all or nothing, and return its size in bytes."""
    import pyarrow.parquet as pq

    path = Path(path)
    make_folder(path.parent)
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP, write_page_index=False)
    return path.stat().st_size


def read_table(path: str | os.PathLike[str]) -> Any:
    """Read a whole file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read()


def _phones(item: Item) -> list[dict[str, Any]] | None:
    if item.phones is None:
        return None
    return [{"phone": phone, "start": start, "end": end} for phone, start, end in item.phones]
