"""Training checkpoints: written atomically, and resumed only by a training with the same config."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechtok.checkpoint import unpickle
from speechtok.errors import CheckpointError, OutputError, quoted
from speechtok.files import remove_orphans, replacing
from speechtok.parsing import ParseError, check_values

CHECKPOINT_NAME = "checkpoint.pt"

_MAX_VALUES = 10_000
"""Most values of a config."""


def make_folder(path: Path) -> None:
    """Create the folder of a run and check that files can be written into it.

    Temporary files that a killed run left there, or in the folders below, are removed.

    Raises:
        OutputError: the folder cannot be created or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # without a name: several processes may check at the same time
            pass
        for folder in (path, *(entry for entry in path.iterdir() if entry.is_dir())):
            remove_orphans(folder)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise OutputError(f"out is {str(path)!r}, which cannot be written ({error}); choose another folder") from error


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a state with a ``"step"``. Readers see the old checkpoint or the new one, never a partial file.

    Raises:
        CheckpointError: the checkpoint cannot be written, for example on a full disk, or holds values that are not
            finite; the previous one is untouched.
    """
    _check_finite(state, f"the state of step {state['step']}", "the training diverged: lower its learning rates")
    try:
        with replacing(path) as file:
            torch.save(state, file)
    except (OutputError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        kept = "the previous checkpoint is kept" if path.exists() else "there is no previous one"
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"the checkpoint of step {state['step']} cannot be written ({reason}); {kept}: free "
            f"{-(-_tensor_bytes(state) // 1_000_000)} MB at {path.parent}"
        ) from error


def _tensor_bytes(values: Any) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    if isinstance(values, Mapping):
        values = values.values()
    return sum(map(_tensor_bytes, values)) if isinstance(values, Iterable) and not isinstance(values, str) else 0


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state, its tensors on the CPU. No pickled code runs.

    Raises:
        CheckpointError: the file is damaged, or is not the checkpoint of a training.
    """
    state = unpickle(path, "a checkpoint of a training: delete it to start again")
    if not isinstance(state, dict) or not isinstance(state.get("config"), dict) or "step" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of a training; delete it to start again")
    try:
        check_values(state["config"], _MAX_VALUES)
    except ParseError as error:
        raise CheckpointError(f"{path} has a damaged config ({error}); delete it to start again") from error
    _check_finite(state, path, "delete it to start again")
    return state


def _check_finite(state: Mapping[str, Any], source: object, way_out: str) -> None:
    """Raise CheckpointError if a tensor in nested containers holds NaN or infinity: nothing is learned from those."""
    waiting: list[tuple[str, Any]] = [(_label(name), value) for name, value in state.items()]
    seen: set[int] = set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            if value.is_floating_point() and not value.is_meta and not bool(torch.isfinite(value).all()):
                raise CheckpointError(f"{source}: {quoted(name)} holds values that are not finite; {way_out}")
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))  # containers of a damaged file may hold each other
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += ((f"{name}.{_label(part)}"[-200:], inner) for part, inner in parts)


def _label(name: Any) -> str:
    return name if isinstance(name, str) else quoted(name)


def check_fixed_values(path: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Check that a checkpoint belongs to a training with the same config.

    Args:
        path: the checkpoint, for the error message.
        saved: fields of the config in the checkpoint that resuming must not change.
        current: the same fields of the config at hand.

    Raises:
        CheckpointError: a field differs. The message names the field and both values.
    """
    then, now = (dict(_flat(values)) for values in (saved, current))
    for name in now | then:
        if then.get(name) != now.get(name):
            raise CheckpointError(
                f"{path} was trained with {name} {quoted(then.get(name))}, but the config has {quoted(now.get(name))}; "
                "choose another out=… to start another training"
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of nested tables, with dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
