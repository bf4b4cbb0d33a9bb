"""Distillation: codebook 0 learns to predict features and phone labels of a teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import resample

from training.teachers import Teacher

_MAX_ITERATIONS = 100


class Distillation(nn.Module):
    """Linear heads on the semantic dimensions, and their losses against a teacher. Losses are means over the batch.

    - ``features_over_time``: negative log-sigmoid of the cosine similarity of each feature along the frames of a crop,
      the D-axis loss of SpeechTokenizer (Zhang et al. 2023, arXiv 2308.16692).
    - ``features_by_frame``: 1 minus the cosine similarity of the feature vectors of each frame (the T-axis).
    - ``labels``: Kullback-Leibler divergence from the teacher's class probabilities in each frame, in nats.

    Args:
        dim: width of the semantic dimensions.
        feature_dim: width of the teacher's features; 0 for none.
        num_labels: number of the teacher's classes; 0 for none.
    """

    def __init__(self, dim: int, feature_dim: int, num_labels: int) -> None:
        super().__init__()
        self.to_features = nn.Linear(dim, feature_dim) if feature_dim else None
        self.to_labels = nn.Linear(dim, num_labels) if num_labels else None

    @torch.no_grad()
    def start(self, semantic: Tensor, features: Tensor | None, logits: Tensor | None) -> None:
        """Fit the heads to the current codebook 0; shapes as in :meth:`forward`.

        The head for features is fitted by least squares, the head for labels by L-BFGS; both on the CPU in float64.
        """
        frames = semantic.flatten(0, 1).double().cpu()
        if self.to_features is not None and features is not None:
            inputs = F.pad(frames, (0, 1), value=1.0)
            gram = inputs.T @ inputs
            gram.diagonal().add_(1e-4 * gram.diagonal().mean())  # ridge: dimensions may be constant or equal
            best = torch.linalg.solve(gram, inputs.T @ features.flatten(0, 1).double().cpu())
            self.to_features.weight.copy_(best[:-1].T)
            self.to_features.bias.copy_(best[-1])
        if self.to_labels is not None and logits is not None:
            target = logits.flatten(0, 1).double().cpu().softmax(-1)
            head = nn.Linear(frames.shape[1], target.shape[1], dtype=torch.float64)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            optimizer = torch.optim.LBFGS(head.parameters(), max_iter=_MAX_ITERATIONS, line_search_fn="strong_wolfe")

            @torch.enable_grad()
            def objective() -> Tensor:
                optimizer.zero_grad()
                # weight decay, scaled to the inputs
                loss = F.cross_entropy(head(frames), target) + 1e-4 * (frames.std(0) * head.weight).square().sum()
                loss.backward()
                return loss

            optimizer.step(objective)
            self.to_labels.load_state_dict(head.state_dict())

    def forward(self, semantic: Tensor, features: Tensor | None, logits: Tensor | None) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            semantic: what codebook 0 represents, ``(B, T, D)``.
            features: features of the teacher, ``(B, T, F)``.
            logits: phone logits of the teacher, ``(B, T, C)``.
        """
        losses = {}
        if self.to_features is not None and features is not None:
            student = self.to_features(semantic)
            over_time = F.cosine_similarity(student, features, dim=1)
            losses["features_over_time"] = -F.logsigmoid(over_time).mean()
            losses["features_by_frame"] = 1 - F.cosine_similarity(student, features, dim=2).mean()
        if self.to_labels is not None and logits is not None:
            target = logits.softmax(-1)
            entropy = torch.special.entr(target).sum(-1)
            predicted = F.log_softmax(self.to_labels(semantic), -1)
            losses["labels"] = (-(target * predicted).sum(-1) - entropy).mean()
        return losses


def consistency_loss(disturbed: Tensor, codes: Tensor, codebook: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of the codes that a disturbed view should have: those of the clean view, in nats.

    The probability of a code falls with the distance to its vector, as in a mixture of Gaussians. Wrong codes far from
    the right one cost most, and frames well inside their cell cost nothing.

    Args:
        disturbed: semantic dimensions of the disturbed view, ``(B, T, D)``.
        codes: of the clean view, ``(B, T)``.
        codebook: vectors of codebook 0, ``(N, D)``.
        scale: squared distance that counts 1 nat.
    """
    # |z - c|² = |z|² - 2 (z·c - |c|² / 2), and |z|² is the same for every c
    products = disturbed.flatten(0, 1) @ codebook.T - codebook.square().sum(1) / 2
    return F.cross_entropy(2 * products / scale, codes.flatten())


def representation_loss(teacher: Teacher, decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """Distance between a teacher's features of decoded and original audio, ``(B, S)`` each.

    The loss is 1 minus the cosine similarity of each frame, averaged over the batch (JHCodec, arXiv 2603.05887, reports
    faster convergence).
    """
    with torch.no_grad():
        expected = teacher(resample(original, sample_rate, teacher.sample_rate))
    found = teacher(resample(decoded, sample_rate, teacher.sample_rate))
    return 1 - F.cosine_similarity(found, expected, dim=2).mean()
