import pytest
import torch
from torch import nn

from training.muon import Muon, orthogonalize

SHAPES = ((48, 32), (32, 48), (32, 32), (48, 32))


def matrices() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def test_updates_equal_those_of_torch_up_to_rounding_in_bfloat16():
    ours, theirs = matrices(), matrices()
    optimizers = [
        Muon(ours, lr=1e-2, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(3):
        for x, y in zip(ours, theirs, strict=True):
            x.grad = torch.randn_like(x)
            y.grad = x.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for x, y, before in zip(ours, theirs, matrices(), strict=True):
        assert (x - y).norm() < 0.05 * (y - before).norm()


@pytest.mark.parametrize("shape", [(40, 120), (120, 40), (64, 64), (3, 30, 20)])
def test_products_of_gram_matrices_equal_five_newton_schulz_steps(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    x[..., 0] *= 1e-4  # badly conditioned
    expected = x.double() / torch.linalg.matrix_norm(x.double(), keepdim=True)
    for _ in range(5):
        gram = expected @ expected.mT
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    assert torch.allclose(orthogonalize(x).double(), expected, atol=2e-3)


def test_singular_values_come_near_to_one():
    values = torch.linalg.svdvals(orthogonalize(torch.randn(64, 128)))
    assert 0.6 < values.min() < values.max() < 1.3


def test_a_matrix_without_gradient_is_not_updated():
    first, second = matrices()[:2]
    second.grad = torch.ones_like(second)
    before = first.detach().clone(), second.detach().clone()
    Muon([first, second], lr=1e-2).step()
    assert torch.equal(first, before[0])
    assert not torch.equal(second, before[1])


def test_a_zero_gradient_changes_nothing():
    (matrix, *_) = matrices()
    matrix.grad = torch.zeros_like(matrix)
    before = matrix.detach().clone()
    Muon([matrix], lr=1e-2).step()
    assert torch.equal(matrix, before)
