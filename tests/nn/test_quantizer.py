import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from speechtok.nn.exact import to_levels
from speechtok.nn.quantizer import HOLD_FRAMES, ResidualQuantizer, first_argmax, hold_codes, sum_vectors

shapes = {
    "num_codebooks": st.integers(1, 5),
    "size": st.integers(2, 40),
    "dim": st.integers(1, 12),
    "batch": st.integers(1, 3),
    "frames": st.integers(1, 9),
    "seed": st.integers(0, 10_000),
}


def make(num_codebooks: int = 4, size: int = 32, dim: int = 8, seed: int = 0) -> ResidualQuantizer:
    """Codebooks whose vectors become smaller from one to the next, as in a trained quantizer."""
    quantizer = ResidualQuantizer(num_codebooks, size, dim)
    vectors = torch.randn(num_codebooks, size, dim, generator=torch.Generator().manual_seed(seed))
    quantizer.codebooks.copy_(vectors * 0.6 ** torch.arange(num_codebooks)[:, None, None])
    return quantizer


def latents(batch: int, frames: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, frames, dim, generator=torch.Generator().manual_seed(seed + 1))


@settings(max_examples=50)
@given(**shapes)
def test_every_code_is_the_vector_nearest_to_the_residual(num_codebooks, size, dim, batch, frames, seed):
    quantizer, latent = make(num_codebooks, size, dim, seed), latents(batch, frames, dim, seed)
    codes = quantizer.encode(latent, num_codebooks)
    assert codes.shape == (batch, num_codebooks, frames)
    assert codes.dtype == torch.int64
    residual = latent
    for codebook, code in zip(quantizer.codebooks, codes.unbind(1), strict=True):
        rounded = torch.mul(*to_levels(codebook.flatten()[None])).view_as(codebook).double()
        query = torch.mul(*to_levels(residual)).double()
        distances = (query[..., None, :] - rounded).square().sum(-1)
        chosen = distances.gather(-1, code[..., None])[..., 0]
        assert (chosen - distances.amin(-1)).max() <= 1e-6 * distances.max()  # float32 may confuse equals
        residual = residual - codebook[code]


@settings(max_examples=50)
@given(**shapes | {"dim": st.integers(2, 12)}, share=st.floats(0.01, 0.99))
def test_codebook_0_compares_the_semantic_dimensions_and_the_others_the_rest(
    num_codebooks, size, dim, batch, frames, seed, share
):
    semantic_dim = max(1, int(share * dim))
    quantizer, latent = ResidualQuantizer(num_codebooks, size, dim, semantic_dim), latents(batch, frames, dim, seed)
    codebooks = quantizer.codebooks
    assert not codebooks[1:, :, :semantic_dim].any()
    codes = quantizer.encode(latent, num_codebooks)
    alone = ResidualQuantizer(1, size, semantic_dim)
    alone.codebooks.copy_(codebooks[:1, :, :semantic_dim])
    assert torch.equal(codes[:, :1], alone.encode(latent[..., :semantic_dim].contiguous(), 1))
    if num_codebooks > 1:
        others = ResidualQuantizer(num_codebooks - 1, size, dim - semantic_dim)
        others.codebooks.copy_(codebooks[1:, :, semantic_dim:])
        rest = latent[..., semantic_dim:] - codebooks[0, codes[:, 0], semantic_dim:]
        assert torch.equal(codes[:, 1:], others.encode(rest, num_codebooks - 1))


@pytest.mark.parametrize("rows", [1, 31, 32, 100])
@pytest.mark.parametrize("size", [2, 32, 33, 1024])
def test_the_first_of_equal_scores_is_chosen(rows, size):
    scores = torch.randint(0, 4, (rows, size), generator=torch.Generator().manual_seed(size), dtype=torch.int32)
    expected = torch.tensor([row.index(max(row)) for row in scores.tolist()])
    assert torch.equal(first_argmax(scores), expected)


@settings(max_examples=50)
@given(**shapes)
def test_decoding_sums_the_vectors_in_order(num_codebooks, size, dim, batch, frames, seed):
    quantizer = make(num_codebooks, size, dim, seed)
    codes = torch.randint(0, size, (batch, num_codebooks, frames), generator=torch.Generator().manual_seed(seed))
    latent = quantizer.decode(codes)
    assert latent.shape == (batch, frames, dim)
    for b in range(batch):
        for t in range(frames):
            expected = sum(quantizer.codebooks[q, codes[b, q, t]] for q in range(num_codebooks))
            assert torch.equal(latent[b, t], expected)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_fewer_codebooks_give_the_same_first_codes(k):
    quantizer, latent = make(), latents(2, 50, 8)
    codes = quantizer.encode(latent, 4)
    assert torch.equal(quantizer.encode(latent, k), codes[:, :k])
    partial = quantizer.decode(codes[:, :k])
    expected = sum(quantizer.codebooks[q][codes[:, q]] for q in range(k))
    assert torch.equal(partial, expected)


def test_a_codebook_vector_is_encoded_as_itself():
    quantizer = make(num_codebooks=1)
    assert torch.equal(quantizer.encode(quantizer.codebooks, 1)[0, 0], torch.arange(32))


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e3, 1e20])
def test_codes_are_in_range_for_latents_of_any_scale(scale):
    codes = make().encode(latents(2, 50, 8) * scale, 4)
    assert 0 <= codes.min() <= codes.max() < 32


def test_a_code_does_not_depend_on_other_frames():
    quantizer, latent = make(), latents(2, 30, 8)
    codes = quantizer.encode(latent, 4)
    for b in range(2):
        for t in range(30):
            assert torch.equal(quantizer.encode(latent[b : b + 1, t : t + 1], 4)[0, :, 0], codes[b, :, t])


def test_no_frames_have_no_codes():
    assert make().encode(torch.zeros(2, 0, 8), 4).shape == (2, 4, 0)
    assert make().decode(torch.zeros(2, 4, 0, dtype=torch.int64)).shape == (2, 0, 8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num_codebooks", "size", "dim"), [(4, 32, 8), (8, 256, 64), (1, 7, 3)])
def test_quantization_error_equals_that_of_vector_quantize_pytorch(num_codebooks, size, dim, seed):
    library = pytest.importorskip("vector_quantize_pytorch")
    quantizer, latent = make(num_codebooks, size, dim, seed), latents(2, 200, dim, seed)
    oracle = library.ResidualVQ(dim=dim, num_quantizers=num_codebooks, codebook_size=size).eval()
    for layer, codebook in zip(oracle.layers, quantizer.codebooks, strict=True):
        layer._codebook.embed.copy_(codebook[None])
        layer._codebook.initted.fill_(True)
    with torch.no_grad():
        quantized, indices, _ = oracle(latent)
    codes, theirs = quantizer.encode(latent, num_codebooks), indices.transpose(1, 2)
    assert (codes[:, 0] == theirs[:, 0]).float().mean() > 0.95  # rounding may change the nearest vector
    assert torch.allclose(quantizer.decode(theirs), quantized, atol=1e-5)
    ours = (quantizer.decode(codes) - latent).square().mean()
    assert ours < 1.02 * (quantized - latent).square().mean()


def test_codebooks_of_any_strides_give_the_same_vectors():
    codebooks = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    codes = torch.tensor([[[0, 4], [2, 1], [3, 3]]])
    expected = sum_vectors(codebooks, codes)
    for strided in (codebooks.transpose(0, 1).contiguous().transpose(0, 1), codebooks.repeat_interleave(2, 0)[::2]):
        assert not strided.is_contiguous()
        assert torch.equal(sum_vectors(strided, codes), expected)


def held_one_by_one(scores: Tensor, threshold: float, number: int, before: int) -> tuple[list[int], tuple[int, int]]:
    """The definition, frame by frame: ``scores`` of one row, ``(T, N)``."""
    codes = []
    for frame in scores:
        best = int(first_argmax(frame[None]))
        if number and not frame[best] - frame[before] > threshold:
            best = before
        codes.append(best)
        number, before = (number + 1) % HOLD_FRAMES, best
    return codes, (number, before)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(0, 100),
    size=st.integers(2, 6),
    threshold=st.sampled_from([0.0, 0.3, 1.0, 1e9]),
    past=st.tuples(st.integers(0, HOLD_FRAMES - 1), st.integers(0, 1)),
    seed=st.integers(0, 10_000),
)
def test_a_held_code_is_kept_until_another_is_better_by_the_threshold(batch, frames, size, threshold, past, seed):
    scores = torch.randn(batch, frames, size, generator=torch.Generator().manual_seed(seed))
    best = first_argmax(scores.flatten(0, 1)).view(batch, frames)
    codes, next_past = hold_codes(scores, best, threshold, torch.tensor([past] * batch, dtype=torch.float32))
    for row in range(batch):
        expected, expected_past = held_one_by_one(scores[row], threshold, *past)
        assert codes[row].tolist() == expected
        assert tuple(next_past[row].tolist()) == expected_past


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 90), max_size=5),
    semantic_dim=st.sampled_from([0, 3]),
    hold=st.sampled_from([1, 2_000, 2**24]),
    seed=st.integers(0, 10_000),
)
def test_held_codes_of_pieces_are_those_of_the_whole(cuts, semantic_dim, hold, seed):
    quantizer = ResidualQuantizer(3, 32, 8, semantic_dim, hold)
    latent = latents(2, 90, 8, seed)
    whole = quantizer.encode(latent, 3)
    state, parts, ends = quantizer.initial_state(2), [], sorted({0, 90, *cuts})
    for start, stop in itertools.pairwise(ends):
        codes, state = quantizer.encode_frames(latent[:, start:stop], 3, state)
        parts.append(codes)
    assert torch.equal(torch.cat(parts, 2), whole)


def test_a_held_code_changes_only_for_a_vector_that_is_nearer_by_the_hold():
    nearest, held = make(num_codebooks=1), ResidualQuantizer(1, 32, 8, 0, 2_000)
    hold = 2_000 * float(nearest.codebooks.abs().max() / 127) ** 2
    held.codebooks.copy_(nearest.codebooks)
    latent = latents(1, 300, 8)
    codes, free = held.encode(latent, 1)[0, 0], nearest.encode(latent, 1)[0, 0]
    distances = (latent[0, :, None] - held.codebooks[0]).square().sum(2)
    for t in range(1, 300):
        gain = distances[t, codes[t - 1]] - distances[t, free[t]]
        assert codes[t] in (free[t], codes[t - 1])
        if t % HOLD_FRAMES == 0 or gain > hold + 0.2:  # vectors and latents are rounded, which moves the threshold
            assert codes[t] == free[t]
        elif gain < hold - 0.2:
            assert codes[t] == codes[t - 1]
    assert (codes[1:] != codes[:-1]).sum() < (free[1:] != free[:-1]).sum()


@pytest.mark.parametrize("bad", [float("nan"), -1.0, 1e30, float("inf")])
def test_a_hold_state_that_is_out_of_range_counts_as_the_start(bad):
    quantizer = ResidualQuantizer(1, 32, 8, 0, 2_000)
    latent = latents(1, 40, 8)
    codes, _ = quantizer.encode_frames(latent, 1, (torch.full((1, 2), bad),))
    assert torch.equal(codes, quantizer.encode(latent, 1))
