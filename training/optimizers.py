"""Optimizers of a training: Muon and AdamW with one learning-rate schedule, saved and restored together."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.muon import Muon


def learning_rate_factor(step: int, steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """Share of the peak learning rate at ``step``: linear warm-up, constant, linear decay to zero.

    Args:
        step: number of the optimizer step, from 0.
        steps: optimizer steps of the whole training.
        warmup_steps: steps of warm-up.
        decay_fraction: share of ``steps``, the last ones, in which the rate decays.
    """
    return min(1.0, (step + 1) / max(1, warmup_steps), (steps - step) / (decay_fraction * steps))


class Optimizers:
    """A few optimizers that step together.

    Each rate is its optimizer's peak rate times one common factor. On a GPU, rates are tensors that are filled in
    place, so that a CUDA graph reads the rate of its own step.

    Args:
        peaks: optimizers and their peak learning rates. Each optimizer has one parameter group.
    """

    def __init__(self, peaks: Sequence[tuple[torch.optim.Optimizer, float]]) -> None:
        self.peaks = list(peaks)
        self._rates = [torch.zeros((), device=_group(optimizer)["params"][0].device) for optimizer, _ in self.peaks]

    @property
    def learning_rate(self) -> float:
        """Current learning rate of the first optimizer."""
        return float(_group(self.peaks[0][0])["lr"])

    def set_rates(self, factor: float) -> None:
        """Set each learning rate to its peak times ``factor``."""
        for (optimizer, peak), rate in zip(self.peaks, self._rates, strict=True):
            value: float | Tensor = rate.fill_(peak * factor) if rate.is_cuda else peak * factor
            _group(optimizer)["lr"] = value

    def step(self) -> None:
        """Update the weights. Safe to record in a CUDA graph."""
        for optimizer, _ in self.peaks:
            optimizer.step()

    def zero_grad(self) -> None:
        """Set all gradients to ``None``."""
        for optimizer, _ in self.peaks:
            optimizer.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        """State of each optimizer."""
        return [optimizer.state_dict() for optimizer, _ in self.peaks]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore what :meth:`state_dict` returned, on this device or on another one.

        Raises:
            ValueError: the states belong to other optimizers.
        """
        for (optimizer, _), state in zip(self.peaks, states, strict=True):
            restore_optimizer(optimizer, state)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimizer that was possibly saved on another kind of device.

    ``capturable`` says whether the optimizer works inside a CUDA graph. It belongs to this machine, not to the state.
    """
    capturable = _group(optimizer).get("capturable")
    optimizer.load_state_dict(state)
    if capturable is not None:
        _group(optimizer)["capturable"] = capturable


def muon_and_adamw(
    matrices: Sequence[nn.Parameter],
    others: Iterable[nn.Parameter],
    muon_lr: float,
    adamw_lr: float,
    weight_decay: float = 0.0,
    fused: bool = True,
) -> Optimizers:
    """Muon for ``matrices``, if there are any, and AdamW for the other parameters.

    Args:
        matrices: parameters for Muon, each ``(N, K)``.
        others: parameters for AdamW, on one device.
        muon_lr: peak learning rate of Muon.
        adamw_lr: peak learning rate of AdamW.
        weight_decay: weight decay of Muon; AdamW has none.
        fused: whether AdamW uses PyTorch's fused kernel, which rounds differently.
    """
    others = list(others)
    adamw = torch.optim.AdamW(
        others, lr=adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=fused or None, capturable=others[0].is_cuda
    )
    if not matrices:
        return Optimizers([(adamw, adamw_lr)])
    return Optimizers([(Muon(matrices, muon_lr, weight_decay), muon_lr), (adamw, adamw_lr)])


def _group(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return optimizer.param_groups[0]
