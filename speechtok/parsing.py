"""JSON from files that anyone may have written: bounded, and with one kind of error."""

import json
import math
from typing import Any, NoReturn

from speechtok.limits import MAX_DEPTH


class ParseError(ValueError):
    """The bytes are not what they should be. The message gives the reason; the caller adds the name of the file."""


def parse_json(data: bytes | str, finite: bool = False) -> Any:
    """Parse JSON. A byte order mark at the start is ignored.

    Args:
        data: UTF-8 or text.
        finite: refuse ``NaN`` and ``Infinity``, which are not JSON but which Python writes.

    Raises:
        ParseError: it is not UTF-8 or not JSON, is nested too deeply, has an integer of thousands of digits, or has a
            text that is not Unicode.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        value = json.loads(text, parse_constant=_refuse if finite else None)
    except RecursionError:
        raise _too_deep() from None
    except ParseError:
        raise
    except ValueError as error:
        reason = "it has an integer of too many digits" if "int_max_str_digits" in str(error) else str(error)
        raise ParseError(reason) from error
    # most files cannot break these rules, and are not searched
    if text.count("[") + text.count("{") > MAX_DEPTH or "\\u" in text:
        check_values(value)
    return value


def check_values(value: Any, max_values: float = math.inf) -> None:
    """Check plain values from elsewhere, as :func:`parse_json` does for its own.

    Args:
        value: numbers, texts, lists and dictionaries.
        max_values: how many there may be, each one counted as often as it is referred to.

    Raises:
        ParseError: they are nested too deeply or are too many, or a text is not Unicode.
    """
    level = [value]
    count = 0
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item
                inner += item.values()
            elif isinstance(item, (list, tuple)):
                inner += item
            elif isinstance(item, str) and not item.isascii():
                _check_text(item)
            if count + len(inner) > max_values:
                raise ParseError(f"it has more than {max_values} values")
        if not inner:
            return
        count += len(inner)
        level = inner
    raise _too_deep()


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ParseError("it has half a surrogate pair, which is not a character") from error


def _too_deep() -> ParseError:
    return ParseError(f"it is nested more than {MAX_DEPTH} levels deep")


def _refuse(constant: str) -> NoReturn:
    raise ParseError(f"{constant} is not JSON; expected finite numbers")
