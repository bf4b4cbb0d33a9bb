"""Units of semantic codes: an exact inverse, also id by id, and the merges of Hugging Face tokenizers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechtok.errors import VocabularyError
from speechtok.lm import AudioVocabulary, SemanticBPE, TokenizerInfo

N = 8
INFO = TokenizerInfo(16_000, 320, N, 4, "0123456789abcdef")


def random_pattern(rng: np.random.Generator, count: int) -> SemanticBPE:
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count:
        pair = (int(rng.integers(N + len(pairs))), int(rng.integers(N + len(pairs))))
        if pair not in pairs:
            pairs.append(pair)
    return SemanticBPE.from_pairs(N, pairs)


@given(st.lists(st.integers(0, N - 1), max_size=60), st.integers(0, 10_000), st.integers(0, 24))
def test_ids_give_the_codes_back(codes, seed, count):
    vocabulary = AudioVocabulary(INFO, random_pattern(np.random.default_rng(seed), count), offset=100)
    grid = torch.tensor(codes, dtype=torch.int64)[None, None]
    ids = vocabulary.to_ids(grid)
    assert vocabulary.size == 4 + N + count == len(vocabulary.tokens)
    assert torch.equal(vocabulary.to_codes(ids).codes, grid)
    assert ids.shape[1] - 2 <= len(codes)
    parser, received = vocabulary.parser(), []
    for symbol in (ids[0, 1:-1] - vocabulary.first_code).tolist():
        received += parser.feed([symbol])[0].tolist()
    assert received == codes


@given(st.lists(st.integers(0, N + 19), max_size=30), st.integers(0, 10_000))
def test_any_sequence_of_ids_is_decoded_the_same_at_once_and_id_by_id(symbols, seed):
    pattern = random_pattern(np.random.default_rng(seed), 20)
    vocabulary = AudioVocabulary(INFO, pattern)
    ids = [vocabulary.bos_id, *(symbol + vocabulary.first_code for symbol in symbols), vocabulary.eos_id]
    units = [*((code,) for code in range(N)), *pattern.units(N)]
    expected = [code for symbol in symbols for code in units[symbol]]
    assert vocabulary.to_codes(ids).codes[0, 0].tolist() == expected
    parser = vocabulary.parser()
    assert [code for symbol in symbols for code in parser.feed([symbol])[0].tolist()] == expected
    assert vocabulary.continuations(ids[:-1])[vocabulary.first_code :].all()


def test_a_saved_vocabulary_has_the_same_ids():
    vocabulary = AudioVocabulary(INFO, random_pattern(np.random.default_rng(1), 50))
    loaded = AudioVocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert loaded == vocabulary
    codes = torch.randint(N, (1, 1, 200))
    assert torch.equal(loaded.to_ids(codes), vocabulary.to_ids(codes))


def test_units_are_those_of_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    from speechtok.corpus.bpe import _character, train_bpe

    rng = np.random.default_rng(0)
    words = [rng.integers(0, N, rng.integers(2, 6)) for _ in range(20)]
    rows = [np.concatenate([words[i] for i in rng.integers(0, 20, 30)]) for _ in range(100)]
    pattern = train_bpe(rows, N, 100, max_frames=6)
    units = pattern.units(N)
    assert N + len(units) == 100
    assert max(map(len, units)) <= 6
    names = ["".join(map(_character, unit)) for unit in [*((c,) for c in range(N)), *units]]
    merges = [(names[a], names[b]) for a, b in pattern._pairs()]
    model = tokenizers.models.BPE({name: i for i, name in enumerate(names)}, merges)
    reference = tokenizers.Tokenizer(model)
    for row in rows[:20]:
        expected = reference.encode("".join(map(_character, row.tolist()))).ids
        assert pattern.merge(row.tolist(), N) == expected
        assert len(expected) < 0.7 * len(row)


@pytest.mark.parametrize("merges", ["?", "AAAA", 5])
def test_damaged_merges_are_refused(merges):
    with pytest.raises(VocabularyError, match="merges"):
        SemanticBPE(N, merges)


def test_merges_refer_to_earlier_symbols_and_fit_the_tokenizer():
    with pytest.raises(VocabularyError, match="pair 0"):
        SemanticBPE.from_pairs(N, [(0, N)])
    with pytest.raises(VocabularyError, match="twice"):
        SemanticBPE.from_pairs(N, [(0, 1), (0, 1)])
    with pytest.raises(VocabularyError, match="together"):
        SemanticBPE.from_pairs(N, [(0, 0), *((N + i, N + i) for i in range(30))])
    with pytest.raises(VocabularyError, match="codebook of 16"):
        AudioVocabulary(INFO, SemanticBPE.from_pairs(16, [(0, 1)]))
