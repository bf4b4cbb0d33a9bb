"""What is measured of the codes of one codec."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.codecs.interface import Codec, encode
from benchmarks.tokens.codes import Coded, encode_all
from benchmarks.tokens.entropy import code_lengths
from benchmarks.tokens.language_model import Budget, bits_per_second, prefers_words, train_model
from benchmarks.tokens.robustness import CONDITIONS, mean_edit_distances
from benchmarks.tokens.words import cut_pair, english_pronunciations, find_pairs
from speechtok.resampling import resample
from training.manifest import Utterance

VERSION = 1
"""Of the measures; kept results of another version are measured again."""

Row = dict[str, Any]
"""What was measured of one codec, as JSON values."""


def robustness(codec: Codec, utterances: Sequence[Utterance], name: str) -> Row:
    """Unit edit distances under all of :data:`CONDITIONS`; ``name`` is for the progress bar."""
    clean = encode_all(codec, utterances, name, None)
    usable = [u for u in utterances if u.id not in clean.failures]
    found = {}
    for condition in CONDITIONS:
        changed = encode_all(codec, usable, name, None, condition)
        before = [g for g, u in zip(clean.grids, usable, strict=True) if u.id not in changed.failures]
        distances = mean_edit_distances(before, changed.grids)
        found[condition] = {"codebook_0": float(distances[0]), "all": float(distances.mean())}
    return {"edit_distance": found, "edit_distance_utterances": len(usable)}


def nominal_bits(codec: Codec, coded: Coded) -> float:
    """Bits of all codes at log2(N) bits a code."""
    return math.log2(codec.codebook_size) * sum(grid.size for grid in coded.grids)


def entropy(codec: Codec, coded: Coded, learned: Coded) -> Row:
    """Bits per second after entropy coding by models that have seen ``learned``."""
    lengths = code_lengths(coded.grids, codec.codebook_size, learned.grids)
    pair = {"order_0": lengths.order_0, "contexts": lengths.contexts}
    return {f"{name}_bits": float(bits.sum() / coded.seconds) for name, bits in pair.items()}


def language_model(codec: Codec, coded: Coded, learned: Coded, test: Sequence[Utterance], budget: Budget) -> Row:
    """Bits per second of a small language model trained on ``learned``, and how often it prefers words of ``test``."""
    frame_rate = sum(grid.shape[1] for grid in learned.grids) / learned.seconds
    model = train_model(learned.grids, codec.codebook_size, frame_rate, budget)
    pairs = []
    english = [u for u in test if u.phones and (u.lang or "en").startswith("en")]
    for pair in find_pairs(english, english_pronunciations()) if english else ():
        cut = cut_pair(pair)
        if cut:
            audio, rate = cut
            a, b, c, d = (encode(codec, resample(torch.from_numpy(x)[None], rate, codec.sample_rate)[0]) for x in audio)
            pairs.append(((a, b), (c, d)))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "model_bits": bits_per_second(model, coded.grids, coded.seconds),
        "words": prefers_words(model, pairs),
        "word_pairs": len(pairs),
    }
