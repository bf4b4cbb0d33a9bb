import pytest
import torch

from benchmarks.metrics.spectral import mel_distance, stft_distance
from benchmarks.metrics.speech import Speech


def test_the_mel_distance_of_half_the_amplitude_is_6_db(clean):
    half = Speech(clean.waveform / 2)
    # exactly 6.02 dB wherever the waveform is above the library's floor
    assert mel_distance(clean, half)[0] == pytest.approx(6.02, abs=0.05)


def test_the_stft_distance_equals_its_definition(clean, noisy):
    total = 0.0
    for size, hop, window in ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200)):
        x, y = (
            torch.stft(z, size, hop, window, torch.hann_window(window), return_complex=True).abs().clamp_min(1e-4)
            for z in (clean.waveform, noisy.waveform)
        )
        total += float((y - x).norm() / x.norm() + (y.log() - x.log()).abs().mean()) / 3
    assert stft_distance(clean, noisy)[0] == pytest.approx(total, rel=1e-3)


def test_kept_spectra_belong_to_their_original():
    torch.manual_seed(0)
    first, second, decoded = (Speech(0.1 * torch.randn(16_000)) for _ in range(3))
    alone = [stft_distance(Speech(x.waveform.clone()), decoded) for x in (first, second)]
    assert [stft_distance(x, decoded) for x in (first, second, first, second)] == alone * 2
    assert alone[0] != alone[1]
