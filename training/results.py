"""The end of a training: its result survives, even on a full disk.

Three precautions, in this order. Room for the result is kept from the first step on. The result is written even if the
far larger checkpoint of the last step cannot be written. If neither can be written, the process waits, with the weights
in its memory, until someone has freed room.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from speechtok.errors import CheckpointError, OutputError, SpeechtokError
from speechtok.files import reserving

RETRY_SECONDS = 30.0
"""Time between two attempts to write on a full disk."""

_BESIDE_WEIGHTS = 1 << 16
"""Bytes of an exported model beside its weights: a config, a header."""


@dataclass(frozen=True)
class Export:
    """The result of a training.

    Attributes:
        path: folder that it is written to.
        write: writes it. It may be called again after an error, and does not change what a checkpoint saves.
        weight_bytes: bytes of its weights, at most.
    """

    path: Path
    write: Callable[[], None]
    weight_bytes: int


@contextmanager
def keep_room(export: Export | None, folder: Path) -> Iterator[Callable[[], None]]:
    """Keep room on the disk for the result. Yields a function that makes the room free again.

    Args:
        export: the result, if the training has one.
        folder: a folder on the disk that it will be written to.

    Raises:
        OutputError: there is no room.
    """
    with ExitStack() as stack:
        if export is None:
            yield lambda: None
            return
        try:
            release = stack.enter_context(reserving(folder, export.weight_bytes + _BESIDE_WEIGHTS))
        except OutputError as error:
            megabytes = -(-export.weight_bytes // 1_000_000)
            raise OutputError(
                f"{folder} has no room for the result of the training ({error.__cause__}); free at least "
                f"{megabytes} MB, or choose another out=…"
            ) from error
        yield release


def write_results(
    save: Callable[[], None] | None,
    export: Export | None,
    warn: Callable[[str], None],
    stop: threading.Event,
) -> SpeechtokError | None:
    """Write the last checkpoint and the result of a training.

    If neither can be written, try again until one of them can, or until a stop is requested.

    Args:
        save: writes the checkpoint; ``None`` if it is on the disk.
        export: the result, if the training has one.
        warn: prints a line.
        stop: set when the process is asked to stop.

    Returns:
        The error of what could not be written, if anything.
    """
    while True:
        checkpoint = _attempt(save) if save else None
        exported = _attempt(export.write) if export else None
        if checkpoint is None and exported is None:
            return None
        if checkpoint is None:
            return exported
        if export is not None and exported is None:
            return CheckpointError(f"{checkpoint}. The result of the training is complete: {export.path}")
        warn(
            f"warning: the trained weights are in the memory of process {os.getpid()} only, as they cannot be written: "
            f"{exported or checkpoint}. Trying again every {RETRY_SECONDS:g} s until there is room; Ctrl-C gives up "
            "what was trained since the previous checkpoint"
        )
        if stop.wait(RETRY_SECONDS):
            return exported or checkpoint


def _attempt(write: Callable[[], None]) -> SpeechtokError | None:
    try:
        write()
    except (CheckpointError, OutputError) as error:
        return error
    return None
