import pytest
import torch

from training.discriminators import (
    Discriminators,
    PeriodDiscriminator,
    SpectrumDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)


@pytest.mark.parametrize("samples", [1600, 1601, 3999])
@pytest.mark.parametrize(
    "discriminator", [PeriodDiscriminator(3, 8), PeriodDiscriminator(11, 8), SpectrumDiscriminator(256, 4)]
)
def test_discriminators_score_waveforms_of_any_length_row_by_row(discriminator, samples):
    torch.manual_seed(0)
    waveform = torch.randn(3, samples) * 0.1
    score, features = discriminator(waveform)
    assert len(score) == 3
    assert len(features) == 4
    alone, _ = discriminator(waveform[1:2])
    assert torch.allclose(alone[0], score[1], atol=1e-5)


def test_a_period_discriminator_convolves_over_samples_a_period_apart():
    discriminator = PeriodDiscriminator(4, 8)
    waveform = torch.randn(1, 400, requires_grad=True)
    score, _ = discriminator(waveform)
    (gradient,) = torch.autograd.grad(score[..., 1].sum(), waveform)
    touched = gradient[0].abs() > 0
    assert touched[1::4].any()
    assert not touched[0::4].any()
    assert not touched[2::4].any()


def test_the_hinge_loss_is_0_if_originals_score_above_1_and_decoded_audio_below_minus_1():
    high, low = [(torch.full((2, 3), 1.5), [])], [(torch.full((2, 3), -1.5), [])]
    assert float(discriminator_loss(high, low)) == 0.0
    assert float(discriminator_loss(low, high)) == 5.0
    assert float(adversarial_loss(high)) == -1.5
    assert float(adversarial_loss(low)) == 1.5


def test_equal_audio_has_equal_features_and_originals_get_no_gradient():
    torch.manual_seed(0)
    discriminators = Discriminators((2, 3), (128,), 8, 4)
    original = torch.randn(2, 1600, requires_grad=True)
    decoded = torch.randn(2, 1600, requires_grad=True)
    assert float(feature_matching_loss(discriminators(original), discriminators(original))) == 0.0
    feature_matching_loss(discriminators(original), discriminators(decoded)).backward()
    assert original.grad is None or not original.grad.any()
    assert decoded.grad.any()


def test_the_losses_of_a_batch_are_means_over_its_parts():
    torch.manual_seed(0)
    discriminators = Discriminators((2, 3), (128,), 8, 4)
    original, decoded = torch.randn(2, 4, 1600).unbind()
    levels = torch.tensor([0.3, 0.1, 0.03, 0.0])[:, None]
    original, decoded = original * levels, decoded * levels.flip(0)

    def losses(rows: slice) -> torch.Tensor:
        real, fake = discriminators(original[rows]), discriminators(decoded[rows])
        return torch.stack([discriminator_loss(real, fake), adversarial_loss(fake), feature_matching_loss(real, fake)])

    parts = torch.stack([losses(slice(row, row + 1)) for row in range(4)])
    assert torch.allclose(parts.mean(0), losses(slice(None)), rtol=1e-4)
