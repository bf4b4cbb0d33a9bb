"""Engines: where the parts of a plan are encoded."""

from speechtok.corpus.engines.engine import Engine
from speechtok.corpus.engines.local import LocalEngine

__all__ = ["Engine", "LocalEngine"]
