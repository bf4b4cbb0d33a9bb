"""Values computed from weights, kept until the weights change."""

from collections.abc import Callable, Iterable
from operator import getitem, is_
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Value = TypeVar("Value")
Source = Tensor | nn.Module

_CONTAINERS = nn.ModuleList, nn.ModuleDict, nn.Sequential


class WeightCache(Generic[Value]):
    """A value computed from tensors or modules, recomputed when they change.

    The cache notices changes that PyTorch counts (optimizer steps and other in-place operations, ``load_state_dict``),
    conversions, and tensors whose memory is replaced. Of modules it also notices replaced parameters, buffers and
    submodules, longer and shorter containers, forward hooks, and methods set on one module, such as
    ``module.forward = …``. It does not notice writes through ``tensor.data`` or a NumPy view, nor
    ``tensor.data = view`` with a view of the same memory from the same element on.

    Copies and pickles of a cache are empty. Threads may share a cache.
    """

    def __init__(self) -> None:
        self._entry: tuple[_Snapshot, Value] | None = None

    def __call__(self, make: Callable[..., Value], *sources: Source) -> Value:
        """Return ``make(*sources)``, computed now or by an earlier call."""
        entry = self._entry  # another thread may replace it meanwhile, with an equal one
        if entry is not None and entry[0].matches(sources):
            return entry[1]
        entry = self._entry = None  # frees memory before more is allocated
        with torch.inference_mode(False), torch.no_grad():
            snapshot = _take_snapshot(sources)
            value = make(*sources)
        self._entry = None if snapshot is None else (snapshot, value)
        return value

    def __reduce__(self) -> tuple[type["WeightCache[Value]"], tuple[()]]:
        return WeightCache, ()


class _Snapshot:
    """The state of tensors and modules at one moment.

    Comparing it takes some microseconds for a hundred weights: a stream does it for each chunk.
    """

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources
        modules = [m for source in sources if isinstance(source, nn.Module) for m in source.modules()]
        slots = [(table, name) for m in modules for table in (m._modules, m._parameters, m._buffers) for name in table]
        # nn.ModuleList makes a new table when an entry is deleted or inserted, and the old one may look as it did
        slots += [(vars(m), "_modules") for m in modules if isinstance(m, _CONTAINERS)]
        self._tables, self._names = [table for table, _ in slots], [name for _, name in slots]
        self._parts = [table[name] for table, name in slots]
        self._sized: list[dict[str, Any]] = list(map(vars, modules))
        self._sized += [m._modules for m in modules if isinstance(m, _CONTAINERS)]
        self._sizes = list(map(len, self._sized))
        self._hooks = forward_hooks(modules)
        self._hooked = any(self._hooks)
        self._tensors = [part for part in (*sources, *self._parts) if isinstance(part, Tensor)]
        self._versions = [tensor._version for tensor in self._tensors]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._indices = list(range(len(self._tensors)))
        self._memory = [tensor.detach() for tensor in self._tensors]  # no other tensor can get these addresses

    def matches(self, sources: tuple[Source, ...]) -> bool:
        """Whether these are the same sources, unchanged."""
        return (
            len(sources) == len(self._sources)
            and all(map(is_, sources, self._sources))
            and (not self._sized or self._structure_matches())
            and [tensor._version for tensor in self._tensors] == self._versions
            and self._addresses_match()
        )

    def _structure_matches(self) -> bool:
        try:
            parts = list(map(getitem, self._tables, self._names))
        except KeyError:
            return False
        return (
            all(map(is_, parts, self._parts))
            and list(map(len, self._sized)) == self._sizes
            and any(self._hooks) == self._hooked
        )

    def _addresses_match(self) -> bool:
        if _compare_addresses is not None:
            return bool(_compare_addresses(self._tensors, self._addresses, self._indices))
        return [tensor.data_ptr() for tensor in self._tensors] == self._addresses


def _take_snapshot(sources: tuple[Source, ...]) -> _Snapshot | None:
    """``None`` if changes could not be noticed: tensors made in inference mode have no versions."""
    try:
        return _Snapshot(sources)
    except RuntimeError:
        return None


def forward_hooks(modules: Iterable[nn.Module]) -> list[dict[int, Any]]:
    """The tables of forward hooks of some modules, and those of all modules."""
    hooks = [table for m in modules for table in (m._forward_hooks, m._forward_pre_hooks)]
    if hooks:
        hooks += [nn.modules.module._global_forward_hooks, nn.modules.module._global_forward_pre_hooks]
    return hooks


_compare_addresses = getattr(torch._C, "_tensors_data_ptrs_at_indices_equal", None)
"""One call for all tensors takes a third of the time; not every build of PyTorch has it."""
