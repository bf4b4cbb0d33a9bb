import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import speechtok
from speechtok.errors import FingerprintError, TokensError, VocabularyError
from speechtok.lm import Flatten, TokenizerInfo

from ..conftest import make_tokenizer  # isort: skip
from .cases import INFO, PATTERNS, ReversedFine, tokens_of, utterances

SAVED_BY_VERSION_0_1 = (
    '{"pattern": {"name": "delay", "delays": [0, 2, 2, 2]}, "num_codebooks": 4, "offset": 100, "tokenizer": '
    '{"sample_rate": 16000, "hop_length": 320, "codebook_size": 1024, "num_codebooks": 8, '
    '"fingerprint": "18d457da55bebdd2"}}'
)


@given(utterances())
def test_ids_are_exact_inverses_of_codes(case):
    vocab, tokens = case
    ids = vocab.to_ids(tokens)
    again = vocab.to_codes(ids)
    assert torch.equal(again.codes, tokens.codes[:, : vocab.num_codebooks])
    assert torch.equal(again.lengths, tokens.lengths)
    assert again.fingerprint == INFO.fingerprint


def test_an_empty_batch_has_no_ids():
    for pattern in PATTERNS:
        vocab = speechtok.AudioVocabulary(INFO, pattern)
        heads = (vocab.num_codebooks,) if vocab.is_grid else ()
        assert vocab.to_ids(torch.zeros(0, 4, 5, dtype=torch.int64)).shape == (0, 0, *heads)


def test_tokens_of_another_tokenizer_and_too_few_codebooks_are_refused():
    vocab = speechtok.AudioVocabulary(INFO)
    with pytest.raises(FingerprintError, match="fedcba"):
        vocab.to_ids(tokens_of(torch.zeros(1, 4, 2, dtype=torch.int64), fingerprint="fedcba"))
    with pytest.raises(TokensError, match="num_codebooks=2"):
        vocab.to_ids(torch.zeros(1, 2, 2, dtype=torch.int64))
    with pytest.raises(TokensError, match="0 to 31"):
        vocab.to_ids(torch.full((1, 4, 2), 32))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_vocabulary_is_restored_from_plain_values(pattern):
    vocab = speechtok.AudioVocabulary(replace(INFO, aliases=("old",)), pattern)
    own = pattern if isinstance(pattern, ReversedFine) else None
    for values in (vocab.to_dict(), json.loads(json.dumps(vocab.to_dict()))):
        restored = speechtok.AudioVocabulary.from_dict(values, own)
        assert restored == vocab
        assert hash(restored) == hash(vocab)
        assert restored.tokenizer_info.aliases == ("old",)
        if own:
            with pytest.raises(VocabularyError, match="pass your own pattern"):
                speechtok.AudioVocabulary.from_dict(values)
            with pytest.raises(VocabularyError, match="expected the pattern of the saved vocabulary"):
                speechtok.AudioVocabulary.from_dict(values, Flatten())


def damaged(values, draw):
    """``values`` with one value replaced or removed, at any depth."""
    values = dict(values)
    key = draw(st.sampled_from(sorted(values)))
    if isinstance(values[key], dict) and draw(st.booleans()):
        values[key] = damaged(values[key], draw)
    elif draw(st.booleans()):
        del values[key]
    elif draw(st.booleans()):
        values["y" * 1000] = values.pop(key)
    else:
        numbers = st.sampled_from([-1, 0, 2**30, 2**63, 10**30]) | st.integers() | st.floats()
        scalars = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.just("x" * 1000)
        values[key] = draw(scalars | st.lists(scalars, max_size=5) | st.dictionaries(st.text(max_size=5), scalars))
    return values


@pytest.mark.slow
@given(st.sampled_from([pattern for pattern in PATTERNS if pattern.name != "reversed_fine"]), st.data())
def test_damaged_values_are_a_vocabulary_error_and_nothing_else(pattern, data):
    values = damaged(speechtok.AudioVocabulary(replace(INFO, aliases=("old",)), pattern).to_dict(), data.draw)
    message = "expected"
    try:
        speechtok.AudioVocabulary.from_dict(values)
    except VocabularyError as error:
        message = str(error)
    assert "expected" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("key", "change"),
    [
        *(("pattern", {"name": "delay", "delays": 5}), ("pattern", {"name": "parallel", "delays": [0, 10**30] * 2})),
        *(("tokenizer", {"num_codebooks": 2**30}), ("tokenizer", {"codebook_size": 10**30})),
        *(("tokenizer", {"hop_length": 10**30}), ("tokenizer", {"fingerprint": None}), ("tokenizer", {"aliases": 3})),
        *(("offset", 10**30), ("num_codebooks", 10**30), ("pattern", {"name": "semantic", "longest_run": 10**30})),
    ],
)
def test_values_that_exceed_their_bounds_are_refused(key, change):
    values = speechtok.AudioVocabulary(INFO, "flatten").to_dict()
    values[key] = {**values[key], **change} if key == "tokenizer" else change
    with pytest.raises(VocabularyError, match=r"is .*; expected"):
        speechtok.AudioVocabulary.from_dict(values)


def test_a_vocabulary_of_more_ids_than_a_model_has_is_refused():
    values = speechtok.AudioVocabulary(INFO, "flatten").to_dict()
    values["tokenizer"] |= {"num_codebooks": 1024, "codebook_size": 32_768}
    values["num_codebooks"] = 1024  # 200 bytes that stand for 33 million names of tokens
    with pytest.raises(VocabularyError, match=r"num_codebooks is 1024 .*expected at most 1048576 codes"):
        speechtok.AudioVocabulary.from_dict(values)


def test_nested_and_repeated_values_are_refused_at_once():
    deep, doubled = [0], [0]
    for _ in range(2_000):
        deep, doubled = [deep], [doubled, doubled]
    circle = {}
    circle["name"] = circle
    values = speechtok.AudioVocabulary(INFO, "flatten").to_dict()
    for arguments in ({"x": deep}, {"x": doubled}, circle):
        with pytest.raises(VocabularyError, match=r"expected the output of AudioVocabulary\.to_dict"):
            speechtok.AudioVocabulary.from_dict({**values, "pattern": arguments}, Flatten())


@pytest.mark.parametrize("values", [{}, {"pattern": 3}, {"pattern": {"name": "flatten"}, "tokenizer": {}}, None, []])
def test_values_without_a_vocabulary_are_refused(values):
    with pytest.raises(VocabularyError, match=r"expected the output of AudioVocabulary\.to_dict"):
        speechtok.AudioVocabulary.from_dict(values)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"num_codebooks": 0}, {"num_codebooks": 5}, {"num_codebooks": True}, {"offset": -1}, {"offset": 1.5}),
        *({"pattern": "semantic", "num_codebooks": 2}, {"pattern": "parallel", "offset": 9}, {"tokenizer": "mine"}),
        {"offset": 2**63},
    ],
    ids=str,
)
def test_arguments_that_cannot_be_used_are_refused(arguments):
    with pytest.raises(VocabularyError, match="expected"):
        speechtok.AudioVocabulary(**{"tokenizer": INFO, **arguments})


def test_numbers_may_be_numpy_integers():
    vocab = speechtok.AudioVocabulary(INFO, num_codebooks=np.int64(2), offset=np.int32(7))
    assert vocab == speechtok.AudioVocabulary(INFO, num_codebooks=2, offset=7)


def test_ids_of_a_tokenizer_decode_to_its_audio(speech):
    tok = make_tokenizer()
    tokens = tok.encode(speech(0.3), 16_000)
    vocab = speechtok.AudioVocabulary(tok, pattern="delay")
    assert vocab.fingerprint == tok.fingerprint
    again = tok.decode(vocab.to_codes(vocab.to_ids(tokens)))
    assert torch.equal(again[:, : int(tokens.num_samples)], tok.decode(tokens))


@pytest.mark.parametrize(
    "ids", [torch.tensor([4, 5]).to_sparse(), torch.tensor([4, 5]).to("meta")], ids=["sparse", "meta"]
)
def test_ids_without_values_are_refused(ids):
    vocab = speechtok.AudioVocabulary(INFO)
    for use in (vocab.to_codes, vocab.continuations, vocab.spans, lambda ids: vocab.to_codes([ids, ids])):
        with pytest.raises(
            VocabularyError, match=r"row 0 of ids is sparse or has no values .*; expected a dense tensor"
        ):
            use(ids)


@pytest.mark.parametrize("strict", [True, False])
def test_values_that_are_not_ids_are_always_refused(strict):
    for ids in ("ids", [1.5], torch.zeros(2, 2, 2, dtype=torch.int64), None):
        with pytest.raises(VocabularyError, match="expected"):
            speechtok.AudioVocabulary(INFO).to_codes(ids, strict)


def test_a_vocabulary_saved_by_version_0_1_fits_the_same_codes():
    vocab = speechtok.AudioVocabulary.from_dict(json.loads(SAVED_BY_VERSION_0_1))
    tok = speechtok.load("speechtok-v1")
    vocab.check_tokenizer(tok)
    codes = torch.zeros(1, 8, 3, dtype=torch.int64)
    tokens = speechtok.SpeechTokens(codes, torch.tensor([3]), torch.tensor([960]), 16_000, 320, 1024, tok.fingerprint)
    assert vocab.to_codes(vocab.to_ids(tokens)).fingerprint == tok.fingerprint
    assert vocab.equivalent(speechtok.AudioVocabulary(tok, {"name": "delay", "delays": (0, 2, 2, 2)}, 4))


def test_aliases_of_either_side_count():
    tok = make_tokenizer()
    tok.add_aliases(["formerly"])
    tokens = tokens_of(torch.zeros(1, 4, 2, dtype=torch.int64), fingerprint="formerly")
    new = speechtok.AudioVocabulary(tok)
    assert torch.equal(new.to_ids(tokens), new.to_ids(tokens.codes))
    old = speechtok.AudioVocabulary(TokenizerInfo(16_000, 320, 32, 4, "formerly"))
    old.check_tokenizer(tok)
    assert old.equivalent(new)
    assert old != new
    present = old.for_tokenizer(tok)
    assert present == new
    assert present.tokenizer_info.made("formerly")
    assert present.tokenizer_info.made(tok.fingerprint)


def test_another_tokenizer_is_refused():
    vocab = speechtok.AudioVocabulary(make_tokenizer())
    for use in (vocab.check_tokenizer, vocab.for_tokenizer):
        with pytest.raises(FingerprintError, match="pass the tokenizer that the vocabulary was made with"):
            use(make_tokenizer(1))
