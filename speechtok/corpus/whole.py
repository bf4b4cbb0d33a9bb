"""Labels that depend on the whole corpus: each shard is written again with their columns."""

from collections.abc import Sequence
from typing import Any

from speechtok.corpus.labels import split_labels
from speechtok.corpus.labels.label import CorpusLabel
from speechtok.corpus.settings import Layout, Settings
from speechtok.corpus.table import arrow_type, read_table, write_table
from speechtok.parquet import CodesFormat, import_pyarrow


def add_corpus_labels(layout: Layout, settings: Settings, shards: Sequence[int]) -> None:
    """Compute the labels of the settings that depend on the whole corpus.

    A shard that has the columns gets them again, so that an interrupted run can be repeated.
    """
    labels = split_labels(settings.labels)[1]
    if labels:
        write_corpus_labels(layout, settings.format, labels, shards)


def write_corpus_labels(
    layout: Layout, codes: CodesFormat, labels: dict[str, CorpusLabel], shards: Sequence[int]
) -> None:
    """See :func:`add_corpus_labels`."""
    for shard in shards:
        table = read_table(layout.shard(shard))
        for label in labels.values():
            label.observe(table)
    for shard in shards:
        table = read_table(layout.shard(shard))
        changed = table
        for label in labels.values():
            values = label.values(table)
            for name, kind in label.columns.items():
                changed = set_column(changed, name, values[name], arrow_type(kind, codes))
        if not changed.equals(table, check_metadata=True):
            write_table(changed, layout.shard(shard))


def set_column(table: Any, name: str, values: Any, kind: Any) -> Any:
    """The table with a column replaced or appended."""
    pa = import_pyarrow()
    column = pa.chunked_array([pa.array(values, kind)])
    field = pa.field(name, kind)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), field, column)
    return table.append_column(field, column)
