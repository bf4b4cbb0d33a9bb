"""Modules without random initialization, for weights that are loaded afterwards."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_INITIALIZERS = {nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_, Tensor.uniform_, Tensor.normal_}


class SkipInit(TorchFunctionMode):
    """Context in which random initialization does nothing: tensors keep the contents of their memory.

    Initialization takes as long as loading weights. On the ``"meta"`` device, PyTorch even imports its compiler for it,
    which takes seconds. The random state of the process does not change.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func``, unless it initializes a tensor: that tensor is returned unchanged."""
        given = kwargs or {}
        if func in _INITIALIZERS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
