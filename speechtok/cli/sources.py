"""Input files of a command, and the output file of each."""

import glob
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from speechtok.cli.text import path_text
from speechtok.errors import printable
from speechtok.files import make_folder
from speechtok.media.folders import find_files


@dataclass(frozen=True)
class Source:
    """An input file, and the folder whose search found it."""

    path: Path
    root: Path | None = None

    @property
    def relative_path(self) -> Path:
        """Path of its output within an output folder, except for the suffix."""
        return Path(self.path.name) if self.root is None else self.path.relative_to(self.root)


@dataclass
class Found:
    """The files that the words of a command line stand for.

    Attributes:
        sources: each file once.
        failures: a message for each word that stands for none.
        left_out: other files of the folders that were searched, by suffix.
    """

    sources: list[Source] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Job:
    """An input and its output."""

    source: Path
    target: Path


def find_sources(names: list[str], suffixes: Collection[str], out: str | None) -> Found:
    """Find the files that ``names`` stand for.

    Args:
        names: files, folders or patterns.
        suffixes: of the files to find in a folder.
        out: output file or folder. Earlier outputs in it are not inputs.
    """
    result = Found()
    sources: dict[str, Source] = {}
    for name in names:
        some = []
        for path in _expand(name):
            if not os.path.isdir(path):
                some.append(Source(Path(path)))
                continue
            files, left_out = find_files(path, suffixes)
            result.left_out += left_out
            some += [Source(file, Path(path)) for file in _without_earlier_outputs(files, path, out)]
        if not some:
            result.failures.append(f"{printable(name)}: no input found; expected files that end in {_listed(suffixes)}")
        for source in some:
            sources.setdefault(_real(source.path), source)
    result.sources += sources.values()
    return result


def _real(path: str | os.PathLike[str]) -> str:
    """The path without links; of one that no file can have, an error for later, just the path."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return os.path.abspath(path)


def _expand(name: str) -> list[str]:
    """Expand a file, a folder, or a pattern as a shell would."""
    if os.path.exists(name) or not glob.has_magic(name):
        return [name]
    return sorted(glob.glob(name, recursive=True))


def _without_earlier_outputs(files: list[Path], root: str, out: str | None) -> list[Path]:
    """Leave out the files of an output folder within the folder searched, as if ``roundtrip . out`` is run twice."""
    if out is None:
        return files
    folder = Path(_real(out))
    if folder == Path(_real(root)) or not folder.is_relative_to(_real(root)):
        return files
    return [file for file in files if not Path(_real(file)).is_relative_to(folder)]


def _listed(suffixes: Collection[str]) -> str:
    first = list(suffixes)[:8]
    more = len(suffixes) - len(first)
    return ", ".join(first) + (f" or {more} other suffixes" if more else "")


def plan_outputs(names: list[str], sources: list[Source], out: str | None, suffix: str) -> tuple[list[Job], list[str]]:
    """Choose the output of each input.

    Args:
        names: inputs as the user gave them.
        sources: files that they stand for.
        out: output file or folder; beside each input if not given.
        suffix: of an output whose name is not given.

    Returns:
        The jobs, and a message for each input whose output is an input, or that of another input.
    """
    folder = _output_folder(names, sources, out)
    inputs = {_real(source.path) for source in sources}
    writers: dict[str, Path] = {}
    jobs, failures = [], []
    for source in sources:
        if out is None:
            target = source.path.with_suffix(suffix)
        else:
            target = (folder / source.relative_path).with_suffix(suffix) if folder else Path(out)
        key = _real(target)
        if key in inputs:
            failures.append(
                f"{path_text(source.path)}: its output {path_text(target)} is an input; choose another output with -o"
            )
        elif key in writers:
            failures.append(
                f"{path_text(source.path)}: its output {path_text(target)} is also that of "
                f"{path_text(writers[key])}; run it separately, or pass a folder that holds both"
            )
        else:
            writers[key] = source.path
            jobs.append(Job(source.path, target))
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
