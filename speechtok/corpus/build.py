"""Building a corpus: plan, encode, join, describe."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechtok.corpus import storage
from speechtok.corpus.encoding import Done, PartEncoder, Task, write_part
from speechtok.corpus.engines.engine import Engine
from speechtok.corpus.item import Item
from speechtok.corpus.labels import split_labels
from speechtok.corpus.manifest import write_manifest
from speechtok.corpus.plan import Overview, Part, extend_plan, read_plans, survey
from speechtok.corpus.settings import Layout, Settings
from speechtok.corpus.shards import clean, join_part
from speechtok.corpus.sources import find_items
from speechtok.corpus.table import Fault, make_table
from speechtok.corpus.whole import add_corpus_labels
from speechtok.errors import InputError
from speechtok.files import as_path
from speechtok.parquet import import_pyarrow
from speechtok.tokenizer import Tokenizer
from speechtok.workers import WorkerDied

MakeEngine = Callable[[PartEncoder], Engine]


@dataclass(frozen=True)
class Built:
    """What a build found and did.

    Attributes:
        folder: of the corpus.
        planned: utterances that were new in the sources.
        manifest: contents of ``manifest.json``.
    """

    folder: Path
    planned: int
    manifest: dict[str, Any]


def build(
    sources: Sequence[str],
    out: str | os.PathLike[str],
    tokenizer: Tokenizer,
    settings: Settings,
    make_engine: MakeEngine,
    kind: str | None = None,
    progress: bool = True,
) -> Built:
    """Build a corpus, or continue one: utterances that the folder has already are not encoded again.

    Args:
        sources: folders, files, patterns or URLs; see :mod:`speechtok.corpus.sources`.
        out: folder of the corpus.
        tokenizer: that encodes.
        settings: of the corpus; those of an earlier build must be the same.
        make_engine: called with the encoder of parts, such as ``lambda encoder: LocalEngine(encoder, 4)``.
        kind: of the sources; found out if not given.
        progress: whether to show a progress bar.

    Raises:
        InputError: a source or a setting cannot be used.
        OutputError: the folder cannot be written.
    """
    import_pyarrow()
    layout = Layout(as_path(out))
    split_labels(settings.labels)  # errors come before the work
    layout.prepare(settings)
    planned = extend_plan(layout, _items(sources, kind), settings.shard_hours, settings.seed)
    overview = survey(layout)
    if not overview.items:
        raise InputError(f"the sources {', '.join(sources):.200} hold no audio; expected at least one utterance")
    complete = clean(layout, overview.parts)
    encoder = PartEncoder(tokenizer, settings, layout.folder)
    engine = make_engine(encoder)
    try:
        _Run(layout, encoder, engine, overview, complete, progress).run()
    finally:
        engine.close()
    add_corpus_labels(layout, settings, sorted(overview.parts))
    manifest = write_manifest(layout, settings, tokenizer, overview)
    return Built(layout.folder, planned, manifest)


def _items(sources: Sequence[str], kind: str | None) -> Iterator[Item]:
    for source in sources:
        prefix = ""
        if len(sources) > 1 and not storage.is_url(source) and os.path.isdir(source):
            prefix = os.path.basename(os.path.abspath(source)) + "/"  # folders often hold files of the same names
        for item in find_items(source, kind):
            yield Item.from_dict({**item.to_dict(), "id": prefix + item.id}) if prefix else item


class _Run:
    """One run over the parts that are missing."""

    def __init__(
        self, layout: Layout, encoder: PartEncoder, engine: Engine, overview: Overview, complete: set[int], show: bool
    ) -> None:
        self._layout = layout
        self._encoder = encoder
        self._engine = engine
        self._overview = overview
        self._complete = complete
        self._missing = {shard: parts for shard, parts in overview.parts.items() if shard not in complete}
        self._faults: dict[str, int] = {}
        self._real = self._expected = 0.0
        self._bar = tqdm(
            total=round(overview.seconds / 3600, 2),
            unit="h",
            disable=not show,
            bar_format="{percentage:3.0f}% |{bar}| {n:.2f}/{total:.2f} h of audio, {elapsed}<{remaining}{postfix}",
        )

    def run(self) -> None:
        """Encode what is missing, and join all shards."""
        with self._bar:
            suspects: list[Task] = []
            for task, result in self._engine.run(self._pending()):
                if isinstance(result, WorkerDied):
                    suspects.append(task)
                else:
                    self._advance(task, result)
            # a second attempt: the worker may have been killed for another reason than this part
            again: list[Task] = []
            for task, result in self._engine.run(suspects) if suspects else ():
                if isinstance(result, WorkerDied):
                    again.append(task)
                else:
                    self._advance(task, result)
            for task in again:
                self._isolate(task)
            self._engine.wait()

    def _pending(self) -> Iterator[Task]:
        for part in read_plans(self._layout):
            if part.shard in self._complete:
                self._bar.update(part.seconds / 3600)
            elif self._layout.part(part.shard, part.part).is_file():
                self._bar.update(part.seconds / 3600)
                self._count(part.shard)
            else:
                yield _task(part)

    def _advance(self, task: Task, done: Done) -> None:
        for reason, count in done.faults.items():
            self._faults[reason] = self._faults.get(reason, 0) + count
        self._real += done.seconds
        self._bar.update(task.seconds / 3600)
        faults = sum(self._faults.values())
        elapsed = max(self._bar.format_dict["elapsed"], 1e-3)
        rate = f", {self._real / elapsed:,.0f} x real time"
        self._bar.set_postfix_str(rate + (f", {faults} quarantined" if faults else ""), refresh=False)
        self._count(task.shard)

    def _count(self, shard: int) -> None:
        self._missing[shard] -= 1
        if not self._missing[shard]:
            self._engine.finish_shard(shard, self._overview.parts[shard])

    def _isolate(self, task: Task) -> None:
        """Encode the utterances of a part that killed its workers twice, one at a time, and find the one at fault."""
        items = json.loads(task.items)
        waiting = [
            Task(task.shard, task.part, json.dumps([item]), index, task.seconds / len(items))
            for index, item in enumerate(items)
        ]
        total, rows = 0.0, 0
        faults: dict[str, int] = {}
        died: dict[int, str] = {}
        for _ in range(2):
            tasks, waiting = waiting, []
            for one, result in self._engine.run(tasks) if tasks else ():
                assert one.index is not None
                if isinstance(result, WorkerDied):
                    waiting.append(one)
                    died[one.index] = str(result)
                else:
                    rows, total = rows + result.rows, total + result.seconds
                    for reason, count in result.faults.items():
                        faults[reason] = faults.get(reason, 0) + count
        columns = {name: kind for label in self._encoder.labels.values() for name, kind in label.columns.items()}
        for one in waiting:
            assert one.index is not None
            fault = Fault(Item.from_dict(items[one.index]), "crash", died[one.index])
            table = make_table([], self._encoder.settings.format, columns)
            write_part(self._layout.part(one.shard, one.part, one.index), table, [fault])
            faults["crash"] = faults.get("crash", 0) + 1
        join_part(self._layout, task.shard, task.part, len(items))
        self._advance(task, Done(rows, total, faults))


def _task(part: Part) -> Task:
    items = json.dumps([item.to_dict() for item in part.items])
    return Task(part.shard, part.part, items, seconds=part.seconds)
