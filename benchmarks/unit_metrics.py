"""What sequences of labels are like as a language: ABX, speaker probe, tokens a phone, language model perplexity.

All of it looks at labels alone, one a frame, so that codes of any tokenizer and clusters of any features compare.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechtok.errors import InputError


@dataclass(frozen=True)
class Segment:
    """The labels of one spoken phone, ``(T,)``."""

    phone: int
    speaker: str
    labels: np.ndarray


def segments(labels: np.ndarray, phones: np.ndarray, speaker: str, left_out: Sequence[int] = ()) -> list[Segment]:
    """Runs of one phone in an utterance of ``(T,)`` labels and phones; phones below 0 and ``left_out`` are none."""
    edges = np.flatnonzero(np.diff(phones)) + 1
    pieces = zip(np.split(labels, edges), np.split(phones, edges), strict=True)
    return [
        Segment(int(phone[0]), speaker, part)
        for part, phone in pieces
        if len(part) and phone[0] >= 0 and int(phone[0]) not in left_out
    ]


def without_repeats(labels: np.ndarray) -> np.ndarray:
    """``(T,)`` with every run of one label cut to its first."""
    return labels[np.flatnonzero(np.diff(labels, prepend=labels[:1] - 1))]


def tokens_per_phone(found: Sequence[Segment]) -> float:
    """Mean number of runs of one label in a phone; 1 if labels were phones."""
    return float(np.mean([len(without_repeats(segment.labels)) for segment in found])) if found else math.nan


def dtw(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    """Distances between all of ``a`` and all of ``b``: share of the frames that differ along the best alignment in time
    (dynamic time warping; Sakoe and Chiba 1978), 0 to 1, ``(len(a), len(b))``.
    """
    lengths = [np.array([len(x) for x in part]) for part in (a, b)]
    padded = [np.full((len(part), longest.max()), -1) for part, longest in zip((a, b), lengths, strict=True)]
    for rows, part in zip(padded, (a, b), strict=True):
        for row, x in zip(rows, part, strict=True):
            row[: len(x)] = x
    x, y = padded[0][:, None, :], padded[1][None, :, :]
    shape = (len(a), len(b))
    # each cell of a row of the table: cost of the best path to it, and that path's length
    previous: list[tuple[np.ndarray, np.ndarray]] = []
    result = np.full(shape, np.nan)
    for i in range(x.shape[2]):
        current: list[tuple[np.ndarray, np.ndarray]] = []
        for j in range(y.shape[2]):
            before = [*previous[max(0, j - 1) : j + 1], *current[-1:]]  # diagonal first: it wins where costs are equal
            if j == 0 or i == 0:
                before = previous[:1] if j == 0 else current[-1:]
            cost = (x[:, :, i] != y[:, :, j]).astype(np.float32)
            length = np.ones(shape, np.float32)
            if before:
                best, steps = before[0]
                for other, other_steps in before[1:]:
                    better = other < best
                    best, steps = np.where(better, other, best), np.where(better, other_steps, steps)
                cost, length = cost + best, length + steps
            current.append((cost, length))
            ends = (lengths[0][:, None] == i + 1) & (lengths[1][None, :] == j + 1)
            result[ends] = (cost / length)[ends]
        previous = current
    return result


def abx(found: Sequence[Segment], across: bool, per_phone: int = 8, seed: int = 0) -> float:
    """ABX error rate (Schatz et al. 2013), phones in any context: how often X, a phone a, is nearer to B, a phone b,
    than to A, another phone a; 0 to 1, 0.5 by chance. Ties count half.

    Args:
        found: spoken phones.
        across: X is by another speaker than A and B; by the same if not.
        per_phone: tokens of a phone and a speaker that are drawn, at most.
        seed: of the drawing.

    Returns:
        Mean over pairs of phones of the mean over speakers; NaN where no speaker has what it takes.
    """
    rng = np.random.default_rng(seed)
    by_speaker: dict[str, dict[int, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for place in rng.permutation(len(found)):
        segment = found[place]
        tokens = by_speaker[segment.speaker][segment.phone]
        if len(tokens) < per_phone:
            tokens.append(segment.labels)
    speakers = sorted(by_speaker)
    if across and len(speakers) < 2:
        return math.nan
    errors: dict[tuple[int, int], list[float]] = defaultdict(list)
    for index, speaker in enumerate(speakers):
        own = by_speaker[speaker]
        others = by_speaker[speakers[(index + 1) % len(speakers)]] if across else own
        own_tokens, own_phones = _flat(own)
        other_tokens, other_phones = _flat(others)
        distances = dtw(own_tokens, other_tokens)  # (A and B, X)
        if not across:
            np.fill_diagonal(distances, np.nan)  # X is not A
        for a in sorted(set(own) & set(others)):
            from_a = distances[np.ix_(own_phones == a, other_phones == a)]
            if np.isnan(from_a).all():
                continue
            for b in sorted(own):
                if b == a:
                    continue
                from_b = distances[np.ix_(own_phones == b, other_phones == a)]
                gap = from_a[:, None, :] - from_b[None, :, :]
                gap = gap[~np.isnan(gap)]
                errors[a, b].append(float(np.mean((gap > 0) + 0.5 * (gap == 0))))
    return float(np.mean([np.mean(values) for values in errors.values()])) if errors else math.nan


def _flat(tokens: dict[int, list[np.ndarray]]) -> tuple[list[np.ndarray], np.ndarray]:
    pairs = [(phone, labels) for phone in sorted(tokens) for labels in tokens[phone]]
    return [labels for _, labels in pairs], np.array([phone for phone, _ in pairs])


@dataclass(frozen=True)
class Leakage:
    """How well a linear probe tells the speaker.

    Attributes:
        accuracy: share of the utterances, each told by a probe that has not seen it.
        chance: share of the most frequent speaker.
        speakers: that are told apart.
    """

    accuracy: float
    chance: float
    speakers: int


FOLDS = 5


def speaker_leakage(grids: Sequence[np.ndarray], speakers: Sequence[str | None], size: int) -> Leakage | None:
    """Logistic regression from how often an utterance has each label, in each of its codebooks, to its speaker; by
    cross-validation of 5 folds over utterances.

    Args:
        grids: of each utterance, ``(Q, T)``.
        speakers: of each utterance.
        size: number of labels.

    Returns:
        None where there are not two speakers with 5 utterances.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    counts = Counter(speaker for speaker in speakers if speaker is not None)
    kept = [i for i, speaker in enumerate(speakers) if speaker is not None and counts[speaker] >= FOLDS]
    names = sorted({str(speakers[i]) for i in kept})
    if len(names) < 2:
        return None
    shares = [[np.bincount(row, minlength=size) / len(row) for row in grids[i]] for i in kept]
    features = np.sqrt(np.array(shares)).reshape(len(kept), -1)  # the root: rare labels tell as much (Hellinger)
    labels = np.array([names.index(str(speakers[i])) for i in kept])
    probe = LogisticRegression(C=100.0, max_iter=500)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    accuracy = float(np.mean(cross_val_score(probe, features, labels, cv=folds)))
    return Leakage(accuracy, float(np.bincount(labels).max() / len(labels)), len(names))


class Trigrams:
    """Language model of label sequences: trigrams, interpolated with bigrams, single labels and the uniform
    distribution by how many different labels follow a history (Witten and Bell 1991, method C).

    Args:
        sequences: ``(T,)`` each, that it learns from.
        size: number of labels.
    """

    ORDER = 3

    def __init__(self, sequences: Sequence[np.ndarray], size: int) -> None:
        if not any(len(sequence) for sequence in sequences):
            raise InputError(f"{len(sequences)} sequences have no label; expected some to learn from")
        self.size = size
        self.followers: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for sequence in sequences:
            row = [-1] * (self.ORDER - 1) + sequence.tolist()
            for place in range(self.ORDER - 1, len(row)):
                for order in range(self.ORDER):
                    self.followers[tuple(row[place - order : place])][row[place]] += 1
        self.totals = {history: sum(counts.values()) for history, counts in self.followers.items()}

    def probability(self, label: int, history: tuple[int, ...]) -> float:
        """Of a label after those of a history, oldest first; all labels' add up to 1."""
        shorter = self.probability(label, history[1:]) if history else 1 / self.size
        counts = self.followers.get(history)
        if not counts:
            return shorter
        return (counts[label] + len(counts) * shorter) / (self.totals[history] + len(counts))

    def bits(self, sequences: Sequence[np.ndarray]) -> float:
        """That sequences cost, all together."""
        total = 0.0
        for sequence in sequences:
            row = [-1] * (self.ORDER - 1) + sequence.tolist()
            for place in range(self.ORDER - 1, len(row)):
                total -= math.log2(self.probability(row[place], tuple(row[place - self.ORDER + 1 : place])))
        return total
