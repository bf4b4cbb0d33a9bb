"""The Muon optimizer (Jordan et al. 2024), fast on CPUs too.

``torch.optim.Muon`` orthogonalizes in bfloat16, which is many times slower than float32 on processors without
instructions for it. On a CPU, this version works in float32 on the smaller Gram matrix, with half of the products; on a
GPU it works in bfloat16. Matrices of one shape are batched on both.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Orthogonalized Nesterov momentum, scaled to match AdamW (Liu et al. 2025, arXiv 2502.16982).

    Equivalent to ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``.

    Args:
        matrices: parameters to update, each ``(N, K)``.
        lr: learning rate. It may be a tensor on the device, so that a CUDA graph reads its current value.
        weight_decay: decoupled weight decay, scaled by ``lr``.
        momentum: decay of the moving average of gradients.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update each matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for matrices in by_shape.values():
                self._update(matrices, group["lr"], group["weight_decay"], group["momentum"])

    def _update(self, matrices: list[nn.Parameter], lr: float | Tensor, weight_decay: float, momentum: float) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        momenta = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        updates = torch.stack(torch._foreach_lerp(gradients, momenta, momentum)).float()
        rate = 0.2 * max(matrices[0].shape) ** 0.5 * lr
        if weight_decay:
            torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        torch._foreach_sub_(matrices, (orthogonalize(updates) * rate).unbind())


def orthogonalize(x: Tensor) -> Tensor:
    """Bring the singular values of float32 matrices ``(…, N, K)`` close to 1, by five quintic Newton-Schulz steps.

    Each step multiplies ``x`` by a polynomial of its Gram matrix. The polynomials commute, so on a CPU they are
    multiplied in the smaller of the two sizes, and ``x`` is multiplied once by their product.
    """
    if x.shape[-2] > x.shape[-1]:
        return orthogonalize(x.mT).mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(_EPSILON)
    a, b, c = _COEFFICIENTS
    if x.is_cuda:  # fast in bfloat16, which is too coarse for products of polynomials
        return _orthogonalize_in_bfloat16(x)
    gram = x @ x.mT
    product = None
    for iteration in range(_ITERATIONS):
        polynomial = b * gram + c * (gram @ gram)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial if product is None else polynomial @ product
        if iteration < _ITERATIONS - 1:
            gram = polynomial @ gram @ polynomial
    return product @ x


def _orthogonalize_in_bfloat16(x: Tensor) -> Tensor:
    """The five steps on matrices ``(…, N, K)`` of norm 1, in bfloat16."""
    a, b, c = _COEFFICIENTS
    y = x.bfloat16()
    for _ in range(_ITERATIONS):
        gram = y @ y.mT
        y = a * y + (b * gram + c * (gram @ gram)) @ y
    return y.to(x.dtype)
