import importlib
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import speechtok
from speechtok import lm

from .cases import INFO

VOCAB = speechtok.AudioVocabulary(INFO, offset=7)


@pytest.mark.parametrize(
    ("instance", "old", "new"),
    [
        *((VOCAB, "begin_id", "bos_id"), (VOCAB, "end_id", "eos_id"), (VOCAB, "slot_id", "placeholder_id")),
        *((VOCAB, "end", "stop_id"), (VOCAB, "facts", "tokenizer_info"), (VOCAB, "at", "with_offset")),
        *((VOCAB, "reader", "parser"), (VOCAB.parser(), "take", "feed")),
        *((lm.Flatten(), "places", "positions"), (lm.Semantic(), "kept", "decodable")),
        *((lm.Semantic(4), "most_in_run", "max_run_length"), (lm.Semantic, "most_codebooks", "max_codebooks")),
        (lm.Parallel(), "steps_late", "codebook_delays"),
    ],
)
def test_former_names_of_members_warn_and_name_the_new_one(instance, old, new):
    with pytest.warns(DeprecationWarning, match=rf"\.{old} is deprecated; use {new}$"):
        value = getattr(instance, old)
    assert value == getattr(instance, new)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        *(("lm", "Line", "InterleavedPattern"), ("lm", "Grid", "ParallelPattern"), ("lm", "cells", "grid_indices")),
        *(("lm", "TokenizerFacts", "TokenizerInfo"), ("lm.patterns", "Line", "InterleavedPattern")),
        *(("lm.vocabulary", "BEGIN", "BOS_TOKEN"), ("lm.vocabulary", "END", "EOS_TOKEN")),
        *(("lm.vocabulary", "PAD", "PAD_TOKEN"), ("lm.vocabulary", "SLOT", "PLACEHOLDER_TOKEN")),
    ],
)
def test_former_names_in_modules_warn_and_name_the_new_one(module, old, new):
    with pytest.warns(DeprecationWarning, match=rf"^speechtok.{module}.{old} is deprecated; use speechtok.lm.{new}$"):
        value = getattr(importlib.import_module(f"speechtok.{module}"), old)
    assert value is getattr(lm, new)


def test_a_pattern_that_overrides_former_names_works_and_warns():
    with pytest.warns(DeprecationWarning, match="is deprecated; use ") as warnings:

        @dataclass(frozen=True)
        class Old(lm.Line):
            name: ClassVar[str] = "old"
            most_codebooks: ClassVar[int | None] = 2

            def places(self, frames, num_codebooks):
                return lm.Flatten().positions(frames, num_codebooks)

    here = {str(warning.message).split()[0] for warning in warnings if warning.filename == __file__}
    assert here == {"speechtok.lm.Line", "Old.most_codebooks", "Old.places"}
    vocab = speechtok.AudioVocabulary(INFO, Old())
    codes = torch.arange(8).view(1, 4, 2)
    assert torch.equal(vocab.to_codes(vocab.to_ids(codes)).codes, codes[:, :2])


def test_other_names_are_still_unknown():
    with pytest.raises(AttributeError, match="has no attribute 'Lines'"):
        _ = lm.Lines
