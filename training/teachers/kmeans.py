"""k-means: targets of masked prediction, and discrete units that benchmarks compare."""

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import InputError


def fit_kmeans(features: np.ndarray, clusters: int, seed: int) -> Tensor:
    """Fit k-means on mini-batches (Sculley 2010).

    Args:
        features: ``(T, D)``.
        clusters: number of clusters ``N``.
        seed: of the initialization and the mini-batches.

    Returns:
        Centroids, float32 ``(N, D)``.

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


def assign_clusters(features: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid of each frame.

    Args:
        features: ``(T, D)``.
        centroids: ``(N, D)``.

    Returns:
        Int64 ``(T,)``.
    """
    return torch.addmm(centroids.square().sum(1), features, centroids.T, alpha=-2).argmin(1)
