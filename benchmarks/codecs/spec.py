"""Specifications of codecs: ``NAME[:NUMBER][@SOURCE]``."""

import re
from dataclasses import dataclass

from speechtok.errors import InputError


@dataclass(frozen=True)
class Spec:
    """A parsed specification.

    Attributes:
        name: of the codec.
        number: number of codebooks, bitrate in kbit/s, mode or frequency, depending on the codec; ``None`` for its
            default.
        source: local directory or name on the Hugging Face hub, if given.
    """

    name: str
    number: float | None = None
    source: str | None = None

    @property
    def integer(self) -> int | None:
        """:attr:`number` as a positive integer; ``None`` if it was not given.

        Raises:
            InputError: the number is not a positive integer.
        """
        if self.number is None:
            return None
        if self.number != int(self.number) or self.number < 1:
            raise InputError(f"codec is {self.name}:{self.number:g}; expected a positive integer, as in {self.name}:4")
        return int(self.number)


def parse_spec(text: str) -> Spec:
    """Parse a specification.

    Raises:
        InputError: ``text`` does not have the form of a specification.
    """
    match = re.fullmatch(r"([a-z0-9]+)(?::(\d+(?:\.\d+)?))?(?:@(.+))?", text)
    if not match:
        raise InputError(f"codec is {text[:80]!r}; expected NAME, NAME:NUMBER or NAME:NUMBER@SOURCE, such as opus:6")
    name, number, source = match.groups()
    return Spec(name, float(number) if number else None, source)
