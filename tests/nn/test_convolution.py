import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from speechtok.nn.convolution import CausalConvNeXtBlock, CausalDepthwiseConv

DIM, FRAMES = 6, 24


def signal(seed: int = 0, batch: int = 2, frames: int = FRAMES) -> Tensor:
    return torch.randn(batch, frames, DIM, generator=torch.Generator().manual_seed(seed))


def make(kind: str, kernel_size: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "conv":
            module = CausalDepthwiseConv(DIM, kernel_size)
            nn.init.normal_(module.bias)
            return module.requires_grad_(False).eval()
        return CausalConvNeXtBlock(DIM, kernel_size, 3).requires_grad_(False).eval()


def whole(module: nn.Module, x: Tensor) -> Tensor:
    return module(x, module.initial_state(len(x)))[0]


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 7, 40])
def test_a_convolution_equals_conv1d_with_zero_padding(kernel_size):
    conv, x = make("conv", kernel_size), signal()
    padded = F.pad(x.transpose(1, 2), (kernel_size - 1, 0))
    expected = F.conv1d(padded, conv.weight.flip(0).T[:, None], conv.bias, groups=DIM).transpose(1, 2)
    assert torch.allclose(whole(conv, x), expected, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 2, 7])
@pytest.mark.parametrize("kind", ["conv", "block"])
@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, FRAMES), max_size=8))
def test_pieces_of_any_length_give_the_output_of_the_whole_signal(kind, kernel_size, cuts):
    module, x = make(kind, kernel_size), signal()
    state, pieces = module.initial_state(2), []
    bounds = [0, *sorted(cuts), FRAMES]
    for start, stop in itertools.pairwise(bounds):
        piece, state = module(x[:, start:stop], state)
        assert state.shape == (2, kernel_size - 1, DIM)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces, 1), whole(module, x))


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("kind", ["conv", "block"])
def test_a_frame_depends_on_the_frames_under_its_kernel_and_on_no_later_one(kind, kernel_size):
    module, x = make(kind, kernel_size), signal()
    y = whole(module, x)
    for t in range(FRAMES):
        changed = x.clone()
        changed[:, t] += 1.0
        moved = (whole(module, changed) != y).flatten(2).any(-1).any(0)
        assert moved.nonzero()[:, 0].tolist() == list(range(t, min(FRAMES, t + kernel_size)))


def test_a_state_is_never_modified():
    module, x = make("block", 7), signal()
    _, state = module(x, module.initial_state(2))
    before = state.clone()
    first, _ = module(x, state)
    second, _ = module(x, state)
    assert torch.equal(state, before)
    assert torch.equal(first, second)


def test_rows_of_a_batch_do_not_affect_each_other():
    module, x = make("block", 7), signal()
    changed = x.clone()
    changed[1] += 1.0
    assert torch.equal(whole(module, changed)[0], whole(module, x)[0])


def test_gradients_reach_every_weight():
    module = make("block", 7).requires_grad_()
    whole(module, signal()).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())
