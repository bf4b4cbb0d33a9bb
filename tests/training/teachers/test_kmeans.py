import numpy as np
import pytest
import torch

from speechtok.errors import InputError
from training.teachers.kmeans import assign_clusters, fit_kmeans


def test_separate_groups_are_found_and_equal_seeds_give_equal_centroids():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 2000)
    features = 10 * np.eye(4)[group] + 0.1 * rng.standard_normal((2000, 4))
    centroids = fit_kmeans(features, 4, seed=0)
    labels = assign_clusters(torch.from_numpy(features).float(), centroids).numpy()
    assert len({(a, b) for a, b in zip(group, labels, strict=True)}) == 4
    assert torch.equal(centroids, fit_kmeans(features, 4, seed=0))


def test_the_nearest_centroid_is_chosen():
    features, centroids = torch.randn(50, 3), torch.randn(7, 3)
    assert torch.equal(assign_clusters(features, centroids), torch.cdist(features, centroids).argmin(1))


def test_fewer_frames_than_clusters_are_refused():
    with pytest.raises(InputError, match="3 frames for 4 clusters"):
        fit_kmeans(np.zeros((3, 2)), 4, 0)
