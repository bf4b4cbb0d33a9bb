import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import speechtok
from speechtok.errors import VocabularyError
from speechtok.lm import Parallel, Semantic

from .cases import INFO, utterances


@settings(max_examples=60)
@given(utterances(), st.data())
def test_parsing_id_by_id_equals_parsing_at_once(case, data):
    vocab, tokens = case
    row = vocab.to_ids(tokens[0])[0][1:].clone()
    if len(row) > 1 and data.draw(st.booleans()):  # an id that is wrong or not
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.integers(0, vocab.stop_id - 1))
        # to_codes skips padding and a start token at the start, a parser takes neither
        assume(not (row[0] == vocab.bos_id).any() and not (row[0] == vocab.pad_id).all())
    row = row[: data.draw(st.integers(0, len(row)))]
    parser, parts = vocab.parser(), []
    for step in row.reshape(-1, vocab.num_codebooks if vocab.is_grid else 1).tolist():
        symbols = [id_ - vocab.first_code for id_ in step]
        if min(symbols) < 0:
            break
        try:
            parts.append(parser.feed(symbols))
        except VocabularyError:
            break
    codes = torch.cat([torch.zeros(vocab.num_codebooks, 0, dtype=torch.int64), *parts], 1)
    rest = parser.finish()
    assert torch.equal(torch.cat([codes[: len(rest)], rest], 1), vocab.to_codes(row, strict=False).codes[0])


@given(utterances(), st.integers(0, 40), st.integers(0, 2000))
def test_a_refused_step_leaves_the_parser_unchanged(case, place, symbol):
    vocab, tokens = case
    steps = vocab.to_ids(tokens[0])[0][1:] - vocab.first_code
    steps = steps.reshape(-1, vocab.num_codebooks if vocab.is_grid else 1)[: None if vocab.is_grid else -1].tolist()
    parser, parts = vocab.parser(), []
    wrong = [symbol % vocab.size] * len(steps[0]) if steps else []
    for index, step in enumerate(steps):
        if index == place:
            probe = vocab.parser()
            for previous in steps[:index]:
                probe.feed(previous)
            try:
                probe.feed(wrong)
            except VocabularyError:
                with pytest.raises(VocabularyError):
                    parser.feed(wrong)
        parts.append(parser.feed(step))
    got = torch.cat([torch.zeros(vocab.num_codebooks, 0, dtype=torch.int64), *parts, parser.finish()], 1)
    assert torch.equal(got, tokens[0].codes[0, : vocab.num_codebooks])


def test_frames_are_emitted_as_soon_as_they_are_complete():
    codes = torch.arange(12).view(1, 4, 3)
    for name, expected in (("flatten", [4, 8, 12]), ("delay", [9, 11, 12]), ("coarse_first", [10, 11, 12])):
        vocab = speechtok.AudioVocabulary(INFO, name)
        parser, complete = vocab.parser(), []
        for count, id_ in enumerate(vocab.to_ids(codes)[0, 1:-1].tolist(), 1):
            complete += [count] * parser.feed([id_ - vocab.first_code]).shape[1]
        assert complete == expected, name


@pytest.mark.parametrize(
    ("pattern", "steps", "message"),
    [
        ("flatten", [[0], [2 * 32]], "a code of codebook 2 follows; expected one of codebook 1"),
        ("coarse_first", [[0], [32], [0]], "a code of codebook 0 follows; expected one of codebook 2"),
        (Semantic(4), [[32]], "a run length of 2 frames follows no code"),
        (Semantic(4), [[0], [33], [32]], "a run length of 2 frames follows no code"),
        (Parallel((0, 1, 1, 1)), [[0, 0, 0, 0]], "codebook 1 has the symbol 0 in step 0"),
    ],
)
def test_a_wrong_step_is_described(pattern, steps, message):
    parser = speechtok.AudioVocabulary(INFO, pattern).parser()
    for step in steps[:-1]:
        parser.feed(step)
    with pytest.raises(VocabularyError, match=message):
        parser.feed(steps[-1])


@pytest.mark.parametrize(("pattern", "num_codebooks"), [("semantic", 1), ("flatten", 4), ("delay", 4), ("parallel", 4)])
@pytest.mark.parametrize("symbol", [-1, -3, -(10**6), 10**6, 2**40])
def test_symbols_that_no_id_has_are_refused(pattern, num_codebooks, symbol):
    vocab = speechtok.AudioVocabulary(INFO, pattern, num_codebooks)
    parser, width = vocab.parser(), num_codebooks if vocab.is_grid else 1
    with pytest.raises(VocabularyError, match="symbol"):
        parser.feed([symbol] * width)
    with pytest.raises(VocabularyError, match=f"the step has {width + 1} symbols; expected {width}"):
        parser.feed([0] * (width + 1))
    assert parser.feed([0] * width) is not None
