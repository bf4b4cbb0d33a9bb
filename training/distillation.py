"""Distillation: what makes codebook 0 say what a teacher hears."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import resample

from training.teachers import Teacher

_START_ITERATIONS = 100


class Distillation(nn.Module):
    """How far codebook 0 is from a teacher, by name; every loss is a mean over the batch.

    ``features_over_time``: as in SpeechTokenizer (Zhang et al. 2023, arXiv 2308.16692) along its D-axis: each feature
    of the teacher, as it goes over the frames of a crop, against the same of the student.
    ``features_by_frame``: the T-axis: the feature vector of each frame against the student's; 1 less the cosine.
    ``labels``: pseudo-labels: cross-entropy of the classes that the teacher finds likely in a frame, in nats, over
    what would be left if the student knew them all.

    Args:
        dim: width of what codebook 0 says of a frame.
        feature_dim: width of the teacher's features; 0 if there are none.
        num_labels: classes of the teacher; 0 if there are none.
    """

    def __init__(self, dim: int, feature_dim: int, num_labels: int) -> None:
        super().__init__()
        self.to_features = nn.Linear(dim, feature_dim) if feature_dim else None
        self.to_labels = nn.Linear(dim, num_labels) if num_labels else None

    @torch.no_grad()
    def start(self, semantic: Tensor, features: Tensor | None, logits: Tensor | None) -> None:
        """Fit the heads to what is said now; shapes as in :meth:`forward`.

        Features by least squares, labels by L-BFGS on their cross-entropy, both on the CPU, in float64.
        """
        frames = semantic.flatten(0, 1).double().cpu()
        if self.to_features is not None and features is not None:
            given = F.pad(frames, (0, 1), value=1.0)
            inner = given.T @ given
            inner.diagonal().add_(1e-4 * inner.diagonal().mean())  # where a number says nothing, or as another
            best = torch.linalg.solve(inner, given.T @ features.flatten(0, 1).double().cpu())
            self.to_features.weight.copy_(best[:-1].T)
            self.to_features.bias.copy_(best[-1])
        if self.to_labels is not None and logits is not None:
            likely = logits.flatten(0, 1).double().cpu().softmax(-1)
            head = nn.Linear(frames.shape[1], likely.shape[1], dtype=torch.float64)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            optimizer = torch.optim.LBFGS(head.parameters(), max_iter=_START_ITERATIONS, line_search_fn="strong_wolfe")

            @torch.enable_grad()
            def distance() -> Tensor:
                optimizer.zero_grad()
                # a little less sure of what few frames say
                loss = F.cross_entropy(head(frames), likely) + 1e-4 * (frames.std(0) * head.weight).square().sum()
                loss.backward()
                return loss

            optimizer.step(distance)
            self.to_labels.load_state_dict(head.state_dict())

    def forward(self, semantic: Tensor, features: Tensor | None, logits: Tensor | None) -> dict[str, Tensor]:
        """``semantic``: ``(B, T, D)`` of the student; of the teacher features ``(B, T, F)``, logits ``(B, T, C)``."""
        losses = {}
        if self.to_features is not None and features is not None:
            student = self.to_features(semantic)
            over_time = F.cosine_similarity(student, features, dim=1)
            losses["features_over_time"] = -F.logsigmoid(over_time).mean()
            losses["features_by_frame"] = 1 - F.cosine_similarity(student, features, dim=2).mean()
        if self.to_labels is not None and logits is not None:
            likely = logits.softmax(-1)
            entropy = torch.special.entr(likely).sum(-1)
            found = F.log_softmax(self.to_labels(semantic), -1)
            losses["labels"] = (-(likely * found).sum(-1) - entropy).mean()
        return losses


def representation_loss(teacher: Teacher, decoded: Tensor, original: Tensor, sample_rate: int) -> Tensor:
    """How far the teacher's features of the decoded waveform, ``(B, S)``, are from those of the original.

    1 less the cosine of each frame, a mean over the batch (JHCodec, arXiv 2603.05887: it speeds convergence).
    """
    with torch.no_grad():
        expected = teacher(resample(original, sample_rate, teacher.sample_rate))
    found = teacher(resample(decoded, sample_rate, teacher.sample_rate))
    return 1 - F.cosine_similarity(found, expected, dim=2).mean()
