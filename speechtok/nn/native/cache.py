"""Compiled steps, made when the weights change and used only where they agree with the modules."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from speechtok.errors import InputError
from speechtok.nn.convnext import BlockStack, ConvNeXtDecoder, ConvNeXtEncoder
from speechtok.nn.convolution import CausalConvNeXtBlock, CausalDepthwiseConv
from speechtok.nn.exact import ExactLinear
from speechtok.nn.native import library
from speechtok.nn.native.steps import NativeDecoder, NativeEncoder, NativeTurns, UnsupportedModelError
from speechtok.nn.noise import BandNoise
from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.nn.turns import TurnNetwork
from speechtok.nn.weight_cache import WeightCache, forward_hooks

Steps = TypeVar("Steps", NativeEncoder, NativeDecoder, NativeTurns)

_SUPPORTED = {
    ConvNeXtEncoder,
    ResidualQuantizer,
    ConvNeXtDecoder,
    BlockStack,
    CausalConvNeXtBlock,
    CausalDepthwiseConv,
    ExactLinear,
    BandNoise,
    TurnNetwork,
    nn.ModuleList,
}
"""Modules that ``native.c`` implements. Subclasses and other modules compute for themselves."""
_METHODS = {"forward", "encode", "decode"}
"""Methods that ``native.c`` implements, unless a module has one of its own."""


class NativeCache(Generic[Steps]):
    """Compiled steps, such as :class:`NativeEncoder`, of some modules; kept until the modules change.

    Args:
        make: the class.
    """

    def __init__(self, make: type[Steps]) -> None:
        self._make: Callable[..., Any] = make
        self._cache: WeightCache[Steps | None] = WeightCache()

    def __call__(self, *modules: nn.Module) -> Steps | None:
        """Return the compiled steps of ``modules``, the arguments of the class.

        Returns:
            ``None`` where the modules have to compute: without the library, on other devices than a CPU, for modules
            with hooks or of unknown classes, and where the results differ in any bit.

        Raises:
            InputError: the shapes of the weights do not fit each other, or a weight has lost its memory.
        """
        return self._cache(self._try, *modules) if library.current_isa() >= 0 else None

    def _try(self, *modules: nn.Module) -> Steps | None:
        if not _are_supported(modules):
            return None
        _check_memory(modules)
        with torch.autocast("cpu", enabled=False):
            try:
                steps = self._make(*modules)
            except UnsupportedModelError:
                return None
            found: Steps | None = steps if steps.agrees_with(*modules) else None
            return found


def _are_supported(modules: tuple[nn.Module, ...]) -> bool:
    everything = [m for module in modules for m in module.modules()]
    weights = _weights(modules)
    return (
        all(type(m) in _SUPPORTED and not _METHODS & vars(m).keys() for m in everything)
        and not any(forward_hooks(everything))
        # changes of inference tensors cannot be noticed
        and all(weight.device.type == "cpu" and not weight.is_inference() for weight in weights)
    )


def _check_memory(modules: tuple[nn.Module, ...]) -> None:
    """PyTorch reads outside of a storage that was made smaller than its tensor, as FSDP does; refuse it here."""
    for weight in _weights(modules):
        last = sum((size - 1) * stride for size, stride in zip(weight.shape, weight.stride(), strict=True))
        needed = (weight.storage_offset() + last + 1) * weight.itemsize if weight.numel() else 0
        if weight.untyped_storage().nbytes() < needed:
            raise InputError(
                f"the memory of a weight of shape {tuple(weight.shape)} was given back; expected weights that are "
                "there: load them again"
            )


def _weights(modules: tuple[nn.Module, ...]) -> list[Tensor]:
    return [weight for module in modules for weight in (*module.parameters(), *module.buffers())]
