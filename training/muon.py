"""Muon (Jordan et al. 2024) for processors of all kinds: its matrices in float32, and half of its products.

``torch.optim.Muon`` works in bfloat16, which a processor without instructions for it multiplies many times as slowly as
float32. Here an update is orthogonalised by way of its Gram matrix, which is smaller. Matrices of one shape go
together, on a GPU too, which works in bfloat16.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_LEAST = 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum with Nesterov's look ahead, orthogonalised, and scaled as an update of AdamW (Liu et al. 2025,
    arXiv 2502.16982): ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``.

    Args:
        matrices: what it moves, each ``(N, K)``.
        lr: rate; may be a tensor on the device, so that a recorded step can read it.
        weight_decay: share of a weight that a step at rate 1 takes from it.
        momentum: share of the sum of gradients that is kept.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for matrices in by_shape.values():
                self._move(matrices, group["lr"], group["weight_decay"], group["momentum"])

    def _move(self, matrices: list[nn.Parameter], lr: float | Tensor, weight_decay: float, momentum: float) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        kept = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(kept, gradients, 1 - momentum)
        updates = torch.stack(torch._foreach_lerp(gradients, kept, momentum)).float()
        rate = 0.2 * max(matrices[0].shape) ** 0.5 * lr
        if weight_decay:
            torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        torch._foreach_sub_(matrices, (orthogonalised(updates) * rate).unbind())


def orthogonalised(x: Tensor) -> Tensor:
    """Matrices ``(…, N, K)``, float32, with their singular values brought near to 1 by five quintic steps.

    A step multiplies ``x`` by a polynomial of its Gram matrix. All of them commute, so only the product of the
    polynomials is followed, in the smaller of the two sizes, and ``x`` is multiplied once.
    """
    if x.shape[-2] > x.shape[-1]:
        return orthogonalised(x.mT).mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(_LEAST)
    a, b, c = _COEFFICIENTS
    if x.is_cuda:  # bfloat16 costs next to nothing there, and is too coarse for what follows
        return _orthogonalised_in_bfloat16(x)
    gram = x @ x.mT
    product = None
    for iteration in range(_ITERATIONS):
        polynomial = b * gram + c * (gram @ gram)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial if product is None else polynomial @ product
        if iteration < _ITERATIONS - 1:
            gram = polynomial @ gram @ polynomial
    return product @ x


def _orthogonalised_in_bfloat16(x: Tensor) -> Tensor:
    """The five steps on matrices ``(…, N, K)`` of norm 1 themselves."""
    a, b, c = _COEFFICIENTS
    y = x.bfloat16()
    for _ in range(_ITERATIONS):
        gram = y @ y.mT
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    return y.to(x.dtype)
