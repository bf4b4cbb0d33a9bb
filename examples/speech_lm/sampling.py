"""Choice of the next id from the scores of a model."""

import torch
from torch import Tensor

from speechtok.lm import AudioVocabulary


def sample(scores: Tensor, temperature: float) -> Tensor:
    """Choose one of ``(N,)`` scores: the highest if the temperature is 0, else by sampling."""
    return torch.multinomial(torch.softmax(scores / temperature, 0), 1)[0] if temperature else scores.argmax()


def sample_speech(
    scores: Tensor,
    unconditional: Tensor | None,
    symbols: Tensor,
    vocabulary: AudioVocabulary,
    temperature: float,
    guidance: float,
) -> int:
    """Choose one of several ids of speech, with classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598).

    Guidance changes which code comes next. The probability that any code comes next, rather than a run length or the
    end, stays the same.

    Args:
        scores: of the ids, ``(N,)``.
        unconditional: scores without the text, ``(N,)``; ``None`` for no guidance.
        symbols: ids minus that of the first code, ``(N,)``.
        vocabulary: the vocabulary.
        temperature: of sampling.
        guidance: strength of the guidance; 0 for none.

    Returns:
        Index of the chosen id.
    """
    is_code = (symbols >= 0) & (symbols < vocabulary.codebook_size)
    log_probabilities = torch.log_softmax(scores, 0)
    if unconditional is not None and is_code.any():
        conditional = torch.log_softmax(scores[is_code], 0)
        guided = conditional + guidance * (conditional - torch.log_softmax(unconditional[is_code], 0))
        log_probabilities[is_code] = torch.log_softmax(guided, 0) + log_probabilities[is_code].logsumexp(0)
    return int(sample(log_probabilities, temperature))
