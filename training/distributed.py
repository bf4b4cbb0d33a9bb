"""Processes that train together: ``torchrun`` starts them, and each computes its share of every batch."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from speechtok.device import check_device


@dataclass(frozen=True)
class World:
    """The processes of a training, seen from one of them. With one process, all methods return their argument.

    Attributes:
        rank: number of this process; process 0 writes files.
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
        """Rows of a batch that this process computes."""
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    @torch.no_grad()
    def all_reduce_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one message.

        Args:
            tensors: of one dtype and any shapes.
        """
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, piece in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(piece.view_as(tensor))

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Concatenate ``(B, …)`` of all processes, in the order of their ranks."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @torch.no_grad()
    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the one of process 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def any(self, value: bool) -> bool:
        """Whether ``value`` is true in any process."""
        if self.size == 1:
            return value
        count = torch.tensor(int(value))
        dist.all_reduce(count)
        return bool(count)

    def broadcast_object(self, value: Any) -> Any:
        """``value`` of process 0, its tensors on the CPU."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def barrier(self) -> None:
        """Wait until all processes have called this method."""
        self.any(False)


@contextlib.contextmanager
def init_world() -> Iterator[World]:
    """Join the other processes of ``torchrun`` for the duration of the block; a world of one without ``torchrun``."""
    if not dist.is_torchelastic_launched():
        yield World()
        return
    # gloo for tensors on the CPU, nccl for tensors on a GPU
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()


def init_device(name: str, world: World) -> torch.device:
    """The device of this process; ``"cuda"`` means one GPU for each process of a machine.

    Raises:
        InputError: this machine does not have the device.
    """
    if name == "cuda":
        name = f"cuda:{world.local_rank}"
    device = check_device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32; it still computes the levels of speechtok.nn.exact exactly
    return device
