"""The engine of one machine: processes on a CPU, threads beside a GPU."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from speechtok.corpus.encoding import Done, PartEncoder, Task
from speechtok.corpus.engines.engine import Engine
from speechtok.corpus.shards import finish_shard
from speechtok.workers import WorkerDied, run_in_processes


class LocalEngine(Engine):
    """Encodes in worker processes; with ``jobs=0`` in this one, while threads read ahead, as suits a GPU.

    Args:
        encoder: of the parts.
        jobs: number of processes.
        readers: threads that read ahead, without processes.
    """

    name = "local"

    def __init__(self, encoder: PartEncoder, jobs: int, readers: int = 4) -> None:
        self._encoder = encoder
        self._jobs = jobs
        self._readers = readers

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Done | WorkerDied]]:
        """See :meth:`Engine.run`."""
        self._encoder.warm_up()
        return run_in_processes(self._encoder, tasks, self._jobs) if self._jobs else self._run_here(tasks)

    def _run_here(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Done | WorkerDied]]:
        with ThreadPoolExecutor(self._readers) as pool:
            reading: deque[tuple[Task, Future[Any]]] = deque()
            for task in tasks:
                reading.append((task, pool.submit(self._encoder.read, task)))
                if len(reading) > 2 * self._readers:
                    first, future = reading.popleft()
                    yield first, self._encoder.finish(first, future.result())
            while reading:
                first, future = reading.popleft()
                yield first, self._encoder.finish(first, future.result())

    def finish_shard(self, shard: int, parts: int) -> None:
        """See :meth:`Engine.finish_shard`."""
        finish_shard(self._encoder.layout.folder, shard, parts)

    def wait(self) -> None:
        """See :meth:`Engine.wait`."""
