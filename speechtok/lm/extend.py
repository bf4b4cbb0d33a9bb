"""Extend a text tokenizer and its language model with the ids of an audio vocabulary."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from speechtok.errors import InputError, VocabularyError, quoted
from speechtok.lm.vocabulary import AudioVocabulary
from speechtok.tokenizer import Tokenizer

_KEY = "speechtok"
"""Key of the saved vocabulary in ``tokenizer_config.json``."""


def extend_tokenizer(text_tokenizer: PreTrainedTokenizerBase, vocabulary: AudioVocabulary) -> AudioVocabulary:
    """Add the tokens of a vocabulary to a text tokenizer, after all of its own.

    Text is tokenized as before. The text tokenizer saves the vocabulary with its own files. A second call with the same
    vocabulary changes nothing.

    Args:
        text_tokenizer: a tokenizer of transformers; changed in place.
        vocabulary: vocabulary with any offset.

    Returns:
        The vocabulary with the offset that it has in ``text_tokenizer``.

    Raises:
        VocabularyError: the text tokenizer has another vocabulary or some of the tokens already, or the vocabulary
            cannot be mixed with text.
    """
    names = vocabulary.tokens
    saved = vocabulary_of(text_tokenizer)
    if saved is not None:
        present = AudioVocabulary.from_dict(saved, vocabulary.pattern if _same_pattern(saved, vocabulary) else None)
        if not vocabulary.equivalent(present):
            raise VocabularyError(
                f"the text tokenizer has another vocabulary already ({_summary(present)}); expected none, or this one "
                f"({_summary(vocabulary)}): load the text tokenizer as it was published"
            )
        _check_token_ids(text_tokenizer, present)
        return vocabulary.with_offset(present.offset)
    known = text_tokenizer.get_vocab()
    taken = [name for name in names if name in known]
    if taken:
        raise VocabularyError(
            f"the text tokenizer has the token {taken[0]} already (id {known[taken[0]]}), without a saved vocabulary; "
            "expected none of the tokens: load the text tokenizer as it was published"
        )
    text_tokenizer.add_tokens([AddedToken(name, normalized=False, special=True) for name in names], special_tokens=True)
    placed = vocabulary.with_offset(text_tokenizer.convert_tokens_to_ids(names[0]))
    _check_token_ids(text_tokenizer, placed)
    highest = max(known.values(), default=-1)
    if highest >= placed.offset:
        raise VocabularyError(
            f"the text tokenizer has text at id {highest}, and speech from id {placed.offset} on; expected text ids "
            "without gaps: fill the gaps with unused tokens first"
        )
    text_tokenizer.init_kwargs[_KEY] = placed.to_dict()
    return placed


def vocabulary_of(text_tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """Output of :meth:`AudioVocabulary.to_dict` that a text tokenizer was saved with; ``None`` if there is none."""
    saved: dict[str, Any] | None = text_tokenizer.init_kwargs.get(_KEY)
    return saved


def extend_model(model: PreTrainedModel, vocabulary: AudioVocabulary, tokenizer: Tokenizer) -> None:
    """Add rows for a vocabulary to the input and output embeddings of a model, in place.

    The row of a code is its codebook vector, projected to the width of the model by an orthogonal matrix and scaled to
    the mean and standard deviation of the text rows: similar codes start with similar embeddings. Each codebook has a
    matrix of its own, as the codebooks of a residual quantizer share one space. Special tokens and run lengths, which
    have no vectors, get random rows with the same mean and standard deviation. The result is the same on each call.
    Parameters that ZeRO-3 of DeepSpeed has partitioned are gathered first.

    Args:
        model: model with at least :attr:`AudioVocabulary.offset` embeddings.
        vocabulary: output of :func:`extend_tokenizer`.
        tokenizer: speech tokenizer that makes the codes.

    Raises:
        VocabularyError: the model has fewer embeddings than its text has ids, or the vocabulary cannot be mixed with
            text.
        InputError: the model has no values yet, or its parameters are sharded by FSDP.
        FingerprintError: the vocabulary belongs to another speech tokenizer.
    """
    if vocabulary.is_grid:
        raise VocabularyError(
            f"the pattern {vocabulary.pattern.name!r} needs one embedding table per codebook; expected an interleaved "
            "pattern, such as 'flatten' or 'delay'"
        )
    vocabulary.check_tokenizer(tokenizer)
    for embeddings in filter(None, (model.get_input_embeddings(), model.get_output_embeddings())):  # type: ignore[no-untyped-call]
        _check_values(_weight(embeddings))
    num_embeddings = _shape(_weight(model.get_input_embeddings()))[0]
    if num_embeddings < vocabulary.offset:
        raise VocabularyError(
            f"the model has {num_embeddings} embeddings; expected at least {vocabulary.offset}, one for each id of the "
            "text: load the text tokenizer that belongs to the model"
        )
    if num_embeddings < vocabulary.stop_id:
        model.resize_token_embeddings(vocabulary.stop_id, mean_resizing=False)
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[no-untyped-call]
    bias = getattr(outputs, "bias", None)
    tables = [_weight(inputs)]
    if outputs is not None and _weight(outputs) is not _weight(inputs):
        tables.append(_weight(outputs))
    with _gathered([*tables, bias]):
        for table in tables:
            _initialize(table, vocabulary, tokenizer)
        if bias is not None:
            with torch.no_grad():
                bias[vocabulary.offset : vocabulary.stop_id] = (
                    bias[: vocabulary.offset].mean() if vocabulary.offset else 0.0
                )


def _weight(embeddings: nn.Module) -> Tensor:
    weight = embeddings.weight
    assert isinstance(weight, Tensor)
    return weight


def _check_values(weight: Tensor) -> None:
    if weight.is_meta:
        raise InputError(
            "the embeddings of the model have no values (device meta); expected a loaded model: load it without "
            "init_empty_weights and without offloading, and extend it then"
        )
    if hasattr(weight, "full_tensor"):
        raise InputError(
            "the embeddings of the model are sharded (DTensor); expected a whole model: extend it before fully_shard "
            "or tensor parallelism"
        )


def _shape(weight: Tensor) -> tuple[int, ...]:
    """Shape of a parameter, partitioned or not."""
    return tuple(getattr(weight, "ds_shape", weight.shape))


def _gathered(parameters: list[Any]) -> AbstractContextManager[Any]:
    """Context in which parameters that ZeRO-3 has partitioned are whole; changes reach all ranks."""
    partitioned = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not partitioned:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(partitioned, modifier_rank=0)  # type: ignore[no-any-return]


@torch.no_grad()
def _initialize(weight: Tensor, vocabulary: AudioVocabulary, tokenizer: Tokenizer) -> None:
    """Overwrite the rows of the vocabulary in ``weight``, ``(number of ids, width)``."""
    width = weight.shape[1]
    text = weight[: vocabulary.offset].float()
    if len(text) > 1:
        mean, std = text.mean(0), text.std(0)
    else:
        mean, std = torch.zeros(width, device=weight.device), torch.full((width,), 0.02, device=weight.device)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(vocabulary.size, width, generator=generator, device="cpu")
    first = vocabulary.first_code - vocabulary.offset
    for q in range(vocabulary.num_codebooks):
        codes = torch.zeros(vocabulary.codebook_size, q + 1, 1, dtype=torch.int64, device="cpu")
        codes[:, q, 0] = torch.arange(vocabulary.codebook_size, device="cpu")
        vectors = tokenizer.embed(codes)[:, 0].float().cpu()  # the other codebooks add a constant
        projected = (vectors - vectors.mean(0)) @ _orthogonal(vectors.shape[1], width, generator)
        scale = projected.square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        start = first + q * vocabulary.codebook_size
        rows[start : start + vocabulary.codebook_size] = projected / scale
    weight[vocabulary.offset : vocabulary.stop_id] = (mean + std * rows.to(weight.device)).to(weight.dtype)


def _orthogonal(dim: int, width: int, generator: torch.Generator) -> Tensor:
    """Random matrix ``(D, width)`` with orthonormal rows, or with scaled orthonormal columns if ``width < D``."""
    random = torch.randn(max(dim, width), min(dim, width), generator=generator, device="cpu")
    basis: Tensor = torch.linalg.qr(random)[0]
    return basis.T if width >= dim else basis * math.sqrt(dim / width)


def _same_pattern(saved: dict[str, Any], vocabulary: AudioVocabulary) -> bool:
    return isinstance(saved.get("pattern"), dict) and saved["pattern"].get("name") == vocabulary.pattern.name


def _summary(vocabulary: AudioVocabulary) -> str:
    return f"{quoted(vocabulary.pattern)}, {vocabulary.num_codebooks} codebooks, tokenizer {vocabulary.fingerprint:.80}"


def _check_token_ids(text_tokenizer: PreTrainedTokenizerBase, vocabulary: AudioVocabulary) -> None:
    convert: Callable[[list[str]], list[int]] = text_tokenizer.convert_tokens_to_ids
    names = vocabulary.tokens
    for name, id_, expected in zip(names, convert(names), range(vocabulary.offset, vocabulary.stop_id), strict=True):
        if id_ != expected:
            raise VocabularyError(
                f"the text tokenizer has the token {name} at id {id_}; expected {expected}, as the vocabulary has the "
                f"ids {vocabulary.offset} to {vocabulary.stop_id - 1} in order: load the text tokenizer as it was "
                "published"
            )
