import pytest
import torch
from torch import nn

from training.distillation import Distillation, consistency_loss, representation_loss
from training.teachers import load_teacher


def make_identity(layer: nn.Linear) -> None:
    """Make the layer the identity."""
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)


def test_equal_student_and_teacher_have_the_lowest_losses():
    torch.manual_seed(0)
    distillation = Distillation(5, 5, 5)
    make_identity(distillation.to_features)
    make_identity(distillation.to_labels)
    features, logits = torch.randn(2, 2, 30, 5).unbind()
    equal = distillation(features, 3.0 * features, None)
    assert float(equal["features_by_frame"]) == pytest.approx(0.0, abs=1e-6)
    assert float(equal["features_over_time"]) == pytest.approx(-float(torch.tensor(1.0).sigmoid().log()), abs=1e-6)
    assert float(distillation(logits, None, logits)["labels"]) == pytest.approx(0.0, abs=1e-5)
    for other in (-features, torch.randn(2, 30, 5)):
        different = distillation(other, features, logits)
        assert different["features_by_frame"] > 0.5
        assert different["features_over_time"] > equal["features_over_time"] + 0.1
        assert different["labels"] > 0.1


def test_the_d_axis_loss_runs_along_time_and_the_t_axis_loss_along_features():
    distillation = Distillation(3, 3, 0)
    make_identity(distillation.to_features)
    teacher = torch.randn(1, 20, 3)
    # a scale for each feature does not change the D-axis loss; a scale for each frame does not change the T-axis loss
    by_feature = distillation(teacher * torch.tensor([0.1, 1.0, 10.0]), teacher, None)
    by_frame = distillation(teacher * torch.linspace(0.1, 5, 20)[:, None], teacher, None)
    assert float(by_feature["features_over_time"]) == pytest.approx(0.3133, abs=1e-3)
    assert float(by_frame["features_by_frame"]) == pytest.approx(0.0, abs=1e-5)
    assert by_feature["features_by_frame"] > 0.01
    assert by_frame["features_over_time"] > 0.314


@torch.no_grad()
def test_heads_are_fitted_to_the_semantic_dimensions():
    torch.manual_seed(0)
    said = torch.randn(2, 200, 4)
    said[..., 3] = 1.0  # a constant dimension
    features, logits = said @ torch.randn(4, 6) + 2.0, 3 * said @ torch.randn(4, 5) - 1.0
    distillation = Distillation(4, 6, 5)
    random = distillation(said, features, logits)
    distillation.start(said, features, logits)
    assert torch.allclose(distillation.to_features(said), features, atol=0.02)
    assert float(distillation(said, features, logits)["labels"]) < 0.01 < 0.1 * float(random["labels"])
    assert all(parameter.grad is None for parameter in distillation.parameters())
    noisy = features + torch.randn_like(features)
    distillation.start(said, noisy, None)
    assert not (distillation.to_features(said) - noisy).mean((0, 1)).abs().gt(1e-3).any()


def test_without_a_teacher_there_are_no_heads_and_no_losses():
    distillation = Distillation(5, 0, 0)
    assert distillation(torch.randn(2, 30, 5), None, None) == {}
    assert not list(distillation.parameters())


def test_the_representation_loss_has_gradients_to_decoded_audio_only(speech):
    teacher = load_teacher("mfcc")
    original = torch.from_numpy(speech(0.5))[None]
    decoded = (original + 0.05 * torch.randn_like(original)).requires_grad_(True)
    loss = representation_loss(teacher, decoded, original, 16_000)
    loss.backward()
    assert 0 < float(loss) < 2
    assert decoded.grad.abs().sum() > 0
    assert float(representation_loss(teacher, original, original, 16_000)) == pytest.approx(0.0, abs=1e-5)
    assert 0 <= float(representation_loss(teacher, original, original.flip(1), 24_000)) < 2  # resampled to its rate


def test_consistency_is_lost_with_the_distance_from_the_clean_codes():
    codebook = 4 * torch.eye(5)
    codes = torch.tensor([[0, 3, 4]])
    scale = torch.tensor(2.0)
    losses = [
        float(
            consistency_loss(
                codebook[codes] + shift * (codebook[[[1, 2, 0]]] - codebook[codes]), codes, codebook, scale
            )
        )
        for shift in (0.0, 0.25, 0.5, 1.0)
    ]
    assert losses[0] < 1e-5
    assert losses == sorted(losses)
    assert losses[2] == pytest.approx(0.6931, abs=1e-2)  # halfway between two vectors: one bit
    blurred = consistency_loss(codebook[codes], codes, codebook, torch.tensor(1e6))
    assert float(blurred) == pytest.approx(1.6094, abs=1e-3)  # any of five


def test_consistency_moves_disturbed_frames_to_the_vectors_of_the_clean_codes():
    torch.manual_seed(0)
    codebook, codes = torch.randn(16, 4), torch.arange(16)[None]
    frames = torch.randn(1, 16, 4, requires_grad=True)
    optimizer = torch.optim.Adam([frames], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        consistency_loss(frames, codes, codebook, torch.tensor(1.0)).backward()
        optimizer.step()
    assert torch.equal(torch.cdist(frames[0], codebook).argmin(1), codes[0])
