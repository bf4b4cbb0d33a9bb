import numpy as np
import pytest
import torch

from speechtok.errors import InputError
from training.clusters import assign, fit_clusters


def test_separate_groups_are_found_the_same_every_time():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 2000)
    features = 10 * np.eye(4)[group] + 0.1 * rng.standard_normal((2000, 4))
    centroids = fit_clusters(features, 4, seed=0)
    labels = assign(torch.from_numpy(features).float(), centroids).numpy()
    assert len({(a, b) for a, b in zip(group, labels, strict=True)}) == 4
    assert torch.equal(centroids, fit_clusters(features, 4, seed=0))


def test_the_nearest_centroid_is_chosen():
    features, centroids = torch.randn(50, 3), torch.randn(7, 3)
    assert torch.equal(assign(features, centroids), torch.cdist(features, centroids).argmin(1))


def test_too_little_audio_is_named():
    with pytest.raises(InputError, match="3 frames for 4 clusters"):
        fit_clusters(np.zeros((3, 2)), 4, 0)
