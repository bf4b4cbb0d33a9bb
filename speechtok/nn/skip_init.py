"""Networks whose weights come from elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWN = {nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_, Tensor.uniform_, Tensor.normal_}


class SkipInit(TorchFunctionMode):
    """Inside it, modules are made without their random weights: memory holds what it held.

    To draw them takes as long as to load others, and on the ``"meta"`` device PyTorch imports its compiler for it,
    which takes seconds. The random state of the process stays as it was.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run ``func``, or leave its tensor as it is."""
        given = kwargs or {}
        if func in _DRAWN:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
