"""A small language model of codes, of one size and one budget for all tokenizers.

A GRU reads the frames; each codebook is predicted from its state and the codes of the codebooks before in the same
frame. All models see the same seconds of speech in as many steps and have states of one width, so fewer bits per second
of speech mean that the codes are easier to model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

WIDTH = 192
"""Width of embeddings and state."""


@dataclass(frozen=True)
class Budget:
    """What every model may use.

    Attributes:
        steps: training steps.
        batch_size: crops in a step.
        crop_seconds: duration of a crop.
        learning_rate: largest one; it rises for 5 % of the steps and falls to 0 as a cosine.
    """

    steps: int = 400
    batch_size: int = 8
    crop_seconds: float = 4.0
    learning_rate: float = 3e-3


class CodeModel(nn.Module):
    """Predicts codes ``(B, Q, T)`` frame by frame and codebook by codebook."""

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.size = codebook_size
        self.past = nn.Embedding(num_codebooks * codebook_size + 1, WIDTH)  # the last one starts a sequence
        self.present = nn.Embedding(num_codebooks * codebook_size, WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.heads = nn.Parameter(torch.randn(num_codebooks, codebook_size, WIDTH) * WIDTH**-0.5)
        self.register_buffer("offsets", torch.arange(num_codebooks)[:, None] * codebook_size, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Negative log-likelihoods in nats of codes ``(B, Q, T)``, of the same shape."""
        numbers = codes + self.offsets
        frames = self.past(numbers).sum(1)
        start = self.past.weight[-1].expand(len(codes), 1, -1)
        state, _ = self.gru(torch.cat([start, frames[:, :-1]], 1))  # (B, T, D)
        present = self.present(numbers)
        lower = torch.cumsum(present, 1) - present  # the codebooks before, (B, Q, T, D)
        logits = torch.einsum("bqtd,qnd->bqtn", torch.tanh(state[:, None] + lower), self.heads)
        losses: Tensor = F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="none")
        return losses.view(codes.shape)


def train_model(
    grids: Sequence[np.ndarray], codebook_size: int, frame_rate: float, budget: Budget, seed: int = 0
) -> CodeModel:
    """Train a model.

    Args:
        grids: codes of each utterance, ``(Q, T)``.
        codebook_size: entries ``N``.
        frame_rate: frames a second.
        budget: what the model may use.
        seed: of weights and crops.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CodeModel(len(grids[0]), codebook_size)
    optimizer = torch.optim.AdamW(model.parameters(), budget.learning_rate, (0.9, 0.98), weight_decay=0.01)
    rise = max(1, budget.steps // 20)

    def rate(step: int) -> float:
        progress = min(1.0, (step - rise) / max(1, budget.steps - rise))
        return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * progress))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    # crops of the same seconds of speech for every tokenizer: utterances are cut and joined in one random order
    joined = np.concatenate([grids[index] for index in rng.permutation(len(grids))], 1)
    length = max(2, round(budget.crop_seconds * frame_rate))
    for _ in tqdm(range(budget.steps), desc="language model", unit="step"):
        starts = (rng.random(budget.batch_size) * max(1, joined.shape[1] - length)).astype(int)
        batch = torch.from_numpy(np.stack([joined[:, s : s + length] for s in starts])).long()
        loss = model(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def bits_of(model: CodeModel, grid: np.ndarray) -> float:
    """Bits that a model needs for codes ``(Q, T)``."""
    if not grid.shape[1]:
        return 0.0
    return float(model(torch.from_numpy(grid)[None].long()).double().sum()) / math.log(2)


def bits_per_second(model: CodeModel, grids: Sequence[np.ndarray], seconds: float) -> float:
    """Bits per second of speech, for codes ``(Q, T)`` of utterances with this total duration."""
    return math.fsum(bits_of(model, grid) for grid in grids) / seconds


def prefers_words(
    model: CodeModel,
    pairs: Sequence[tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]],
    bits: Callable[[CodeModel, np.ndarray], float] = bits_of,
) -> float:
    """Share of pairs whose two words need fewer bits than the two non-words made of their halves.

    Ties count half; NaN without pairs.

    Args:
        model: the model.
        pairs: codes ``(Q, T)`` of two words, and of two non-words.
        bits: bits of one of them.
    """
    wins = []
    for words, others in pairs:
        gap = sum(bits(model, grid) for grid in words) - sum(bits(model, grid) for grid in others)
        wins.append(1.0 if gap < 0 else 0.5 if gap == 0 else 0.0)
    return float(np.mean(wins)) if wins else math.nan
