import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from speechtok.nn.convnext import BlockStack, ConvNeXtDecoder, ConvNeXtEncoder

HOP, PATCH, D, FRAMES = 40, 10, 8, 12
SIZES = {"patch_dim": 6, "patch_depth": 2, "frame_dim": 10, "frame_depth": 2, "kernel_size": 3, "expansion": 3}
LENGTHS = {"hop_length": HOP, "patch_length": PATCH, "latent_dim": D}


def make(kind: str, window: int = 30) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "encoder":
            module = ConvNeXtEncoder(**SIZES, **LENGTHS, window_length=window)
        elif kind == "decoder":
            module = ConvNeXtDecoder(**SIZES, **LENGTHS)
            nn.init.normal_(module.head.weight)
        else:
            module = BlockStack(D, 3, 3, 2)
        return module.requires_grad_(False).eval()


def signal(kind: str, seed: int = 0) -> Tensor:
    """Two rows of ``FRAMES`` frames of a module's input."""
    shape = (2, FRAMES * HOP) if kind == "encoder" else (2, FRAMES, D)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 4


def whole(module: nn.Module, x: Tensor) -> Tensor:
    return module(x, module.initial_state(len(x)))[0]


KINDS = ["encoder", "decoder", "stack"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(cuts=st.sets(st.integers(1, FRAMES - 1)))
def test_pieces_of_any_length_give_the_output_of_the_whole_signal(kind, cuts):
    module, x = make(kind), signal(kind)
    step = HOP if kind == "encoder" else 1
    state, pieces = module.initial_state(2), []
    bounds = [0, *sorted(cuts), FRAMES]
    for start, stop in itertools.pairwise(bounds):
        piece, state = module(x[:, start * step : stop * step], state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces, 1), whole(module, x))


@pytest.mark.parametrize("window", [10, 20, 40, 100])
def test_an_encoder_gives_the_same_frame_by_frame_with_windows_shorter_and_longer_than_a_frame(window):
    module, x = make("encoder", window), signal("encoder")
    state, pieces = module.initial_state(2), []
    for frame in x.split(HOP, 1):
        piece, state = module(frame, state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces, 1), whole(module, x))


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_have_the_documented_shapes(kind):
    y = whole(make(kind), signal(kind))
    assert y.shape == ((2, FRAMES * HOP) if kind == "decoder" else (2, FRAMES, D))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_never_modified(kind):
    module, x = make(kind), signal(kind)
    _, state = module(x, module.initial_state(2))
    before = [tensor.clone() for tensor in state]
    first, _ = module(x, state)
    second, _ = module(x, state)
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True))
    assert torch.equal(first, second)
    assert not torch.allclose(first, whole(module, x), atol=1e-5)  # the state has an effect


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_state_has_the_batch_first(kind):
    module = make(kind)
    for state in (module.initial_state(2), module(signal(kind), module.initial_state(2))[1]):
        assert {len(tensor) for tensor in state} == {2}
        assert [tensor.shape for tensor in state] == [tensor.shape for tensor in module.initial_state(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_do_not_affect_each_other(kind):
    module, x = make(kind), signal(kind)
    changed = x.clone()
    changed[1] += 1.0
    assert torch.equal(whole(module, changed)[0], whole(module, x)[0])


@pytest.mark.slow
def test_a_frame_of_the_encoder_depends_on_no_later_sample():
    module, x = make("encoder"), signal("encoder")[:1]
    latent = whole(module, x)
    for sample in range(FRAMES * HOP):
        changed = x.clone()
        changed[:, sample] += 1.0
        moved = (whole(module, changed) != latent).any(-1)[0].nonzero()[:, 0]
        assert int(moved.min()) == sample // HOP


def test_the_decoder_is_late_by_one_frame():
    module, x = make("decoder"), signal("decoder")[:1]
    audio = whole(module, x)
    for frame in range(FRAMES):
        changed = x.clone()
        changed[:, frame] += 1.0
        moved = (whole(module, changed) != audio)[0].nonzero()[:, 0]
        assert frame * HOP <= int(moved.min()) < frame * HOP + PATCH  # of audio that is one frame late


def test_windows_of_the_decoder_add_up_to_one():
    module = make("decoder")
    module.head.weight.zero_()
    module.head.bias.fill_(1.0)  # every piece is the window itself
    audio = whole(module, signal("decoder"))
    assert torch.allclose(audio[:, PATCH:], torch.ones_like(audio[:, PATCH:]), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind):
    module = make(kind).requires_grad_()
    whole(module, signal(kind)).square().sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_pieces_are_multiplied_by_the_square_of_their_gain():
    decoder, x = ConvNeXtDecoder(**SIZES, **LENGTHS), signal("decoder")
    with torch.no_grad():
        initial = whole(decoder, x)
        assert initial.any()
        decoder.head.bias[-1] = 2.0  # initially 1 for every latent
        assert torch.equal(whole(decoder, x), 4 * initial)
        decoder.head.bias[-1] = 0.0
        assert not whole(decoder, x).any()
