"""A time that is the sum of parts."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """One part of the time, in seconds, once for each question.

    Attributes:
        name: of the part.
        seconds: measured, once for each question.
        added: whether speechtok adds it, beside its algorithmic delay.
    """

    name: str
    seconds: list[float]
    added: bool = False

    @property
    def median(self) -> float:
        """In milliseconds."""
        return 1e3 * float(np.median(self.seconds))


@dataclass(frozen=True)
class Waterfall:
    """Parts of a time, in order.

    Attributes:
        name: of the whole.
        parts: in order.
    """

    name: str
    parts: list[Part]

    @property
    def total(self) -> list[float]:
        """Of each question, in seconds."""
        return [sum(values) for values in zip(*(part.seconds for part in self.parts), strict=True)]

    @property
    def added(self) -> list[float]:
        """What speechtok adds to each question, in seconds."""
        return [sum(values) for values in zip(*(part.seconds for part in self.parts if part.added), strict=True)]

    def __str__(self) -> str:
        rows = [(part.name, part.seconds) for part in self.parts]
        rows.append(("**from the question to the answer**", self.total))
        if any(part.added for part in self.parts):
            rows.append(("of which speechtok adds", self.added))
        lines = []
        for index, (name, seconds) in enumerate(rows):
            low, middle, high = (1e3 * float(np.percentile(seconds, share)) for share in (0, 50, 100))
            lines.append(f"| {self.name if not index else ''} | {name} | {middle:.1f} | {low:.1f} to {high:.1f} |")
        return "\n".join(lines)
