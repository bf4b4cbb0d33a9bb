"""Audio files in a folder."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from speechtok.errors import printable
from speechtok.files import as_path

AUDIO_SUFFIXES = (
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".mpga",
    ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc", ".m4a", ".m4b", ".mp4", ".m4v", ".mov",
    ".3gp", ".3gpp", ".3g2", ".aac", ".adts", ".amr", ".awb", ".webm", ".weba", ".mka", ".mkv", ".wma", ".asf",
    ".ac3", ".eac3", ".wv", ".tta",
)  # fmt: skip
"""Suffixes of the files that are taken from a folder. A file given by its own name may have any suffix."""


def find_audio(folder: str | os.PathLike[str]) -> tuple[list[Path], "Counter[str]"]:
    """Find the audio files of a folder and those below it: :func:`find_files` with :data:`AUDIO_SUFFIXES`."""
    return find_files(folder, AUDIO_SUFFIXES)


def find_files(folder: str | os.PathLike[str], suffixes: Collection[str]) -> tuple[list[Path], "Counter[str]"]:
    """Find the files of a folder and those below it that have one of some suffixes.

    Hidden files and folders are left out: macOS puts ``._a.wav`` beside ``a.wav`` on foreign disks. So are pipes and
    devices, which would block. Links to folders are not followed: they may lead anywhere, and in circles.

    Returns:
        The files with one of the suffixes, sorted by path; and how many other files there are with each
        suffix, in lower case (``""``: none; ``"(linked folder)"``). Hidden files are not counted.
    """
    root = as_path(folder)
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    for parent, folders, names in os.walk(root, followlinks=False):
        visible = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in visible if not Path(parent, name).is_symlink()]
        left_out["(linked folder)"] += len(visible) - len(folders)
        for name in names:
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() in suffixes and path.is_file():
                files.append(path)
            else:
                left_out[path.suffix.lower()] += 1
    return sorted(files), +left_out


def describe_left_out(left_out: "Counter[str]") -> str:
    """One line on the files that :func:`find_audio` left out; empty if there are none."""
    if not left_out:
        return ""
    kinds = [f"{count} {printable(suffix) or 'without suffix'}" for suffix, count in left_out.most_common()]
    more = f" and {len(kinds) - 8} more kinds" if len(kinds) > 8 else ""
    return f"left out: {', '.join(kinds[:8])}{more}; only files ending in audio suffixes are taken from a folder"
