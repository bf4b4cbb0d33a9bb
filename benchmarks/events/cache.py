"""Results of baselines, kept on the disk: they take most of the time, and do not change with the turn detector."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from speechtok.files import make_folder, replacing


class Cache:
    """Lists of arrays by name.

    Args:
        folder: of the files; one folder serves one data set.
        limit: number of utterances, which is a part of the names.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        self.folder, self.limit = folder, limit

    def __call__(self, name: str, compute: Callable[[], Iterable[np.ndarray]]) -> list[np.ndarray]:
        """Compute the arrays, or read them if they were computed before."""
        path = self.folder / f"{name}-{self.limit or 'all'}.npz"
        if not path.exists():
            make_folder(self.folder)
            arrays = [array.astype(np.float32) for array in compute()]
            with replacing(path) as file:
                np.savez(file, values=np.concatenate(arrays), lengths=[len(array) for array in arrays])
        with np.load(path) as stored:
            return np.split(stored["values"], np.cumsum(stored["lengths"])[:-1])
