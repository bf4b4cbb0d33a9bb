"""An utterance that is to be encoded, and where its audio is."""

import dataclasses
from dataclasses import dataclass
from typing import Any

PhoneRow = tuple[str, float, float]
"""Phone, start and end in seconds."""


@dataclass(frozen=True)
class Item:
    """One utterance of a source.

    Attributes:
        id: key of the utterance, unique in a corpus.
        audio: path or URL of an audio file, or of the container that holds it.
        start: where the utterance begins in the audio, in seconds; ``None`` for the beginning.
        seconds: duration of the utterance; ``None`` up to the end of the audio.
        hint: expected duration in seconds, for planning; it does not cut.
        member: first byte and number of bytes within a tar archive.
        row: index of the row of a Parquet file.
        column: of a Parquet file, with the audio.
        is_tokens: whether the audio is codes: a tokens file, or an array of NumPy if there are ``facts``.
        facts: what makes tokens of an array of codes.
        fault: why the utterance cannot be read, known before it is opened: a reason and a message.
        text: transcript, if known.
        speaker: name of the speaker, if known.
        lang: language tag, if known.
        phones: forced alignment, if known.
    """

    id: str
    audio: str
    start: float | None = None
    seconds: float | None = None
    hint: float | None = None
    member: tuple[int, int] | None = None
    row: int | None = None
    column: str | None = None
    is_tokens: bool = False
    facts: dict[str, Any] | None = None
    fault: tuple[str, str] | None = None
    text: str | None = None
    speaker: str | None = None
    lang: str | None = None
    phones: tuple[PhoneRow, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Fields that are not at their defaults, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None and value is not False}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Item":
        """Inverse of :meth:`to_dict`."""
        values = dict(values)
        for name in ("member", "fault"):
            if name in values:
                values[name] = tuple(values[name])
        if "phones" in values:
            values["phones"] = tuple(tuple(row) for row in values["phones"])
        return cls(**values)
