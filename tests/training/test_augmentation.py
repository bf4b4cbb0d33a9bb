import json

import numpy as np
import pytest
import soundfile
import torch

from speechtok.errors import AudioError, ConfigError, MissingFileError
from tests.training.helpers import config_of
from training.augmentation import Disturber, limit_band, load_noise, mix, reverberate
from training.config import AugmentationConfig
from training.dataset import Corpus, pack

ALL = {"noise_share": 0.8, "room_share": 0.3, "band_share": 0.3}


@pytest.fixture(scope="module")
def speech() -> Corpus:
    rng = np.random.default_rng(0)
    return Corpus((rng.standard_normal(40_000) * 3_000).astype(np.int16), np.array([0, 9_000, 40_000]), ())


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    t = torch.arange(8_000) / 16_000
    return torch.stack([0.3 * torch.sin(2 * torch.pi * frequency * t) for frequency in (200, 900, 2_000, 1_500)])


def levels(waveform: np.ndarray, low: float, high: float) -> float:
    """Energy between two frequencies."""
    frequencies = np.fft.rfftfreq(len(waveform), 1 / 16_000)
    return float(np.square(np.abs(np.fft.rfft(waveform)))[(frequencies >= low) & (frequencies < high)].sum())


def test_a_disturbed_view_depends_on_seed_step_and_row_alone(speech, crops):
    disturb = Disturber(AugmentationConfig(**ALL), speech, speech, 16_000)
    whole = disturb(crops, 0, 7)
    assert torch.equal(whole, disturb(crops, 0, 7))
    assert torch.equal(whole[2:], disturb(crops[2:], 0, 7, slice(2, 4)))
    assert not torch.equal(whole, disturb(crops, 0, 8))
    assert not torch.equal(whole, disturb(crops, 1, 7))


@pytest.mark.parametrize("share", [*ALL, "all"])
def test_no_view_stays_clean_or_leaves_full_scale(speech, crops, share):
    shares = ALL if share == "all" else {share: 0.01}
    disturb = Disturber(AugmentationConfig(**shares, snr_low_db=-20), speech, None, 16_000)
    for step in range(8):
        disturbed = disturb(3 * crops, 0, step)
        assert disturbed.abs().max() <= 1
        assert ((disturbed - 3 * crops).abs().amax(1) > 1e-3).all()


def test_noise_has_the_asked_ratio_to_speech():
    rng = np.random.default_rng(0)
    speech, noise = rng.standard_normal((2, 4_000)).astype(np.float32)
    for ratio in (-5, 0, 20):
        added = mix(speech, 100 * noise, ratio) - speech
        assert 10 * np.log10(np.square(speech).sum() / np.square(added).sum()) == pytest.approx(ratio, abs=1e-3)
    assert np.isfinite(mix(speech, 0 * noise, 0)).all()
    assert not mix(0 * speech, noise, 0).any()


def test_a_room_adds_sound_after_the_direct_sound_only():
    click = np.zeros(16_000, np.float32)
    click[4_000] = 1
    for seed in range(5):
        heard = reverberate(click, 16_000, np.random.default_rng(seed))
        assert np.abs(heard[:4_000]).max() < 1e-5
        assert heard[4_000] == pytest.approx(1, abs=1e-3)
        tail = np.square(heard[4_001:])
        assert 0.05 < tail.sum() < 2.2  # 12 dB below the direct sound to 3 dB above it
        assert tail[:3_000].sum() > 10 * tail[6_000:].sum()


def test_a_limited_band_keeps_the_band_of_a_telephone():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(16_000).astype(np.float32)
    narrowest = 8_000.0
    for seed in range(10):
        limited = limit_band(noise, 16_000, np.random.default_rng(seed))
        assert levels(limited, 400, 3_100) == pytest.approx(levels(noise, 400, 3_100), rel=1e-4)
        assert levels(limited, 7_500, 8_000) < 1e-4 * levels(noise, 7_500, 8_000)
        narrowest = min(narrowest, next(f for f in range(3_000, 8_000, 100) if levels(limited, f, f + 100) < 1))
    assert narrowest == 3_600  # a telephone's


def test_noise_that_is_held_out_is_not_trained_on(tmp_path):
    tones = {"a-1": 100, "b-5": 200, "a-5": 300}
    rows = []
    for name, value in tones.items():
        soundfile.write(tmp_path / f"{name}.wav", np.full(800, value / 32_768), 16_000, subtype="PCM_16")
        rows.append(json.dumps({"audio": f"{name}.wav", "id": name}))
    manifest = tmp_path / "noise.jsonl"
    manifest.write_text("\n".join(rows))
    config = AugmentationConfig(noise=str(manifest), noise_held_out="*-5", noise_share=1.0)
    noise = load_noise(config, 16_000, tmp_path / "audio")
    assert noise is not None
    assert np.unique(noise.samples).tolist() == [100]
    with pytest.raises(AudioError, match=r"all of whose 3 recordings .* \('\*'\) leaves out"):
        load_noise(AugmentationConfig(noise=str(manifest), noise_held_out="*", noise_share=1.0), 16_000, tmp_path)
    with pytest.raises(MissingFileError):
        load_noise(AugmentationConfig(noise=str(tmp_path / "none.jsonl"), noise_share=1.0), 16_000, tmp_path)
    assert load_noise(AugmentationConfig(noise=str(tmp_path / "none.jsonl")), 16_000, tmp_path) is None  # no views


def test_a_recording_shorter_than_a_crop_is_repeated(crops):
    short = Corpus(np.array([3_000, -3_000], np.int16), np.array([0, 2]), ())
    config = AugmentationConfig(noise_share=1.0, snr_low_db=10, snr_high_db=10)
    disturb = Disturber(config, short, short, 16_000)
    added = [disturb(crops[:1], 0, step)[0] - crops[0] for step in range(12)]
    ratios = [float(10 * torch.log10(crops[0].square().sum() / noise.square().sum())) for noise in added]
    assert ratios == pytest.approx([10] * 12, abs=0.1)


def test_only_the_encoder_stage_has_disturbed_views(tiny_config):
    with pytest.raises(ConfigError, match="expected train_only=encoder"):
        config_of(tiny_config, augmentation={"noise_share": 0.5})
    with pytest.raises(ConfigError, match=r"augmentation\.snr_high_db is -5"):
        AugmentationConfig(snr_high_db=-5.0)


def test_audio_is_packed_like_other_audio(tmp_path, speech_folder):
    noise = load_noise(AugmentationConfig(noise=str(speech_folder), noise_share=1.0), 16_000, tmp_path)
    assert noise is not None
    files = [file for file in speech_folder.glob("*.flac") if file.stem != "broken"]
    assert len(noise) == len(files)
    assert len(noise.skipped) == 1
    assert noise.size == pack(sorted(files), 16_000, tmp_path).size
