import pytest
import torch

from speechtok.nn.quantizer import ResidualQuantizer
from training.distributed import World
from training.quantizer import TrainingQuantizer


def started(dropout: float = 0.0, semantic_dim: int = 0, **changes) -> tuple[TrainingQuantizer, torch.Tensor]:
    torch.manual_seed(0)
    quantizer = TrainingQuantizer(6, semantic_dim, 4, 32, 100, dropout=dropout, **changes)
    latent = torch.randn(4, 200, 6)
    quantizer.start(latent, seed=0)
    return quantizer, latent


def all_codebooks(rows: int = 4) -> torch.Tensor:
    return torch.full((rows,), 4)


def update(quantizer: TrainingQuantizer, latent: torch.Tensor, step: int) -> torch.Tensor:
    """One update of the codebooks. Returns how often each vector was chosen."""
    used = quantizer.draw_prefixes(0, step, len(latent))
    codes = quantizer(latent, used).codes
    replacements = quantizer.draw_replacements(0, step, used, latent.shape[1])
    return quantizer.update(latent, codes, replacements, World())


def exported(quantizer: TrainingQuantizer) -> ResidualQuantizer:
    inference = ResidualQuantizer(4, 32, 6, quantizer.semantic_dim, quantizer.hold)
    inference.codebooks.copy_(quantizer.codebooks)
    return inference


@pytest.mark.parametrize("hold", [0, 2_000])
@pytest.mark.parametrize("semantic_dim", [0, 2])
def test_inference_gives_the_latents_and_nearly_all_codes_of_training(semantic_dim, hold):
    quantizer, latent = started(semantic_dim=semantic_dim, hold=hold)
    for step in range(5):
        update(quantizer, latent, step)
    quantized, _, _, codes = quantizer(latent, all_codebooks())
    inference = exported(quantizer)
    # inference rounds the vectors, which decides some near ties differently
    assert (inference.encode(latent, 4)[:, 0] == codes[:, 0]).float().mean() > 0.95
    assert torch.allclose(inference.decode(codes), quantized, atol=1e-6)


def test_each_stage_of_kmeans_lowers_the_residual():
    quantizer, latent = started()
    assert quantizer.started
    inference = exported(quantizer)
    codes = inference.encode(latent, 4)
    errors = [float((latent - inference.decode(codes[:, :q])).square().mean()) for q in range(1, 5)]
    assert errors[0] < 0.5 * float(latent.square().mean())
    assert errors == sorted(errors, reverse=True)


def test_the_straight_through_gradient_is_passed_once():
    quantizer, latent = started()
    latent.requires_grad_(True)
    quantizer(latent, all_codebooks()).latent.sum().backward()
    assert torch.allclose(latent.grad, torch.ones_like(latent))


def test_commitment_is_the_mean_squared_residual_of_the_stages():
    quantizer, latent = started()
    inference = exported(quantizer)
    codes = inference.encode(latent, 4)
    stages = [float((latent - inference.decode(codes[:, : q + 1])).square().mean()) for q in range(4)]
    assert float(quantizer(latent, all_codebooks()).commitment) == pytest.approx(sum(stages) / 4, rel=1e-2)


def test_dropout_removes_random_suffixes_of_the_codebooks():
    quantizer, latent = started(dropout=1.0)
    prefixes = set()
    for step in range(10):
        rows = quantizer.draw_prefixes(0, step, 4)
        assert torch.equal(rows, quantizer.draw_prefixes(0, step, 4))
        codes = quantizer(latent, rows).codes
        used = (codes >= 0).all(2).sum(1)
        assert torch.equal((codes >= 0).any(2).sum(1), used)
        assert torch.equal(used, rows)
        prefixes |= set(used.tolist())
    assert prefixes == {1, 2, 3, 4}


def test_a_row_with_a_prefix_gets_the_sum_of_that_prefix():
    quantizer, latent = started(dropout=1.0)
    inference = exported(quantizer)
    quantized, _, _, codes = quantizer(latent, torch.tensor([2, 4, 1, 3]))
    for row in range(len(latent)):
        used = int((codes[row, :, 0] >= 0).sum())
        assert (codes[row, :used] >= 0).all()
        assert (codes[row, used:] == -1).all()
        assert torch.allclose(quantized[row : row + 1], inference.decode(codes[row : row + 1, :used]), atol=1e-5)


def test_codebooks_follow_the_latent():
    quantizer, latent = started(decay=0.5)
    for step in range(30):
        update(quantizer, latent + 10.0, step)
    assert quantizer.codebooks[0].mean() == pytest.approx(10.0, abs=0.5)


def test_dead_vectors_are_replaced():
    quantizer, latent = started(decay=0.8)
    quantizer.codebooks[0, :16] = 1e4
    quantizer.sums[0, :16] = 1e4
    for step in range(40):
        counts = update(quantizer, latent, step)
    assert quantizer.codebooks[0].abs().max() < 100
    assert int((counts[0] > 0).sum()) > 28


def test_dead_vectors_are_replaced_by_frames_of_rows_that_use_the_codebook():
    quantizer, latent = started()
    used = torch.tensor([1, 3, 1, 2])
    replacements = quantizer.draw_replacements(0, 7, used, 200)
    assert torch.equal(replacements, quantizer.draw_replacements(0, 7, used, 200))
    assert [set((row // 200).tolist()) for row in replacements[:3]] == [{0, 1, 2, 3}, {1, 3}, {1}]
    assert (replacements[3] == -1).all()  # no row uses the stage
    codes = quantizer(latent, used).codes
    quantizer.counts[0, 5] = 0.0
    quantizer.update(latent, codes.masked_fill(codes == 5, 6), replacements, World())
    assert torch.equal(quantizer.codebooks[0, 5], latent.flatten(0, 1)[replacements[0, 5]])


def test_every_frame_that_uses_a_codebook_is_counted_once():
    quantizer, latent = started(dropout=1.0)
    used = quantizer.draw_prefixes(0, 3, 4)
    counts = update(quantizer, latent, 3)
    assert counts.sum(1).tolist() == [200 * int((used > stage).sum()) for stage in range(4)]


def test_only_codebook_0_encodes_semantic_dimensions():
    quantizer, latent = started(semantic_dim=2, decay=0.5, dead_threshold=0.5)
    for step in range(10):
        update(quantizer, latent, step)
    assert not quantizer.codebooks[1:, :, :2].any()
    quantized = quantizer(latent, all_codebooks())
    code = quantized.codes[:, 0]
    distances = (latent[:, :, None, :2] - quantizer.codebooks[0, :, :2]).square().sum(-1)
    chosen = distances.gather(-1, code[..., None])[..., 0]
    assert torch.allclose(chosen, distances.amin(-1), atol=1e-5)
    assert torch.allclose(quantized.semantic, quantizer.codebooks[0, code, :2], atol=1e-6)


def test_other_dimensions_of_a_semantic_vector_are_the_mean_of_its_frames():
    quantizer, latent = started(semantic_dim=2)
    code = quantizer(latent, all_codebooks()).codes[:, 0]
    for index in code.unique():
        assert torch.allclose(quantizer.codebooks[0, index, 2:], latent[code == index][:, 2:].mean(0), atol=1e-4)


def test_reconstruction_and_distillation_have_gradients_to_their_own_dimensions_only():
    quantizer, latent = started(semantic_dim=2)
    latent.requires_grad_(True)
    quantized = quantizer(latent, all_codebooks())
    (reconstruction,) = torch.autograd.grad(quantized.latent.sum(), latent, retain_graph=True)
    (distillation,) = torch.autograd.grad(quantized.semantic.sum(), latent)
    assert torch.equal(reconstruction, torch.ones_like(reconstruction) * (torch.arange(6) >= 2))
    assert torch.equal(distillation, torch.ones_like(distillation) * (torch.arange(6) < 2))


def test_without_semantic_dimensions_the_semantic_output_is_codebook_0():
    quantizer, latent = started()
    latent.requires_grad_(True)
    quantized = quantizer(latent, all_codebooks())
    assert torch.allclose(quantized.semantic, quantizer.codebooks[0, quantized.codes[:, 0]], atol=1e-6)
    (distillation,) = torch.autograd.grad(quantized.semantic.sum(), latent)
    assert torch.equal(distillation, torch.ones_like(distillation))
