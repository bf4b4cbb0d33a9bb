"""k-means: the targets of masked prediction, and the discrete units that teachers are compared by."""

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import InputError


def fit_clusters(features: np.ndarray, clusters: int, seed: int) -> Tensor:
    """Centroids of ``(frames, D)`` by mini-batch k-means, ``(clusters, D)``.

    Raises:
        InputError: there are fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    if len(features) < clusters:
        raise InputError(f"{len(features)} frames for {clusters} clusters; expected at least as many: use more audio")
    kmeans = MiniBatchKMeans(
        clusters, batch_size=10_000, n_init=1, max_no_improvement=50, compute_labels=False, random_state=seed
    )
    kmeans.fit(features.astype(np.float32))
    return torch.from_numpy(kmeans.cluster_centers_)


def assign(features: Tensor, centroids: Tensor) -> Tensor:
    """Nearest centroid of each of ``(frames, D)``, int64 ``(frames,)``."""
    return torch.addmm(centroids.square().sum(1), features, centroids.T, alpha=-2).argmin(1)
