"""Training checkpoints: written atomically, and resumed only by a training with the same config."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechtok.errors import CheckpointError, OutputError
from speechtok.files import replacing

CHECKPOINT_NAME = "checkpoint.pt"


def make_folder(path: Path) -> None:
    """Create the folder of a run and check that files can be written into it.

    Raises:
        OutputError: the folder cannot be created or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # without a name: several processes may check at the same time
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise OutputError(f"out is {str(path)!r}, which cannot be written ({error}); choose another folder") from error


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a state with a ``"step"``. Readers see the old checkpoint or the new one, never a partial file.

    Raises:
        CheckpointError: the checkpoint cannot be written, for example on a full disk; the previous one is untouched.
    """
    try:
        with replacing(path) as temporary:
            torch.save(state, temporary)
    except (OutputError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        kept = "the previous checkpoint is kept" if path.exists() else "there is no previous one"
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"the checkpoint of step {state['step']} cannot be written ({reason}); {kept}: free some space at "
            f"{path.parent}"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state, its tensors on the CPU. No pickled code runs.

    Raises:
        CheckpointError: the file is damaged, or is not the checkpoint of a training.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state["config"], dict):
            raise TypeError("its config is not a mapping")
    except Exception as error:  # damaged bytes can fail anywhere in the reader
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to start again") from error
    return state


def check_fixed_values(path: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Check that a checkpoint belongs to a training with the same config.

    Args:
        path: the checkpoint, for the error message.
        saved: fields of the config in the checkpoint that resuming must not change.
        current: the same fields of the config at hand.

    Raises:
        CheckpointError: a field differs. The message names it and both values.
    """
    for name in current | saved:
        then, now = saved.get(name), current.get(name)
        if then != now:
            raise CheckpointError(
                f"{path} was trained with {name} {str(then)[:80]}, but the config has {str(now)[:80]}; choose another "
                "out=… to start another training"
            )
