"""Parts to shards. A shard that exists is complete; it is made once, whatever is killed on the way."""

import contextlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from speechtok.corpus.encoding import FAULTS
from speechtok.corpus.settings import Layout
from speechtok.corpus.table import QUARANTINE, read_table, write_table
from speechtok.files import remove_orphans
from speechtok.parquet import import_pyarrow


def finish_shard(folder: Path, shard: int, parts: int) -> None:
    """Join the parts of a shard: first its quarantine, then its rows, which mark it as complete; then remove them."""
    pa = import_pyarrow()
    layout = Layout(folder)
    tables, faults = [], []
    for part in range(parts):
        table = read_table(layout.part(shard, part))
        metadata = dict(table.schema.metadata)
        faults += json.loads(metadata.pop(FAULTS))
        tables.append(table.replace_schema_metadata(metadata))
    if faults:
        schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in QUARANTINE.items()])
        write_table(pa.Table.from_pylist(faults, schema), layout.quarantine(shard))
    write_table(pa.concat_tables(tables), layout.shard(shard))
    remove_parts(layout, shard)


def join_part(layout: Layout, shard: int, part: int, count: int) -> None:
    """Join the utterances of a part that were encoded one at a time."""
    pa = import_pyarrow()
    tables, faults = [], []
    for index in range(count):
        table = read_table(layout.part(shard, part, index))
        metadata = dict(table.schema.metadata)
        faults += json.loads(metadata.pop(FAULTS))
        tables.append(table.replace_schema_metadata(metadata))
    joined = pa.concat_tables(tables)
    metadata = {**(joined.schema.metadata or {}), FAULTS: json.dumps(faults).encode()}
    write_table(joined.replace_schema_metadata(metadata), layout.part(shard, part))
    for index in range(count):
        with contextlib.suppress(OSError):
            layout.part(shard, part, index).unlink()


def remove_parts(layout: Layout, shard: int) -> None:
    """Remove the parts of a shard."""
    shutil.rmtree(layout.parts(shard), ignore_errors=True)


def clean(layout: Layout, shards: Iterable[int]) -> set[int]:
    """Remove what killed builds left. Returns the shards that are complete."""
    for folder in (layout.folder, layout.folder / "data", layout.folder / "quarantine", layout.build):
        remove_orphans(folder)
    complete = {shard for shard in shards if layout.shard(shard).is_file()}
    parts = layout.build / "parts"
    if parts.is_dir():
        for folder in parts.iterdir():
            remove_orphans(folder)
    for shard in complete:
        if layout.parts(shard).is_dir():
            remove_parts(layout, shard)
    return complete


def shard_facts(path: Path) -> dict[str, Any]:
    """What the manifest says of a shard."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        table = file.read(columns=["length", "seconds"])
        return {
            "file": f"data/{path.name}",
            "rows": table.num_rows,
            "frames": int(pc.sum(table.column("length")).as_py() or 0),
            "seconds": round(float(pc.sum(table.column("seconds")).as_py() or 0.0), 3),
            "bytes": path.stat().st_size,
        }
