import numpy as np
import pytest
import torch

from tests.training.teachers.pretrain.helpers import config_of
from training.dataset import Corpus
from training.teachers.pretrain.augmentation import CropSampler, coloured_noise
from training.teachers.pretrain.frame_labels import FrameLabels


def test_a_batch_depends_on_seed_iteration_and_step_alone(values):
    config = config_of(values)
    rng = np.random.default_rng(0)
    corpus = Corpus((rng.standard_normal(40_000) * 3000).astype(np.int16), np.array([0, 6_000, 40_000]), ())
    labels = FrameLabels(np.zeros(126, np.int16), np.array([0, 19, 126]), 320)

    def waveform(seed: tuple[int, int], step: int) -> torch.Tensor:
        return CropSampler(config, corpus, labels, labels, config.first, seed).batch(step).waveform

    assert torch.equal(waveform((0, 1), 3), waveform((0, 1), 3))
    for other in (waveform((0, 1), 4), waveform((0, 2), 3), waveform((1, 1), 3)):
        assert not torch.equal(waveform((0, 1), 3), other)


def test_labels_follow_the_audio_at_every_speed_and_padding_has_none(values):
    values |= {"speed_low": 0.6, "speed_high": 1.7, "noise_low_db": -90.0, "noise_high_db": -90.0}
    config = config_of(values)
    # the amplitude of a sample tells its frame in the utterance
    frames = 90
    pcm = np.repeat(np.arange(1, frames + 1) * 100, 320).astype(np.int16)
    corpus = Corpus(pcm, np.array([0, len(pcm)]), ())
    labels = FrameLabels(np.arange(frames, dtype=np.int16), np.array([0, frames]), 320)
    crops = CropSampler(config, corpus, labels, labels, config.first, (0, 1))
    for step in range(5):
        batch = crops.batch(step)
        frame = (batch.waveform[:, 160::320] * 32_768 / 100).numpy() - 1
        valid = batch.valid.numpy()
        assert np.abs(frame - batch.clusters.numpy())[valid].max() <= 1.01
        assert (batch.clusters[~batch.valid] == -1).all()
        assert (batch.phones[~batch.valid] == -1).all()
        assert not batch.masked[~batch.valid].any()


def test_crops_with_phones_have_the_share_of_the_config(values):
    values |= {"batch_size": 400, "crop_seconds": 0.2}
    values["second"]["phone_share"] = 0.75
    config = config_of(values)
    corpus = Corpus(np.ones(100_000, np.int16), np.array([0, 10_000, 100_000]), ())
    clusters = FrameLabels(np.array([0] * 32 + [1] * 282, np.int16), np.array([0, 32, 314]), 320)
    phones = FrameLabels(np.array([3] * 63 + [-1] * 563, np.int16), np.array([0, 63, 626]), 160)

    def share(iteration: str) -> float:
        crops = CropSampler(config, corpus, clusters, phones, getattr(config, iteration), (0, 1))
        return float((crops.batch(0).phones >= 0).any(1).float().mean())

    assert 0.68 < share("second") < 0.82
    assert 0.04 < share("first") < 0.16  # without phone_weight, the share of the audio


def test_noise_has_power_one():
    for seed in range(5):
        noise = coloured_noise(np.random.default_rng(seed), 16_000)
        assert np.mean(noise**2) == pytest.approx(1, rel=1e-3)
    assert len(coloured_noise(np.random.default_rng(0), 1)) == 1
