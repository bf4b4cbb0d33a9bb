"""What a public method needs in order to compute in any process, thread and context of PyTorch."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from speechtok.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

_REASON = "speechtok computes codes in compiled code of its own, which PyTorch's compilers cannot look into"
_AUTOCAST_DEVICES = "cpu", "cuda", "mps", "xpu"

_may_autocast: Callable[[], bool] = getattr(torch._C, "_is_any_autocast_enabled", lambda: True)
"""Whether autocast is on for some device; not every build of PyTorch can tell at once."""

_has_computed = False
_lost_threads = False


def inference(method: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public method that computes.

    The method computes without gradients and without autocast. ``torch.compile`` breaks its graph around it. In a
    forked process it uses one thread. ``torch.export`` and ``torch.jit.trace`` raise an
    :class:`~speechtok.errors.InputError`: they would store one input's codes as a constant.
    """
    without_gradients = torch.no_grad()(method)

    @functools.wraps(method)
    def compute(*args: P.args, **kwargs: P.kwargs) -> R:
        enter_process()
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # type: ignore[no-untyped-call]
            raise InputError(
                f"{method.__qualname__} is called by a program that is being exported or traced; expected real audio "
                f"or codes: {_REASON}. Call it before the module that is exported, and pass its result to the module"
            )
        if not _may_autocast():
            return without_gradients(*args, **kwargs)
        with contextlib.ExitStack() as stack:
            for device in _AUTOCAST_DEVICES:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return without_gradients(*args, **kwargs)

    uncompiled = torch._disable_dynamo(compute)  # the public decorator imports the compiler, which takes a second

    @functools.wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return (uncompiled if "torch._dynamo" in sys.modules else compute)(*args, **kwargs)

    run._torchdynamo_disable = True  # type: ignore[attr-defined]
    run._torchdynamo_disable_msg = _REASON  # type: ignore[attr-defined]
    return run


def enter_process() -> None:
    """Note that this process computes. After a fork, give up the threads that PyTorch believes to have.

    A forked process has one thread, and OpenMP waits forever for the others that its parent had started. It never does
    with one thread, which is also what the workers of a ``DataLoader`` use.
    """
    global _has_computed, _lost_threads
    if _lost_threads:
        torch.set_num_threads(1)
        _lost_threads = False
    _has_computed = True


def _after_fork() -> None:
    global _lost_threads
    _lost_threads = _has_computed


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
