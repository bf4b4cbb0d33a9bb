"""Validation of a turn detector on scenes of held-out speakers and noises."""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from speechtok.nn.turns import TurnNetwork, probabilities
from training.events.encoding import EncodedScenes
from training.events.trainer import NAMES, latents

_BATCH = 25


@torch.no_grad()
def predict(network: TurnNetwork, codebooks: Tensor, scenes: EncodedScenes) -> np.ndarray:
    """Probabilities ``(N, 3, T)``."""
    found = []
    for first in range(0, len(scenes), _BATCH):
        codes = torch.from_numpy(scenes.codes[first : first + _BATCH])
        latent = latents(codebooks, codes, torch.full((len(codes),), len(codebooks)))
        scores, _ = network(latent, network.initial_state(len(latent)))
        found.append(probabilities(scores).transpose(1, 2).numpy())
    return np.concatenate(found)


def area_under_curve(labels: np.ndarray, found: np.ndarray) -> float:
    """Area under the ROC curve over the frames with a label; NaN unless both labels occur."""
    known = labels >= 0
    labels, found = labels[known], found[known]
    return float(roc_auc_score(labels, found)) if 0 < labels.sum() < len(labels) else float("nan")


def validate(network: TurnNetwork, codebooks: Tensor, scenes: EncodedScenes) -> dict[str, float]:
    """Areas under the ROC curves, and the error rate of speech; the end of a turn is judged in silence only."""
    network.eval()
    found = predict(network, codebooks, scenes)
    network.train()
    labels = scenes.labels.copy()
    speech = labels[:, 0]
    values = {"speech_error": float(((found[:, 0] > 0.5) != (speech > 0)).mean())}
    labels[:, 1][speech > 0] = -1
    areas = {f"{name}_auc": area_under_curve(labels[:, i], found[:, i]) for i, name in enumerate(NAMES)}
    return values | areas
