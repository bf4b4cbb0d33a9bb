"""The model card that goes to the hub with a tokenizer."""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any


def fill_card(facts: Mapping[str, Any]) -> str:
    """Return the card's template with ``{name}`` replaced by ``facts["name"]``, for every name in it."""
    template = resources.files("speechtok").joinpath("assets/HUB_CARD.md").read_text(encoding="utf-8")
    return re.sub(r"\{(\w+)\}", lambda field: str(facts[field[1]]), template)
