"""The processes that train together: ``torchrun`` starts them, and every sum over the batch is a sum over them."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from speechtok.errors import ConfigError


@dataclass(frozen=True)
class World:
    """The processes of a training, of which this is one. Alone, every method returns what it was given.

    Attributes:
        rank: number of this process; 0 is the one that writes.
        size: number of processes.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints, logs and the exported tokenizer."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """The rows of the batch that this process computes."""
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    @torch.no_grad()
    def add_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor, of any shape and one type, by its sum over the processes; one message for all."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, piece in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(piece.view_as(tensor))

    def gather(self, tensor: Tensor) -> Tensor:
        """``(B, …)`` of every process, end to end in the order of their ranks."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @torch.no_grad()
    def copy_first_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def any(self, value: bool) -> bool:
        """Whether ``value`` holds in any process."""
        if self.size == 1:
            return value
        count = torch.tensor(int(value))
        dist.all_reduce(count)
        return bool(count)

    def from_first(self, value: Any) -> Any:
        """``value`` of rank 0, its tensors on the CPU."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def wait(self) -> None:
        """Return when every process has come here."""
        self.any(False)


@contextlib.contextmanager
def join() -> Iterator[World]:
    """Meet the processes that ``torchrun`` started along with this one, if it did, for the time of the block."""
    if not dist.is_torchelastic_launched():
        yield World()
        return
    # gloo for what lies on the CPU, nccl for what lies on a GPU
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()


def usable_device(name: str, number: int | None = None) -> torch.device:
    """The device of this name; ``"cuda"`` is the GPU of this ``number``.

    Raises:
        ConfigError: this machine has no such device.
    """
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None and number is not None:
            device = torch.device("cuda", number)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason, who = (
            str(error).splitlines()[0],
            "this machine" if number is None else f"process {number} of this machine",
        )
        raise ConfigError(
            f"device is {name!r}, which {who} cannot use ({reason}); pass device=cpu, or device=cuda with a GPU for "
            "each process"
        ) from error
    return device


def device_of(name: str, world: World) -> torch.device:
    """The device of this process; ``"cuda"`` is a GPU for each.

    Raises:
        ConfigError: this machine has no such device.
    """
    device = usable_device(name, world.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32, which holds the levels of speechtok.nn.exact exactly
    return device
