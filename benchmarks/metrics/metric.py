"""The description of one metric."""

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.metrics.speech import Speech
from speechtok.extras import install_hint

Value = tuple[float, float]
"""A value and its weight."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        title: column heading, with the unit.
        better: whether higher or lower values are better.
        digits: decimal places in tables.
        measure: computes value and weight from an original and a decoded utterance.
        modules: import names of the modules that it needs.
        definition: definition and reference.
        slow: measured on a subset of the utterances.
    """

    title: str
    better: Literal["higher", "lower"]
    digits: int
    measure: Callable[[Speech, Speech], Value]
    modules: tuple[str, ...]
    definition: str
    slow: bool = False

    @functools.cached_property
    def unavailable(self) -> str | None:
        """Reason why the metric cannot be measured on this machine; ``None`` if it can."""
        for module in self.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                return f"needs {module}, which cannot be imported ({error}): {install_hint('bench')}"
        return None
