"""The interface of engines."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from speechtok.corpus.encoding import Done, Task
from speechtok.workers import WorkerDied


class Engine(ABC):
    """Runs tasks somewhere, and joins the parts of shards."""

    name: str

    @abstractmethod
    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Done | WorkerDied]]:
        """Yield each task when it is done, in any order. A task at which a worker died comes with how it died."""

    @abstractmethod
    def finish_shard(self, shard: int, parts: int) -> None:
        """Join the parts of a shard, perhaps later."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until all shards are joined."""

    def close(self) -> None:  # noqa: B027, most engines hold nothing
        """Free what the engine holds."""
