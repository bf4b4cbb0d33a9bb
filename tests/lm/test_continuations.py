import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import speechtok
from speechtok.errors import VocabularyError
from speechtok.lm.continuations import Continuations
from tests.lm.cases import INFO, INTERLEAVED_PATTERNS, utterances, vocabularies


@settings(max_examples=25)
@given(vocabularies(tuple(INTERLEAVED_PATTERNS)), st.integers(0, 2**31))
def test_continuations_id_by_id_equal_those_of_the_whole_sequence(vocab, seed):
    generator = torch.Generator().manual_seed(seed)
    growing, ids = Continuations(vocab), [] if vocab.offset == 0 else [0]
    growing.feed(ids)
    for _ in range(20):
        allowed = vocab.continuations(ids)
        assert torch.equal(growing.mask(vocab.stop_id + 2)[: vocab.stop_id], allowed)
        assert growing.mask(vocab.stop_id + 2)[vocab.stop_id :].tolist() == [growing.allows_text] * 2
        drafted = growing.followed_by([vocab.eos_id])
        assert drafted.allows_text
        wild = int(torch.randint(10, (), generator=generator)) == 0 or not bool(allowed.any())
        choices = torch.arange(vocab.stop_id) if wild else allowed.nonzero().flatten()
        ids.append(int(choices[int(torch.randint(len(choices), (), generator=generator))]))
        growing.feed(ids[-1:])


@settings(max_examples=30)
@given(utterances(tuple(INTERLEAVED_PATTERNS)))
def test_every_utterance_is_a_valid_continuation(case):
    vocab, tokens = case
    for row in range(len(tokens)):
        growing = Continuations(vocab)
        for id_ in vocab.to_ids(tokens[row])[0].tolist():
            assert bool(growing.mask(vocab.stop_id)[id_])
            growing.feed([id_])
        assert growing.allows_text


def test_a_grid_is_refused():
    with pytest.raises(VocabularyError, match="expected an interleaved pattern"):
        Continuations(speechtok.AudioVocabulary(INFO, "parallel"))
