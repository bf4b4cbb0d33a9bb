"""Giving a text tokenizer and its model the ids of an audio vocabulary."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from speechtok.errors import FingerprintError, VocabularyError
from speechtok.lm.vocabulary import AudioVocabulary
from speechtok.tokenizer import Tokenizer

_KEY = "speechtok"


def extend_tokenizer(text_tokenizer: PreTrainedTokenizerBase, vocabulary: AudioVocabulary) -> AudioVocabulary:
    """Add the vocabulary's ids and marks to a text tokenizer, after all that it has.

    The tokenizer keeps a description of the vocabulary and saves it with its own, so that it can tell later whether it
    has this one. Doing it again changes nothing.

    Args:
        text_tokenizer: any of transformers'; changed in place. Texts are tokenised as before.
        vocabulary: with any offset.

    Returns:
        The vocabulary at the place that it has in ``text_tokenizer``.

    Raises:
        VocabularyError: the tokenizer was extended with another vocabulary, or has some of the tokens already.
    """
    names = vocabulary.tokens
    kept = vocabulary_of(text_tokenizer)
    if kept is not None:
        before = AudioVocabulary.from_dict(kept, vocabulary.pattern if _same_pattern(kept, vocabulary) else None)
        if before != vocabulary.at(before.offset):
            raise VocabularyError(
                f"the text tokenizer has {before!r} already; expected none, or the same as {vocabulary!r}: begin "
                "with the text tokenizer as it was published"
            )
        _check_places(text_tokenizer, before)
        return before
    known = text_tokenizer.get_vocab()
    present = [name for name in names if name in known]
    if present:
        raise VocabularyError(
            f"the text tokenizer has {present[0]} already (id {known[present[0]]}), and does not say of which "
            "vocabulary; expected none of the vocabulary's tokens: begin with the text tokenizer as it was published"
        )
    text_tokenizer.add_tokens([AddedToken(name, normalized=False, special=True) for name in names], special_tokens=True)
    placed = vocabulary.at(text_tokenizer.convert_tokens_to_ids(names[0]))
    _check_places(text_tokenizer, placed)
    taken = sorted(id_ for id_ in known.values() if id_ >= placed.offset)
    if taken:  # a text whose ids have holes
        raise VocabularyError(
            f"the text tokenizer has texts at ids up to {taken[-1]}, and gave the speech the ids from {placed.offset} "
            "on; expected ids without holes: fill them up with unused tokens first"
        )
    text_tokenizer.init_kwargs[_KEY] = placed.to_dict()
    return placed


def vocabulary_of(text_tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """What :meth:`AudioVocabulary.to_dict` gave for the vocabulary of a text tokenizer; ``None`` if it has none."""
    kept: dict[str, Any] | None = text_tokenizer.init_kwargs.get(_KEY)
    return kept


def extend_model(model: PreTrainedModel, vocabulary: AudioVocabulary, tokenizer: Tokenizer) -> None:
    """Give a model rows for the vocabulary's ids, in its input and output embeddings, in place.

    The row of a code is its codebook vector, turned into the model's width, with the mean and the spread of the model's
    own rows: codes that sound alike begin alike. Each codebook is turned in its own way, as the codebooks of a residual
    quantizer share their space. Marks and runs, which have no vectors, are drawn at random with the same mean and
    spread. All of it is the same for the same model and vocabulary.

    Args:
        model: with text embeddings for :attr:`AudioVocabulary.offset` ids at least.
        vocabulary: as :func:`extend_tokenizer` placed it.
        tokenizer: whose codes the vocabulary's are.

    Raises:
        VocabularyError: the model has fewer rows than its text has ids, or the vocabulary is a grid.
        FingerprintError: the vocabulary is another tokenizer's.
    """
    if vocabulary.is_grid:
        raise VocabularyError("a grid has a table for each head; expected a vocabulary with a pattern of one line")
    if tokenizer.fingerprint != vocabulary.fingerprint:
        raise FingerprintError(
            f"the vocabulary is that of tokenizer {vocabulary.fingerprint}, and this is {tokenizer.fingerprint}; "
            "pass the tokenizer that the vocabulary was made with"
        )
    rows = _weight(model.get_input_embeddings()).shape[0]
    if rows < vocabulary.offset:
        raise VocabularyError(
            f"the model has embeddings of {rows} ids, and its text tokenizer {vocabulary.offset} before the speech; "
            "expected as many or more: load the model and the text tokenizer that belong together"
        )
    if rows < vocabulary.end:
        model.resize_token_embeddings(vocabulary.end, mean_resizing=False)
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[no-untyped-call]
    _fill(_weight(inputs), vocabulary, tokenizer)
    if outputs is not None and _weight(outputs) is not _weight(inputs):
        _fill(_weight(outputs), vocabulary, tokenizer)
    bias = getattr(outputs, "bias", None)
    if bias is not None:
        with torch.no_grad():
            bias[vocabulary.offset : vocabulary.end] = bias[: vocabulary.offset].mean() if vocabulary.offset else 0.0


def _weight(embeddings: nn.Module) -> Tensor:
    weight = embeddings.weight
    assert isinstance(weight, Tensor)
    return weight


@torch.no_grad()
def _fill(weight: Tensor, vocabulary: AudioVocabulary, tokenizer: Tokenizer) -> None:
    """``weight``: ``(ids, W)``. Overwrite the rows of the vocabulary."""
    width = weight.shape[1]
    text = weight[: vocabulary.offset].float()
    if len(text) > 1:
        mean, spread = text.mean(0), text.std(0)
    else:  # nothing to be like
        mean, spread = torch.zeros(width, device=weight.device), torch.full((width,), 0.02, device=weight.device)
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(vocabulary.size, width, generator=random, device="cpu")
    first = vocabulary.first_code - vocabulary.offset
    for q in range(vocabulary.num_codebooks):
        codes = torch.zeros(vocabulary.codebook_size, q + 1, 1, dtype=torch.int64, device="cpu")
        codes[:, q, 0] = torch.arange(vocabulary.codebook_size, device="cpu")
        vectors = tokenizer.embed(codes)[:, 0].float().cpu()  # all with the same of the codebooks before
        turned = (vectors - vectors.mean(0)) @ _orthogonal(vectors.shape[1], width, random)
        size = turned.square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        start = first + q * vocabulary.codebook_size
        rows[start : start + vocabulary.codebook_size] = turned / size
    weight[vocabulary.offset : vocabulary.end] = (mean + spread * rows.to(weight.device)).to(weight.dtype)


def _orthogonal(dim: int, width: int, random: torch.Generator) -> Tensor:
    """``(D, W)`` that keeps distances if ``W >= D``, and nearly does otherwise."""
    drawn = torch.randn(max(dim, width), min(dim, width), generator=random, device="cpu")
    basis: Tensor = torch.linalg.qr(drawn)[0]
    return basis.T if width >= dim else basis * math.sqrt(dim / width)


def _same_pattern(kept: dict[str, Any], vocabulary: AudioVocabulary) -> bool:
    return isinstance(kept.get("pattern"), dict) and kept["pattern"].get("name") == vocabulary.pattern.name


def _check_places(text_tokenizer: PreTrainedTokenizerBase, vocabulary: AudioVocabulary) -> None:
    convert: Callable[[list[str]], list[int]] = text_tokenizer.convert_tokens_to_ids
    ids = convert(vocabulary.tokens)
    if ids != list(range(vocabulary.offset, vocabulary.end)):
        wrong = next(name for i, name in enumerate(vocabulary.tokens, vocabulary.offset) if convert([name]) != [i])
        raise VocabularyError(
            f"the text tokenizer has {wrong} at the id {convert([wrong])[0]}; expected the ids {vocabulary.offset} to "
            f"{vocabulary.end - 1} for the tokens of the vocabulary, in order: begin with it as it was "
            "published"
        )
