"""Steps recorded once and replayed: a GPU does not wait for Python to launch each of a thousand small kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP_CALLS = 4
"""Calls before the recording: compilation, plans of libraries, and state that optimizers make at first."""


class CUDAGraphed:
    """A function of tensors on a GPU, which is recorded as a CUDA graph in one call and replayed in all later ones.

    It must not depend on anything that Python decides anew in each call, must not wait for the GPU, and is called with
    tensors of the same shapes. What it returns is overwritten by the next call.

    Args:
        function: takes tensors, and None where there is none.
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
        """Whether calls are replayed."""
        return self._graph is not None

    def __call__(self, *inputs: Tensor | None) -> Any:
        """What the function returns."""
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
