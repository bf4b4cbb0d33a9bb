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

GROUPS = {
    "recognition": "Recognition",
    "quality": "Predicted quality",
    "likeness": "Likeness to the original",
    "voice": "Pitch and speaker",
    "artefacts": "Artefacts",
    "octaves": "Energy per octave",
}
"""Groups of metrics, each of which is a table of a report, and their headings."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        title: column heading, with the unit.
        better: whether higher or lower values are better, or values close to zero.
        digits: decimal places in tables.
        measure: computes value and weight from an original and a decoded utterance.
        modules: import names of the modules that it needs.
        definition: definition and reference.
        slow: measured on a subset of the utterances.
        group: table of the report; one of :data:`GROUPS`.
        summary: whether the metric is part of the summary.
    """

    title: str
    better: Literal["higher", "lower", "zero"]
    digits: int
    measure: Callable[[Speech, Speech], Value]
    modules: tuple[str, ...]
    definition: str
    slow: bool = False
    group: str = "likeness"
    summary: bool = False

    @functools.cached_property
    def unavailable(self) -> str | None:
        """Reason why the metric cannot be measured on this machine; ``None`` if it can."""
        for module in self.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                return f"needs {module}, which cannot be imported ({error}): {install_hint('bench')}"
        return None
