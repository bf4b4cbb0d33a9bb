"""The state of a training on disk: whole or not at all, and only for the config that it was saved with."""

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from speechtok.errors import CheckpointError, OutputError
from speechtok.files import replacing

if TYPE_CHECKING:
    from training.train import Trainer

CHECKPOINT_NAME = "checkpoint.pt"

# how long and how fast to learn may change, and on what machine, and so may what does not touch the weights
_FREE = {
    "steps", "optimizer", "data", "out", "device", "compile", "workers", "start_from", "accumulate",
    "validation_utterances",
}  # fmt: skip


def make_folder(path: Path) -> None:
    """Make the folder of a training, and see that files can be written into it.

    Raises:
        OutputError: they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # of no name, as every process tries it
            pass
    except OSError as error:
        raise OutputError(f"out is {str(path)!r}, which cannot be written ({error}); choose another folder") from error


def save_checkpoint(trainer: "Trainer", path: Path) -> None:
    """Write the trainer's state; a reader meets the old checkpoint or the new one, never half of one.

    Raises:
        CheckpointError: it cannot be written, as on a full disk; the checkpoint before it is untouched.
    """
    try:
        with replacing(path) as temporary:
            torch.save(trainer.state_dict(), temporary)
    except (OutputError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        kept = "the last checkpoint is kept" if path.exists() else "there is none yet"
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"the checkpoint of step {trainer.step} cannot be written ({reason}); {kept}: make room at {path.parent}"
        ) from error


def load_checkpoint(trainer: "Trainer", path: Path) -> None:
    """Go on from ``path``, which only the first process reads.

    Raises:
        CheckpointError: it is damaged, or of a training with another config.
    """
    state = trainer.world.from_first(_read(path) if trainer.world.writes else None)
    mine, saved = trainer.config.to_dict(), state["config"]
    for field in dataclasses.fields(trainer.config):
        # some fields are left out where they are at their default
        now, then = (values.get(field.name, field.metadata.get("absent")) for values in (mine, saved))
        if field.name not in _FREE and not field.name.endswith("_every") and now != then:
            raise CheckpointError(
                f"{path} was trained with {field.name} {then!r}, and the config says {now!r}; "
                "choose another out=… for another training"
            )
    try:
        trainer.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is of another version of training/train.py ({error!r}); choose another out=…, "
            f"and start_from={path} to keep its weights"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state["config"], dict):
            raise TypeError("its config is no table")
    except Exception as error:  # damaged bytes fail anywhere in the reader
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to start again") from error
    return state
