"""A step of a network as one call: its operations recorded once, and replayed without Python between them.

A frame is some hundred operations on a few numbers each, and most of their time goes to calling them.
"""

import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]
"""Tensors in, tensors out, none of them changed."""

_lock = threading.Lock()


def record(step: Step, *example: Tensor) -> Step:
    """``step`` for tensors of the shapes of ``example``: recorded if that is possible here, and as it is otherwise.

    The operations are the same ones in the same order (``torch.jit.trace``), so the results are equal to the bit; what
    was recorded is compared before it is used. Weights are part of the recording.
    """
    if any(x.device.type != "cpu" for x in example):  # elsewhere the replay may fuse operations, and round otherwise
        return step
    with _lock, torch.inference_mode(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what depends on shapes is meant to be fixed; and TorchScript is called old
        expected = step(*example)
        try:
            # in a function of its own: methods of modules are refused
            recorded: Step = torch.jit.trace(lambda *x: step(*x), example, check_trace=False)  # type: ignore[no-untyped-call]
            replays = [recorded(*example) for _ in range(3)]  # the first ones are slow: the interpreter optimises
        except (RuntimeError, NotImplementedError):  # no TorchScript in this Python
            return step
    equal = all(torch.equal(x, y) for replay in replays for x, y in zip(expected, replay, strict=True))
    return _outside_autocast(recorded) if equal else step


def _outside_autocast(step: Step) -> Step:
    """The recording lacks what switched autocast off."""

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        if not torch.is_autocast_enabled("cpu"):
            return step(*tensors)
        with torch.autocast("cpu", enabled=False):
            return step(*tensors)

    return run
