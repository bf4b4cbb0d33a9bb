"""Settings that decide the contents of a corpus, and its folder."""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechtok.errors import InputError, OutputError, quoted
from speechtok.files import make_folder, remove_orphans, replacing
from speechtok.parquet import ENCODINGS, CodesFormat
from speechtok.parsing import ParseError, parse_json

MANIFEST = "manifest.json"
CARD = "README.md"
DATA = "data"
QUARANTINE = "quarantine"

_BUILD = ".build"


@dataclass(frozen=True)
class Settings:
    """What a build of a corpus depends on, besides its sources.

    Attributes:
        format: facts about the codes.
        shard_hours: hours of audio of a shard, as they are expected before it is read.
        seed: of the order of the utterances; ``None`` for that of the source.
        labels: names of labels, in the order of their columns.
        max_utterance: longer recordings are cut at pauses into utterances of at most so many seconds; ``None`` keeps
            recordings whole.
        max_hours: longer recordings are quarantined.
    """

    format: CodesFormat
    shard_hours: float = 10.0
    seed: int | None = None
    labels: tuple[str, ...] = ()
    max_utterance: float | None = None
    max_hours: float = 6.0

    def __post_init__(self) -> None:
        if self.format.encoding not in ENCODINGS:
            raise InputError(f"codes is {quoted(self.format.encoding)}; expected one of {', '.join(ENCODINGS)}")
        for name, low, high in (("shard_hours", 1e-4, 1e5), ("max_hours", 1e-4, 1e5), ("max_utterance", 1.0, 1e6)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {quoted(value)}; expected a number from {low:g} to {high:g}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        digest = None if self.format.model is None else self.format.model.digest
        return {**values, "format": {**self.format.to_dict(), "model": digest}, "labels": list(self.labels)}


@dataclass(frozen=True)
class Layout:
    """Names of the files of a corpus in ``folder``."""

    folder: Path

    @property
    def build(self) -> Path:
        """Folder of the plan and of unfinished shards."""
        return self.folder / _BUILD

    @property
    def settings(self) -> Path:
        """Settings of the build."""
        return self.build / "settings.json"

    def plan(self, number: int) -> Path:
        """Plan number ``number``: the first one, and one more whenever the sources have grown."""
        return self.build / f"plan-{number:03}.jsonl"

    def shard(self, shard: int) -> Path:
        """Parquet file of a shard."""
        return self.folder / DATA / f"shard-{shard:05}.parquet"

    def quarantine(self, shard: int) -> Path:
        """Parquet file of the utterances of a shard that could not be read."""
        return self.folder / QUARANTINE / f"shard-{shard:05}.parquet"

    def parts(self, shard: int) -> Path:
        """Folder of the parts of an unfinished shard."""
        return self.build / "parts" / f"{shard:05}"

    def part(self, shard: int, part: int, index: int | None = None) -> Path:
        """A part of a shard, or one of its utterances alone."""
        return self.parts(shard) / (f"{part:05}.parquet" if index is None else f"{part:05}-{index:05}.parquet")

    def prepare(self, settings: Settings) -> None:
        """Make the folders, and remember the settings.

        Raises:
            InputError: the folder holds a corpus of other settings, or other files.
            OutputError: it cannot be written.
        """
        mine = settings.to_dict()
        if self.settings.is_file():
            try:
                earlier = parse_json(self.settings.read_bytes())
            except (OSError, ParseError) as error:
                raise InputError(f"{self.settings} cannot be read ({error}); choose another folder") from error
            if earlier != json.loads(json.dumps(mine)):
                names = [name for name in mine if earlier.get(name) != json.loads(json.dumps(mine[name]))]
                raise InputError(
                    f"{self.folder} holds a corpus with other settings ({', '.join(names) or 'unknown'}); pass the "
                    "same settings to continue it, or choose another folder"
                )
        elif self.folder.is_dir() and any(entry.name != _BUILD for entry in os.scandir(self.folder)):
            raise InputError(f"{self.folder} is not empty and holds no corpus; choose another folder")
        for folder in (self.folder / DATA, self.build):
            make_folder(folder)
            remove_orphans(folder)
        if not self.settings.is_file():
            try:
                with replacing(self.settings) as file:
                    file.write(json.dumps(mine, indent=1).encode())
            except OutputError as error:
                raise OutputError(f"{self.folder} cannot be written ({error}); choose another folder") from error
