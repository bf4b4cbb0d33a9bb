"""Input files of a command, and the output file of each."""

import glob
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from speechtok.errors import OutputError


@dataclass(frozen=True)
class Source:
    """An input file, and the folder whose search found it."""

    path: Path
    root: Path | None = None

    @property
    def relative_path(self) -> Path:
        """Path of its output within an output folder, except for the suffix."""
        return Path(self.path.name) if self.root is None else self.path.relative_to(self.root)


def find_sources(names: list[str], suffixes: Collection[str], out: str | None) -> tuple[list[Source], list[str]]:
    """Find the files that ``names`` stand for, each once.

    Args:
        names: files, folders or patterns.
        suffixes: of the files to find in a folder.
        out: output file or folder. Earlier outputs in it are not inputs.

    Returns:
        The files, and a message for each name that stands for none.
    """
    sources: dict[Path, Source] = {}
    failures = []
    for name in names:
        found = _expand(name, suffixes)
        if out is not None:
            found = [source for source in found if not _is_earlier_output(source, Path(out))]
        if not found:
            failures.append(f"{name}: no input found; expected files that end in {', '.join(suffixes)}")
        for source in found:
            sources.setdefault(source.path.resolve(), source)
    return list(sources.values()), failures


def _expand(name: str, suffixes: Collection[str]) -> list[Source]:
    """Expand a file, a folder, or a pattern as a shell would."""
    if Path(name).exists() or not glob.has_magic(name):
        return _expand_path(Path(name), suffixes)
    return [
        source for match in sorted(glob.glob(name, recursive=True)) for source in _expand_path(Path(match), suffixes)
    ]


def _expand_path(path: Path, suffixes: Collection[str]) -> list[Source]:
    if not path.is_dir():
        return [Source(path)]
    return [
        Source(found, path)
        for found in sorted(path.rglob("*"))
        if found.suffix.lower() in suffixes and found.is_file() and not _is_hidden(found.relative_to(path))
    ]


def _is_hidden(path: Path) -> bool:
    """Whether any part of the path is hidden, such as ``._a.wav``, which macOS puts beside ``a.wav``."""
    return any(part.startswith(".") for part in path.parts)


def _is_earlier_output(source: Source, out: Path) -> bool:
    """Whether the file is in an output folder within the folder searched, as if ``roundtrip . out`` is run twice."""
    if source.root is None:
        return False
    out, root = out.resolve(), source.root.resolve()
    return out != root and out.is_relative_to(root) and source.path.resolve().is_relative_to(out)


def plan_outputs(
    names: list[str], sources: list[Source], out: str | None, suffix: str
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Choose the output of each input.

    Args:
        names: inputs as the user gave them.
        sources: files that they stand for.
        out: output file or folder; beside each input if not given.
        suffix: of an output whose name is not given.

    Returns:
        Pairs of input and output, and a message for each input whose output is an input, or that of another input.
    """
    folder = _output_folder(names, sources, out)
    inputs = {source.path.resolve() for source in sources}
    writers: dict[Path, Path] = {}
    jobs, failures = [], []
    for source in sources:
        if out is None:
            target = source.path.with_suffix(suffix)
        else:
            target = (folder / source.relative_path).with_suffix(suffix) if folder else Path(out)
        key = target.resolve()
        if key in inputs:
            failures.append(f"{source.path}: its output {target} is an input; choose another output with -o")
        elif key in writers:
            failures.append(
                f"{source.path}: its output {target} is also that of {writers[key]}; "
                "run it separately, or pass a folder that holds both"
            )
        else:
            writers[key] = source.path
            jobs.append((source.path, target))
    return jobs, failures


def _output_folder(names: list[str], sources: list[Source], out: str | None) -> Path | None:
    """Make the output folder; ``None`` if ``out`` names a file or is not given."""
    if out is None:
        return None
    path = Path(out)
    one_file = len(names) == len(sources) == 1 and sources[0].root is None
    if one_file and path.suffix and not path.is_dir() and not out.endswith(os.sep):
        return None
    make_folder(path)
    return path


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}; choose a writable place") from error
