"""The utterances that a benchmark measures."""

import os
from pathlib import Path

from speechtok.errors import InputError, MissingFileError
from training.manifest import Utterance, find_utterances, read_manifest


def read_utterances(data: str | os.PathLike[str]) -> list[Utterance]:
    """Read the utterances of a manifest, of ``test.jsonl`` in a folder, or of any folder of audio files.

    Raises:
        MissingFileError: ``data`` does not exist, or is a folder with training data and without ``test.jsonl``.
        InputError: there are no utterances, or two have the same id.
    """
    path = Path(data)
    if path.is_dir() and not (path / "test.jsonl").is_file():
        if (path / "train.jsonl").is_file():
            raise MissingFileError(f"{path} has train.jsonl but no test.jsonl; expected test.jsonl, or pass a manifest")
        train, dev = find_utterances(path)
        utterances = sorted({*train, *dev}, key=lambda utterance: utterance.audio)
    else:
        utterances = read_manifest(path / "test.jsonl" if path.is_dir() else path)
    if not utterances:
        raise InputError(f"{path} lists no utterances; expected at least one")
    ids = set()
    for utterance in utterances:
        if utterance.id in ids:
            raise InputError(f"{path} lists the id {utterance.id[:80]!r} more than once; expected unique ids")
        ids.add(utterance.id)
    return utterances
