"""A step of a network as one call: its operations recorded once, and replayed without Python between them.

A frame is some hundred operations on a few numbers each, and most of their time goes to calling them.
"""

import threading
import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[..., tuple[Tensor, ...]]
"""Tensors in, tensors out, none of them changed."""

_lock = threading.Lock()


def record(step: Step, *example: Tensor) -> Step:
    """``step`` for tensors of the shapes of ``example``: recorded if that is possible here, and as it is otherwise.

    The operations are the same ones in the same order (TorchScript), so the results are equal to the bit; what was
    recorded is compared before it is used. Weights are part of the recording.
    """
    if any(x.device.type != "cpu" for x in example):  # elsewhere the replay may fuse operations, and round otherwise
        return step
    with _lock, torch.inference_mode(), torch.autocast("cpu", enabled=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what depends on shapes is meant to be fixed; and TorchScript is called old
        expected = step(*example)
        try:
            recorded = _trace(step, example)
            replays = [recorded(*example) for _ in range(3)]  # the first ones are slow: the interpreter optimises
        except (AttributeError, TypeError, RuntimeError, NotImplementedError):  # another PyTorch, or another Python
            return step
    equal = all(torch.equal(x, y) for replay in replays for x, y in zip(expected, replay, strict=True))
    return _outside_autocast(recorded) if equal else step


def _trace(step: Step, example: tuple[Tensor, ...]) -> Step:
    """As ``torch.jit.trace``, which keeps what it makes, and the weights in it, for as long as the process lives."""
    c: Any = torch._C
    graph, _ = c._create_graph_by_tracing(lambda *x: step(*x), example, lambda _: "", True, False)
    traced: Step = c._create_function_from_graph("step", graph)
    return traced


def _outside_autocast(step: Step) -> Step:
    """The recording lacks what switched autocast off."""

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        if not torch.is_autocast_enabled("cpu"):
            return step(*tensors)
        with torch.autocast("cpu", enabled=False):
            return step(*tensors)

    return run


class Recorder:
    """Recorded steps, each kept for as long as its modules have the weights that they had.

    Changes that PyTorch counts are seen, other weights or submodules in the place of the old ones, and hooks, which a
    step needs Python for; what writes through ``.data`` or a NumPy view is not.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[_Weights, Step] | None] = {}

    def expect(self, key: Hashable) -> None:
        """From now on, record the steps that are called ``key``."""
        self._kept.setdefault(key, None)

    def __call__(self, key: Hashable, step: Step, modules: tuple[nn.Module, ...], *example: Tensor) -> Step:
        """``step``, or its recording if there is to be one; ``key`` says all that it depends on besides ``modules``."""
        if key not in self._kept:
            return step
        kept = self._kept[key]  # another thread may replace it meanwhile, with an equal one
        if kept is None or not kept[0].of(modules):
            weights = _Weights(modules)
            if not weights.countable or weights.hooked():
                return step
            kept = self._kept[key] = weights, record(step, *example)
        return kept[1]

    def __reduce__(self) -> tuple[type["Recorder"], tuple[()]]:
        """Copies and pickles start empty."""
        return Recorder, ()


class _Weights:
    """What some modules consist of, to tell quickly whether they still do."""

    def __init__(self, modules: tuple[nn.Module, ...]) -> None:
        self._modules = modules
        owned = [m for module in modules for m in module.modules()]
        self._parts = [
            (owner, name, part)
            for m in owned
            for owner in (m._modules, m._parameters, m._buffers)
            for name, part in owner.items()
        ]
        self._hooks = [hooks for m in owned for hooks in (m._forward_hooks, m._forward_pre_hooks)]
        self._weights = [part for _, _, part in self._parts if isinstance(part, Tensor)]
        # tensors made in inference mode count no versions: nothing tells of a change
        self.countable = not any(weight.is_inference() for weight in self._weights)
        self._versions = self._count() if self.countable else []

    def of(self, modules: tuple[nn.Module, ...]) -> bool:
        """Whether these are the modules, and all is as it was."""
        if modules != self._modules or self._count() != self._versions or self.hooked():
            return False
        return all(owner.get(name) is part for owner, name, part in self._parts)

    def hooked(self) -> bool:
        """Whether any module has a hook."""
        return any(self._hooks)

    def _count(self) -> list[int]:
        # one list of all: quicker than pairs
        return [weight._version for weight in self._weights] + [weight.data_ptr() for weight in self._weights]
