"""Agents that a server can load by name."""

import torch


def answer(turn):
    """Seven frames."""
    yield torch.zeros(4, 3, dtype=torch.int64)
    yield torch.ones(4, 4, dtype=torch.int64)


def say(turn):
    """Text, and frames that go with it."""
    yield "Hello."
    yield torch.zeros(4, 30, dtype=torch.int64)


def few(turn):
    """Two codebooks, then all."""
    yield torch.zeros(2, 5, dtype=torch.int64)


def fail(turn):
    """An agent with a mistake in it."""
    raise ValueError("private details")
