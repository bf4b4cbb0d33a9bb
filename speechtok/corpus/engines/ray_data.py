"""The engine of a cluster: Ray Data moves the parts to actors that encode them, and starts those again that die.

Every node must see the folder of the corpus and the sources under the same names, as a shared file system or an object
store provides. The driver holds names and sums alone; codes go from the actors to the disk.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from speechtok.corpus.encoding import Done, PartEncoder, Task
from speechtok.corpus.engines.engine import Engine
from speechtok.corpus.settings import Layout, Settings
from speechtok.corpus.shards import finish_shard
from speechtok.errors import InputError
from speechtok.extras import install_hint
from speechtok.loaders import load
from speechtok.workers import WorkerDied

_WINDOW = 4_096
"""Parts of one pipeline of Ray Data: a plan of any length takes bounded memory."""

_RETRIES = 3
"""Attempts at a part after the first one that killed its actor."""

_MAX_JOINS = 4
"""Shards that are joined at a time."""


class RayEngine(Engine):
    """Encodes in actors of Ray Data, one on each core, or on each GPU if the tokenizer is on one.

    Args:
        encoder: of the parts.
        address: of a cluster; by default that of the environment, or a new one on this machine.
        actors: how many; by default one for each core or GPU of the cluster.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
    """

    name = "ray"
    actor: Callable[..., Any]
    """Class of the actors, which is set below; a simulation has another one."""

    def __init__(self, encoder: PartEncoder, address: str | None = None, actors: int | None = None) -> None:
        # processes of Ray inherit the environment; these only print, or send figures of use elsewhere
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS", "1")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise InputError(f"the engine ray needs Ray ({error}); {install_hint('corpus')}") from error
        self._ray: Any = ray
        self._encoder = encoder
        self._started = not ray.is_initialized()
        if self._started:
            try:
                ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(f"the Ray cluster {address!r} cannot be used ({error!s:.200}); check it") from error
        ray.data.DataContext.get_current().enable_progress_bars = False
        resources = self._ray.cluster_resources()
        self._on_gpu = encoder.tokenizer.device.type != "cpu"
        self._actors = actors or max(1, int(resources.get("GPU" if self._on_gpu else "CPU", 1)))
        # an actor that starts again finds its tokenizer on the disk, whatever became of the driver
        self._model = encoder.layout.build.absolute() / "tokenizer"
        if not (self._model / "config.json").is_file():
            encoder.tokenizer.save(self._model)
        self._join = ray.remote(num_cpus=0, max_retries=-1)(_finish_shard)
        self._joining: list[Any] = []

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Done | WorkerDied]]:
        """See :meth:`Engine.run`."""
        tasks = iter(tasks)
        while window := list(islice(tasks, _WINDOW)):
            yield from self._run(window)

    def _run(self, tasks: list[Task]) -> Iterator[tuple[Task, Done | WorkerDied]]:
        by_name = {_name(task): task for task in tasks}
        actors = min(self._actors, len(tasks))
        items = [{"task": json.dumps(task.__dict__)} for task in tasks]
        layout, settings = self._encoder.layout, self._encoder.settings
        device = str(self._encoder.tokenizer.device)
        encoded = self._ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            self.actor,
            fn_constructor_args=(str(self._model), settings, str(layout.folder.absolute()), os.getcwd(), device),
            batch_size=1,
            compute=self._ray.data.ActorPoolStrategy(size=actors),
            num_cpus=0 if self._on_gpu else 1,
            num_gpus=1 if self._on_gpu else 0,
            # a part that kills its actor again and again is at fault itself
            ray_remote_args_fn=lambda: {"max_restarts": -1, "max_task_retries": _RETRIES},
        )
        try:
            for row in encoded.iter_rows():
                facts = json.loads(row["done"])
                yield by_name.pop(row["name"]), Done(facts["rows"], facts["seconds"], facts["faults"])
        except self._ray.exceptions.RayError as error:
            # an actor died at one part more often than it is tried again, and took the pipeline with it
            yield from self._left(by_name, str(error).partition("\n")[0])

    def _left(self, left: dict[str, Task], reason: str) -> Iterator[tuple[Task, Done | WorkerDied]]:
        """What an aborted pipeline has not reported: parts are written, or have to be encoded again."""
        for task in left.values():
            written = self._encoder.layout.part(task.shard, task.part, task.index)
            yield task, (Done(0, 0.0, {}) if written.is_file() else WorkerDied(reason))

    def finish_shard(self, shard: int, parts: int) -> None:
        """See :meth:`Engine.finish_shard`."""
        if len(self._joining) >= _MAX_JOINS:
            done, self._joining = self._ray.wait(self._joining, num_returns=1)
            self._ray.get(done)
        self._joining.append(self._join.remote(str(self._encoder.layout.folder.absolute()), shard, parts))

    def wait(self) -> None:
        """See :meth:`Engine.wait`."""
        self._ray.get(self._joining)
        self._joining = []

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        if self._started:
            with contextlib.suppress(Exception):  # the cluster may be gone
                self._ray.shutdown()


class _Actor:
    """Encodes one part at a time."""

    def __init__(self, model: str, settings: Settings, folder: str, directory: str, device: str) -> None:
        with contextlib.suppress(OSError):  # paths of the sources are relative to it, if they are
            os.chdir(directory)
        torch.set_num_threads(1)  # an actor for each core
        self._encoder = PartEncoder(load(model, device), settings, Path(folder))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        names, results = [], []
        for text in batch["task"]:
            task = Task(**json.loads(str(text)))
            done = self._encoder(task)
            names.append(_name(task))
            results.append(json.dumps({"rows": done.rows, "seconds": done.seconds, "faults": dict(done.faults)}))
        return {"name": names, "done": results}


RayEngine.actor = _Actor


def _name(task: Task) -> str:
    return f"{task.shard}/{task.part}/{task.index}"


def _finish_shard(folder: str, shard: int, parts: int) -> None:
    """Join the parts of a shard. A worker that was killed after its work tries again, and finds it done."""
    path = Path(folder)
    if not Layout(path).shard(shard).is_file():
        finish_shard(path, shard, parts)
