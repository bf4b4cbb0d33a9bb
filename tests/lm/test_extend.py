import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

import speechtok
from speechtok.errors import FingerprintError, VocabularyError
from speechtok.lm import Flatten, Semantic, TokenizerInfo, extend_model, extend_tokenizer
from speechtok.lm.extend import vocabulary_of

TEXTS = ["Say the sentence: hello world.", "  two  spaces, naïve café\n12 Boote ", "", "</s>", "speech_0_1 | <| >"]


@pytest.fixture
def vocab(tiny):
    return speechtok.AudioVocabulary(tiny, Semantic(8))


def test_an_extended_tokenizer_has_all_tokens_and_tokenizes_text_as_before(text_tokenizer, vocab):
    before, known = [text_tokenizer(text)["input_ids"] for text in TEXTS], text_tokenizer.get_vocab()
    placed = extend_tokenizer(text_tokenizer, vocab)
    assert [text_tokenizer(text)["input_ids"] for text in TEXTS] == before
    assert placed.offset > max(known.values())
    assert text_tokenizer.convert_tokens_to_ids(placed.tokens) == list(range(placed.offset, placed.stop_id))


def test_a_saved_and_loaded_tokenizer_has_the_same_ids(text_tokenizer, vocab, tmp_path):
    placed = extend_tokenizer(text_tokenizer, vocab)
    mixed = "Say hello:<|speech_begin|><|speech_0_7|><|speech_run_3|><|speech_end|> world"
    ids = text_tokenizer(mixed)["input_ids"]
    text_tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(mixed)["input_ids"] == ids
    assert [loaded(text)["input_ids"] for text in TEXTS] == [text_tokenizer(text)["input_ids"] for text in TEXTS]
    assert speechtok.AudioVocabulary.from_dict(vocabulary_of(loaded)) == placed
    assert placed.to_codes(ids[placed.spans(ids)[0]]).codes.tolist() == [[[7, 7, 7]]]
    assert extend_tokenizer(loaded, vocab) == placed  # a second call changes nothing
    assert len(loaded) == len(text_tokenizer)


@pytest.mark.skipif(not transformers.__version__.startswith("4."), reason="transformers 5 has none")
def test_tokenizers_in_pure_python_are_extended_equally(tiktoken, vocab, tmp_path):
    model = json.loads(tiktoken.backend_tokenizer.to_str())["model"]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    slow = GPT2Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    before = [slow(text)["input_ids"] for text in TEXTS]
    placed = extend_tokenizer(slow, vocab)
    assert [slow(text)["input_ids"] for text in TEXTS] == before
    slow.save_pretrained(tmp_path)
    mixed = "Say hello:<|speech_begin|><|speech_0_7|><|speech_end|> world"
    for use_fast in (False, True):
        loaded = AutoTokenizer.from_pretrained(tmp_path, use_fast=use_fast)
        assert loaded.is_fast == use_fast
        assert loaded(mixed)["input_ids"] == slow(mixed)["input_ids"]
        assert extend_tokenizer(loaded, vocab) == placed


def test_extending_with_another_vocabulary_is_refused(tiktoken, tiny, new_tokenizer, vocab):
    extend_tokenizer(tiktoken, vocab)
    for other in (
        speechtok.AudioVocabulary(tiny, Semantic(4)),
        speechtok.AudioVocabulary(tiny, Flatten()),
        speechtok.AudioVocabulary(new_tokenizer(1), Semantic(8)),
    ):
        with pytest.raises(VocabularyError, match="expected"):
            extend_tokenizer(tiktoken, other)


def test_a_vocabulary_with_a_former_fingerprint_of_the_same_codes_is_the_same(tiktoken, new_tokenizer):
    tok = new_tokenizer(1)
    old = speechtok.AudioVocabulary(TokenizerInfo(16_000, 320, 32, 4, "formerly"))
    placed = extend_tokenizer(tiktoken, old)
    tok.add_aliases(["formerly"])
    new = extend_tokenizer(tiktoken, speechtok.AudioVocabulary(tok))
    assert new.offset == placed.offset
    assert new.fingerprint == tok.fingerprint


def test_tokens_without_a_saved_vocabulary_are_refused(tiktoken, vocab):
    tiktoken.add_tokens(["<|speech_0_7|>"])
    with pytest.raises(VocabularyError, match=r"has the token <\|speech_0_7\|> already .*as it was published"):
        extend_tokenizer(tiktoken, vocab)


def test_text_ids_with_gaps_are_refused(vocab):
    model = models.WordLevel({"a": 0, "b": 5, "<unk>": 1, "c": 40}, unk_token="<unk>")
    with pytest.raises(VocabularyError, match="expected text ids without gaps"):
        extend_tokenizer(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model)), vocab)


def test_a_grid_cannot_be_mixed_with_text(tiktoken, tiny, new_model):
    grid = speechtok.AudioVocabulary(tiny, "parallel")
    with pytest.raises(VocabularyError, match="expected an interleaved pattern"):
        extend_tokenizer(tiktoken, grid)
    with pytest.raises(VocabularyError, match="expected an interleaved pattern"):
        extend_model(new_model(300), grid, tiny)


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_projected_codebook_vectors_in_the_scale_of_the_model(new_model, tiny, tied):
    model, vocab = new_model(200, tied), speechtok.AudioVocabulary(tiny, "flatten", offset=190)
    old = model.get_input_embeddings().weight[:190].clone()
    extend_model(model, vocab, tiny)
    for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
        rows = embeddings.weight.detach()
        assert len(rows) == vocab.stop_id
        codes = rows[vocab.first_code :].view(4, 32, -1)
        assert 0.8 < float(codes.std() / rows[:190].std()) < 1.25
        centered = codes - codes.mean(1, keepdim=True)
        # distances between codebook vectors are kept
        for ours, theirs in zip(centered / rows[:190].std(0), tiny.quantizer.codebooks, strict=True):
            pairs = torch.stack([torch.pdist(ours), torch.pdist(theirs)])
            assert float(torch.corrcoef(pairs)[0, 1]) > 0.99
        flat = torch.nn.functional.normalize(centered.flatten(0, 1), dim=1)
        similarity = (flat @ flat.T).abs().view(4, 32, 4, 32).mean((1, 3))
        assert float(similarity.fill_diagonal_(0).max()) < 0.35  # and codebooks are distinct
    assert torch.equal(model.get_input_embeddings().weight[:190], old)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert model.config.vocab_size == vocab.stop_id


def test_extending_a_model_again_gives_the_same_rows(new_model, tiny):
    model, vocab = new_model(300), speechtok.AudioVocabulary(tiny, "flatten", offset=100)
    extend_model(model, vocab, tiny)
    before = model.get_input_embeddings().weight.clone()
    with torch.device("meta"):  # any other default device
        extend_model(model, vocab, tiny)
    assert torch.equal(model.get_input_embeddings().weight, before)
    assert len(before) == 300  # more rows than needed are kept


def test_a_model_smaller_than_its_text_and_another_tokenizer_are_refused(new_model, tiny, new_tokenizer):
    vocab = speechtok.AudioVocabulary(tiny, "flatten", offset=100)
    with pytest.raises(VocabularyError, match="has 50 embeddings; expected at least 100"):
        extend_model(new_model(50), vocab, tiny)
    with pytest.raises(FingerprintError, match="pass the tokenizer"):
        extend_model(new_model(200), vocab, new_tokenizer(1))
