"""Validation: quality of the exported tokenizer on held-out utterances."""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from speechtok.metrics import pesq_wb, phone_score, stoi
from speechtok.plot import spectrogram_figure
from speechtok.tokenizer import Tokenizer
from training.dataset import Corpus
from training.losses import ReconstructionLoss
from training.manifest import Phone, phones_at
from training.teachers.frames import frame_centres

SCORES: dict[str, tuple[str, Callable[[Tensor, Tensor, int], float]]] = {
    "pesq_wb": ("pesq", pesq_wb),
    "stoi": ("pystoi", stoi),
}
"""Scores of decoded speech: the library that each needs, and the function."""

MAX_ALIGNED = 500
"""Largest number of aligned utterances on which PNMI is measured."""


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes:
        values: by name: losses, :data:`SCORES` whose library is installed, perplexity of each codebook, and PNMI of
            codebook 0 if there are phones.
        pairs: original and decoded waveform of each utterance, ``(S,)`` each.
        codes: codes of all utterances, ``(Q, T)``.
        codebook_size: entries ``N`` of each codebook.
        sample_rate: in hertz.
    """

    values: dict[str, float]
    pairs: list[tuple[Tensor, Tensor]]
    codes: Tensor
    codebook_size: int
    sample_rate: int

    def write_media(self, writer: SummaryWriter, step: int) -> None:
        """Write histograms of the codes, and audio and spectrograms of the first utterances, to TensorBoard."""
        edges = np.linspace(0, self.codebook_size, min(64, self.codebook_size) + 1)
        for q, codes in enumerate(self.codes):
            writer.add_histogram(f"codes/{q}", codes, step, bins=edges)
        for index, (original, decoded) in enumerate(self.pairs[:4]):
            writer.add_audio(f"original/{index}", original, step, self.sample_rate)
            writer.add_audio(f"decoded/{index}", decoded, step, self.sample_rate)
            writer.add_figure(f"spectrogram/{index}", spectrogram_figure(original, decoded, self.sample_rate), step)


@torch.no_grad()
def validate(
    tokenizer: Tokenizer,
    loss: ReconstructionLoss,
    dev: Corpus,
    alignments: Mapping[int, Sequence[Phone]],
    utterances: int,
    delay: int,
) -> Validation:
    """Encode and decode held-out utterances, and compare the result with the original.

    Args:
        tokenizer: the tokenizer to validate.
        loss: reconstruction losses, whose values are reported.
        dev: held-out utterances.
        alignments: phones of aligned utterances of ``dev``, by index, on which PNMI is measured; at most
            :data:`MAX_ALIGNED` of them are used.
        utterances: number of utterances to decode, spread evenly over ``dev``.
        delay: frames by which codebook 0 lags the phones.
    """
    sample_rate = tokenizer.sample_rate
    count = min(utterances, len(dev))
    missing = missing_scores()
    results: dict[str, list[float]] = {}
    pairs, grids = [], []
    for index in range(count):
        original = dev[index * len(dev) // count].to(tokenizer.device)
        tokens = tokenizer.encode(original, sample_rate)
        decoded = tokenizer.decode(tokens)[0]
        # pad utterances that are shorter than the windows of the loss
        padded = (F.pad(x[None], (0, max(0, max(loss.lengths) - len(x)))) for x in (decoded, original))
        losses = {name: float(value) for name, value in loss(*padded).items()}
        pair = original.cpu(), decoded.cpu()
        scores = {name: score(*pair, sample_rate) for name, (_, score) in SCORES.items() if name not in missing}
        for name, value in (losses | scores).items():
            results.setdefault(name, [])
            if not math.isnan(value):  # scores are NaN where there is no speech
                results[name].append(value)
        pairs.append(pair)
        grids.append(tokens.codes[0])
    values = {name: sum(row) / len(row) if row else math.nan for name, row in results.items()}
    codes = torch.cat(grids, 1).cpu()
    counts = torch.stack([torch.bincount(row, minlength=tokenizer.codebook_size) for row in codes])
    values |= {f"perplexity_{q}": value for q, value in enumerate(perplexity(counts))}
    if alignments:
        values["pnmi"] = semantic_score(tokenizer, dev, dict(list(alignments.items())[:MAX_ALIGNED]), delay)
    return Validation(values, pairs, codes, tokenizer.codebook_size, sample_rate)


@torch.no_grad()
def semantic_score(tokenizer: Tokenizer, dev: Corpus, alignments: Mapping[int, Sequence[Phone]], delay: int) -> float:
    """PNMI between codebook 0 and the phones ``delay`` frames before; see :func:`speechtok.metrics.phone_score`."""
    names = sorted({phone.name for phones in alignments.values() for phone in phones})
    codes, labels = [], []
    for index, phones in alignments.items():
        codes.append(tokenizer.encode(dev[index], tokenizer.sample_rate, num_codebooks=1).semantic[0].cpu().numpy())
        start = -delay * tokenizer.hop_length
        centres = frame_centres(len(codes[-1]), tokenizer.hop_length, tokenizer.sample_rate, start)
        labels.append(phones_at(phones, centres.numpy(), names))
    spoken = np.concatenate(labels)
    return phone_score(np.concatenate(codes), spoken).pnmi if (spoken >= 0).any() else math.nan


def missing_scores() -> dict[str, str]:
    """Scores that need a library which is not installed, and its name."""
    return {name: library for name, (library, _) in SCORES.items() if importlib.util.find_spec(library) is None}


def perplexity(counts: Tensor) -> list[float]:
    """Perplexity of each codebook: ``exp`` of the entropy of its usage, given as counts ``(Q, N)``."""
    share = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    return torch.exp(torch.special.entr(share).sum(1)).tolist()
