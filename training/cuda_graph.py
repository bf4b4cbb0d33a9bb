"""CUDA graphs: functions recorded once and replayed, which saves the time to launch kernels from Python."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP_CALLS = 4
"""Calls before the recording, in which code is compiled and libraries and optimizers set up their state."""


class CUDAGraphed:
    """A function of GPU tensors that is recorded as a CUDA graph once and replayed in all later calls.

    The function must take tensors of the same shapes in all calls, must not wait for the GPU, and must not depend on
    other values that change between calls. Its result is overwritten by the next call.

    Args:
        function: takes tensors or ``None``.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor | None, ...] = ()
        self._output: Any = None
        self._stream: torch.cuda.Stream | None = None

    @property
    def ready(self) -> bool:
        """Whether calls replay the graph."""
        return self._graph is not None

    def __call__(self, *inputs: Tensor | None) -> Any:
        """Call the function, record it, or replay it."""
        self._calls += 1
        stream = self._stream = self._stream or torch.cuda.Stream()
        if self._calls <= WARM_UP_CALLS:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                output = self._function(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            return output
        if self._graph is None:
            self._inputs = tuple(None if x is None else x.clone() for x in inputs)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._output = self._function(*self._inputs)
            self._graph = graph
        for kept, given in zip(self._inputs, inputs, strict=True):
            if kept is not None and given is not None:
                kept.copy_(given)
        self._graph.replay()
        return self._output
