import math

import pytest
import torch

from speechtok.metrics import stoi
from tests.conftest import make_speech
from training.losses import IntelligibilityLoss, LoudnessLoss, LowPass, ReconstructionLoss, mel_filters


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1


def test_losses_of_a_perfect_copy_are_zero(noise):
    terms = {name: float(value) for name, value in ReconstructionLoss(16_000)(noise, noise).items()}
    assert terms.pop("intelligibility") == pytest.approx(0, abs=1e-4)
    assert terms == {"waveform": 0.0, "spectrum": 0.0, "mel": 0.0, "loudness": 0.0}


def test_mel_distance_of_a_gain_is_its_logarithm(noise):
    # halving the amplitude lowers every log power by log 4; the loss halves power to amplitude
    assert float(ReconstructionLoss(16_000)(noise / 2, noise)["mel"]) == pytest.approx(math.log(2), rel=0.02)


def test_waveform_distance_of_silence_is_one(noise):
    assert float(ReconstructionLoss(16_000)(torch.zeros_like(noise), noise)["waveform"]) == pytest.approx(1, rel=0.02)


def test_only_the_spectrum_and_waveform_losses_detect_a_change_of_sign(noise):
    terms = ReconstructionLoss(16_000)(-noise, noise)
    assert float(terms["mel"]) == pytest.approx(0, abs=1e-6)
    assert float(terms["spectrum"]) > 0.5
    assert float(terms["waveform"]) > 1.9


def test_silence_against_silence_has_finite_gradients():
    x = torch.zeros(1, 4000, requires_grad=True)
    sum(ReconstructionLoss(16_000)(x, torch.zeros(1, 4000)).values()).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("sample_rate", [16_000, 24_000, 44_100])
def test_mel_filters_cover_every_band_with_triangles(sample_rate):
    filters = mel_filters(sample_rate, 1024, 80)
    assert filters.shape == (513, 80)
    assert (filters >= 0).all()
    assert filters.max() <= 1
    assert (filters.argmax(0).diff() >= 0).all()
    inner = filters[60:480].sum(1)  # neighbouring triangles add up to one
    assert torch.allclose(inner, torch.ones_like(inner), atol=1e-4)


class TestLoudness:
    loss = LoudnessLoss(16_000)

    def speech(self, level: float = 1.0) -> torch.Tensor:
        return level * torch.from_numpy(make_speech(1.0))[None]

    def hiss(self, level: float) -> torch.Tensor:
        return level * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(1))

    def test_it_grows_with_noise_at_any_level(self):
        for gain in (0.3, 1.0):
            x = self.speech(gain)
            costs = [float(self.loss(x + gain * self.hiss(noise), x)) for noise in (0.0, 0.003, 0.01, 0.03)]
            assert costs == sorted(costs)
            assert costs[0] == pytest.approx(0, abs=1e-6)
            assert costs[-1] > 5 * costs[1] > 0
        quiet = self.speech(0.3)
        assert float(self.loss(quiet + self.hiss(3e-3), quiet)) == pytest.approx(
            float(self.loss(self.speech() + self.hiss(1e-2), self.speech())), rel=1e-3
        )

    def test_inaudible_differences_cost_nothing(self):
        x = self.speech()
        assert float(self.loss(x + self.hiss(1e-6), x)) == pytest.approx(0, abs=1e-4)
        low = torch.sin(2 * math.pi * 20 * torch.arange(16_000) / 16_000)
        assert float(self.loss(x + 1e-3 * low, x)) < 0.01

    def test_added_sound_costs_more_than_lost_sound(self):
        x = self.speech()
        noisy = x + self.hiss(0.03)
        assert float(self.loss(noisy, x)) > 1.5 * float(self.loss(x, noisy))

    def test_silence_is_not_raised_to_the_level_of_speech(self):
        nothing = torch.zeros(1, 16_000)
        assert float(self.loss(self.hiss(1e-5), nothing)) < 0.05

    @pytest.mark.parametrize("sample_rate", [8_000, 16_000, 24_000, 44_100])
    def test_every_band_covers_a_frequency_bin(self, sample_rate):
        loss = LoudnessLoss(sample_rate)
        assert (loss.filters.sum(0) > 0).all()
        assert torch.isfinite(loss.threshold).all()


class TestIntelligibility:
    loss = IntelligibilityLoss(16_000)
    speech = torch.from_numpy(make_speech(3.0))[None]

    def with_noise(self, level: float) -> torch.Tensor:
        hiss = torch.randn(self.speech.shape, generator=torch.Generator().manual_seed(1))
        return self.speech + level * hiss

    def test_it_is_close_to_1_minus_stoi(self):
        for level in (0.003, 0.03, 0.1, 0.3):
            decoded = self.with_noise(level)
            expected = 1 - stoi(self.speech[0], decoded[0], 16_000)
            assert float(self.loss(decoded, self.speech)) == pytest.approx(expected, abs=0.03)

    def test_a_gain_costs_nothing(self):
        for gain in (0.2, 3.0):
            assert float(self.loss(gain * self.speech, self.speech)) == pytest.approx(0, abs=2e-3)

    def test_sound_outside_of_the_bands_costs_nothing(self):
        high = torch.sin(2 * math.pi * 6_000 * torch.arange(self.speech.shape[1]) / 16_000)
        assert float(self.loss(self.speech + 0.1 * high, self.speech)) < 0.02

    def test_a_pause_does_not_count(self):
        pause = torch.zeros(1, 32_000)
        decoded = self.with_noise(0.01)
        longer = torch.cat([decoded, pause], 1)
        alone, beside = self.loss(decoded, self.speech), self.loss(longer, torch.cat([self.speech, pause], 1))
        assert float(beside) == pytest.approx(float(alone), abs=0.01)

    def test_a_crop_shorter_than_a_segment_is_compared(self):
        original = torch.randn(1, 3_200, generator=torch.Generator().manual_seed(2))
        hiss = torch.randn(1, 3_200, generator=torch.Generator().manual_seed(3))
        assert 0.1 < float(self.loss(original + hiss, original)) < 1

    @pytest.mark.parametrize("sample_rate", [8_000, 16_000, 24_000, 44_100])
    def test_every_band_covers_a_frequency_bin(self, sample_rate):
        assert (IntelligibilityLoss(sample_rate).bands.sum(0) > 0).all()


@pytest.mark.parametrize("parts", [2, 4])
def test_the_losses_of_a_batch_are_means_over_its_parts(parts):
    """The parts may be accumulated or belong to several processes. Rows have more or less speech, and one has none."""
    speech = [torch.from_numpy(make_speech(2.0, seed)) for seed in range(4)]
    original = torch.stack(
        [x * (torch.arange(len(x)) < len(x) * share) for x, share in zip(speech, (1, 0.6, 0.3, 0), strict=True)]
    )
    decoded = original + 0.02 * torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    loss = ReconstructionLoss(16_000)
    whole = loss(decoded, original)
    results = [
        {k: float(v) for k, v in loss(*pair).items()}
        for pair in zip(decoded.chunk(parts), original.chunk(parts), strict=True)
    ]
    for name in whole.keys() - {"waveform"}:  # relative to the loudness of the batch
        assert sum(part[name] for part in results) / parts == pytest.approx(float(whole[name]), rel=1e-5), name


def tone(hertz: float) -> torch.Tensor:
    return 0.1 * torch.sin(2 * math.pi * hertz * torch.arange(16_000) / 16_000).expand(2, -1)


def test_the_low_pass_keeps_what_is_below_and_removes_what_is_above():
    low_pass = LowPass(16_000, 3_000.0)
    assert torch.allclose(low_pass(tone(2_000)), tone(2_000), atol=1e-3)
    assert low_pass(tone(4_000)).abs().max() < 1e-3
    assert low_pass(tone(3_000)).abs().max() == pytest.approx(0.05, abs=2e-3)


def test_above_its_limit_phase_does_not_count(noise):
    original = noise + tone(5_000)
    decoded = noise - tone(5_000)
    limited, full = (
        ReconstructionLoss(16_000, 3_000.0)(decoded, original),
        ReconstructionLoss(16_000)(decoded, original),
    )
    assert float(limited["waveform"]) < 0.01 * float(full["waveform"])
    assert float(limited["spectrum"]) < 0.01 * float(full["spectrum"])
    assert float(limited["mel"]) == float(full["mel"])
