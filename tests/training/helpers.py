"""What several tests of trainings share."""

import multiprocessing
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.checkpoints import CHECKPOINT_NAME
from training.config import TrainingConfig, config_from_dict
from training.distributed import World
from training.splits import load_splits
from training.teachers import extract, load_teacher
from training.train import train
from training.trainer import Trainer


def config_of(values: dict, **changes: Any) -> TrainingConfig:
    return config_from_dict(values | changes)


def trainer_of(config: TrainingConfig) -> Trainer:
    splits = load_splits(config, World())
    return Trainer(config, splits.train, features=splits.features)


def state_of(values: dict) -> dict:
    """State in the checkpoint of a training."""
    return torch.load(Path(values["out"]) / CHECKPOINT_NAME, weights_only=True)


def exported_of(values: dict) -> Path:
    return Path(values["out"]) / "tokenizer"


def assert_same_weights(a: Path, b: Path) -> None:
    """The checkpoints in two folders hold equal weights."""
    left, right = (torch.load(folder / CHECKPOINT_NAME, weights_only=True)["autoencoder"] for folder in (a, b))
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def tensors_of(state: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a nested state, by path."""
    if isinstance(state, torch.Tensor):
        yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from tensors_of(value, f"{name}/{key}")
    elif isinstance(state, (list, tuple)):
        for index, value in enumerate(state):
            yield from tensors_of(value, f"{name}/{index}")


def scalars_of(values: dict, name: str) -> dict[int, float]:
    """A scalar in the TensorBoard files of a training, by step."""
    events = EventAccumulator(str(Path(values["out"]) / "tensorboard"))
    events.Reload()
    return {event.step: event.value for event in events.Scalars(name)}


def extracted(values: dict, folder: Path, layer: str | int = "average") -> str:
    """Features of the MFCC teacher for the data of a training."""
    extract(load_teacher("mfcc", layer), "mfcc", values["data"], folder)
    return str(folder)


def fork_context(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Processes forked from one that has imported everything, so that none pays for a start of Python."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums may round differently with another number of threads
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.train", "vector_quantize_pytorch"])
    return context


def train_as(rank: int, size: int, port: int, config: TrainingConfig) -> None:
    """Train as one of the processes that torchrun would start."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    train(config)


def train_in_two(config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in two processes, without the time that torchrun takes to start."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = fork_context(monkeypatch)
    processes = [context.Process(target=train_as, args=(rank, 2, port, config)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()  # if one has failed, the other waits for it
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
