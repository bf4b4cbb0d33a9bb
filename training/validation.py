"""How good the exported tokenizer is on utterances that it is not trained on."""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechtok.metrics import pesq_wb, phone_score, stoi
from speechtok.tokenizer import Tokenizer
from training.dataset import Corpus
from training.features import frame_centres
from training.losses import ReconstructionLoss
from training.phones import Phone, phones_at

SCORES: dict[str, tuple[str, Callable[[Tensor, Tensor, int], float]]] = {
    "pesq_wb": ("pesq", pesq_wb),
    "stoi": ("pystoi", stoi),
}
"""Scores of decoded speech, and the library that each needs."""


MOST_ALIGNED = 500
"""Utterances whose phones are compared with codebook 0."""


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        values: losses, perplexity of every codebook, PNMI of codebook 0 if phones are known, and those of ``SCORES``
            whose library is installed, by name.
        pairs: original and decoded waveform, ``(S,)`` each, of every utterance.
        codes: all codes of all utterances, ``(Q, T)``.
    """

    values: dict[str, float]
    pairs: list[tuple[Tensor, Tensor]]
    codes: Tensor


@torch.no_grad()
def validate(
    tokenizer: Tokenizer,
    loss: ReconstructionLoss,
    dev: Corpus,
    alignments: Mapping[int, Sequence[Phone]],
    utterances: int,
    delay: int,
) -> Validation:
    """Encode and decode ``utterances`` of ``dev``, spread evenly over it, and compare.

    Codebook 0 is compared with the phones of up to 500 utterances that have ``alignments``, ``delay`` frames before.
    """
    sample_rate = tokenizer.sample_rate
    count = min(utterances, len(dev))
    missing = missing_scores()
    found: dict[str, list[float]] = {}
    pairs, grids = [], []
    for index in range(count):
        original = dev[index * len(dev) // count].to(tokenizer.device)
        tokens = tokenizer.encode(original, sample_rate)
        decoded = tokenizer.decode(tokens)[0]
        # a recording shorter than the windows is followed by silence
        whole = (F.pad(x[None], (0, max(0, max(loss.lengths) - len(x)))) for x in (decoded, original))
        losses = {name: float(value) for name, value in loss(*whole).items()}
        pair = original.cpu(), decoded.cpu()
        scores = {name: score(*pair, sample_rate) for name, (_, score) in SCORES.items() if name not in missing}
        for name, value in (losses | scores).items():
            found.setdefault(name, [])
            if not math.isnan(value):  # a score has none where there is no speech
                found[name].append(value)
        pairs.append(pair)
        grids.append(tokens.codes[0])
    values = {name: sum(row) / len(row) if row else math.nan for name, row in found.items()}
    codes = torch.cat(grids, 1).cpu()
    counts = torch.stack([torch.bincount(row, minlength=tokenizer.codebook_size) for row in codes])
    values |= {f"perplexity_{stage}": value for stage, value in enumerate(perplexity(counts))}
    if alignments:
        values["pnmi"] = semantic_score(tokenizer, dev, dict(list(alignments.items())[:MOST_ALIGNED]), delay)
    return Validation(values, pairs, codes)


@torch.no_grad()
def semantic_score(tokenizer: Tokenizer, dev: Corpus, alignments: Mapping[int, Sequence[Phone]], delay: int) -> float:
    """PNMI of codebook 0 and the phones ``delay`` frames before; see :func:`speechtok.metrics.phone_score`."""
    names = sorted({phone.name for phones in alignments.values() for phone in phones})
    codes, spoken = [], []
    for index, phones in alignments.items():
        codes.append(tokenizer.encode(dev[index], tokenizer.sample_rate, num_codebooks=1).semantic[0].cpu().numpy())
        start = -delay * tokenizer.hop_length
        centres = frame_centres(len(codes[-1]), tokenizer.hop_length, tokenizer.sample_rate, start)
        spoken.append(phones_at(phones, centres.numpy(), names))
    labels = np.concatenate(spoken)
    return phone_score(np.concatenate(codes), labels).pnmi if (labels >= 0).any() else math.nan


def missing_scores() -> dict[str, str]:
    """Scores whose library is not installed, and the library."""
    return {name: library for name, (library, _) in SCORES.items() if importlib.util.find_spec(library) is None}


def perplexity(counts: Tensor) -> list[float]:
    """``exp`` of the entropy of each codebook's use, from how often each vector was chosen, ``(Q, N)``."""
    share = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    return torch.exp(torch.special.entr(share).sum(1)).tolist()
