import json

import pytest
import torch

import speechtok
from speechtok.errors import CheckpointError, MissingFileError, VocabularyError
from speechtok.lm import SpeechProcessor, TokenizerInfo


def test_placeholders_are_replaced_and_decode_restores_text_and_speech(processor, tokens):
    text = "What was said in<|speech|>? Say<|speech|>"
    ids = processor(text, [tokens])["input_ids"][0]
    said = processor.decode(ids)
    unchanged = processor.text_tokenizer(text)["input_ids"]
    placeholder = processor.vocabulary.placeholder_id
    assert [i for i in ids.tolist() if i < processor.vocabulary.offset] == [i for i in unchanged if i != placeholder]
    assert said.text.count("<|speech|>") == 2
    for got, expected in zip(said.speech, (tokens[0], tokens[1]), strict=True):
        assert torch.equal(got.codes, expected.codes[:, :1])


def test_waveforms_are_encoded(one, tokens, speech):
    with_tokens = one("Say<|speech|>", [tokens[0]])
    assert torch.equal(one("Say<|speech|>", [speech(0.2, 0)], 16_000)["input_ids"], with_tokens["input_ids"])
    with pytest.raises(VocabularyError, match="sample_rate"):
        one("Say<|speech|>", [speech(0.2, 0)])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_are_padded_on_the_padding_side_of_the_text_tokenizer(one, tokens, side):
    one.text_tokenizer.padding_side = side
    batch = one(["Say<|speech|>", "hello"], [tokens[0]])
    alone = one("hello")["input_ids"][0]
    row, mask = batch["input_ids"][1], batch["attention_mask"][1].bool()
    assert torch.equal(row[mask], alone)
    assert bool((row[~mask] == one.pad_id).all())
    assert bool(mask[-1 if side == "left" else 0])


def test_the_default_device_does_not_matter(one, tokens):
    # as torch.set_default_device("cuda") does for a whole program
    expected = one(["Say<|speech|>", "hello"], [tokens[0]])
    with torch.device("meta"):
        batch = one(["Say<|speech|>", "hello"], [tokens[0]])
        said = one.decode(expected["input_ids"][0])
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert torch.equal(said.speech[0].codes, tokens[0].codes)


@pytest.mark.parametrize(("text", "count"), [("<|speech|>", 0), ("none", 1), ("<|speech|><|speech|>", 1)])
def test_the_numbers_of_utterances_and_placeholders_must_be_equal(one, tokens, text, count):
    with pytest.raises(VocabularyError, match=r"has \d placeholders <\|speech\|> for \d utterances"):
        one(text, [tokens[0]] * count)


def test_chat_templates_may_have_placeholders(processor, tokens):
    messages = [{"role": "user", "content": "What was said in<|speech|>?"}]
    ids = processor.apply_chat_template(messages, [tokens[0]])["input_ids"][0]
    rendered = processor.render(messages, add_generation_prompt=True)
    assert rendered.endswith("<|assistant|>")
    assert torch.equal(ids, processor(rendered, [tokens[0]], add_special_tokens=False)["input_ids"][0])
    assert torch.equal(processor.decode(ids).speech[0].codes, tokens[0].codes[:, :1])


def test_a_saved_processor_gives_the_same_ids(processor, tokens, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = SpeechProcessor.from_pretrained(tmp_path)
    assert loaded.vocabulary == processor.vocabulary
    assert loaded.tokenizer.fingerprint == processor.tokenizer.fingerprint
    for text in ("Say<|speech|> now", "<|speech|>hello world"):
        before, after = processor(text, [tokens[0]]), loaded(text, [tokens[0]])
        assert torch.equal(before["input_ids"], after["input_ids"])


def test_folders_without_a_processor_are_refused(one, tmp_path, tiny, new_tokenizer):
    with pytest.raises(MissingFileError, match="save_pretrained"):
        SpeechProcessor.from_pretrained(tmp_path / "none")
    with pytest.raises(MissingFileError):
        SpeechProcessor.from_pretrained(tmp_path)
    one.save_pretrained(tmp_path)
    new_tokenizer(1).save(tmp_path / "speech_tokenizer")
    with pytest.raises(VocabularyError, match="pass the tokenizer that the vocabulary was made with"):
        SpeechProcessor.from_pretrained(tmp_path)
    tiny.save(tmp_path / "speech_tokenizer")
    config = tmp_path / "tokenizer_config.json"
    values = json.loads(config.read_text())
    del values["speechtok"]
    config.write_text(json.dumps(values))
    with pytest.raises(VocabularyError, match="without a vocabulary"):
        SpeechProcessor.from_pretrained(tmp_path)
    (tmp_path / "speech_tokenizer" / "config.json").write_text("{")
    with pytest.raises(CheckpointError):
        SpeechProcessor.from_pretrained(tmp_path)


def test_any_generated_ids_can_be_decoded(one):
    v = one.vocabulary
    said = one.decode([5, v.bos_id, v.first_code, 6, v.eos_id, v.placeholder_id, v.bos_id, v.bos_id, v.pad_id])
    assert said.text.count("<|speech|>") == 3
    assert [s.codes.shape[2] for s in said.speech] == [0, 0, 0]


@pytest.mark.parametrize("speech", [None, 3, torch.tensor(0.5)], ids=str)
def test_speech_that_is_not_a_list_is_refused(one, speech):
    with pytest.raises(VocabularyError, match=r"speech is .*; expected a list of SpeechTokens or waveforms"):
        one("hello", speech)


def test_a_processor_with_a_former_fingerprint_of_the_same_codes_loads(tiktoken, new_tokenizer, speech, tmp_path):
    tok = new_tokenizer(1)
    tok.add_aliases(["formerly"])
    old = speechtok.AudioVocabulary(TokenizerInfo(16_000, 320, 32, 4, "formerly"))
    SpeechProcessor(tiktoken, tok, old).save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    values = json.loads(config.read_text())
    values["speechtok"]["tokenizer"] = {
        **{name: values["speechtok"]["tokenizer"][name] for name in ("sample_rate", "hop_length")},
        "codebook_size": 32,
        "num_codebooks": 4,
        "fingerprint": "formerly",
    }
    config.write_text(json.dumps(values))
    loaded = SpeechProcessor.from_pretrained(tmp_path)
    assert loaded.vocabulary.fingerprint == loaded.tokenizer.fingerprint
    tokens = loaded.tokenizer.encode(speech(0.2), 16_000)
    (said,) = loaded.decode(loaded("<|speech|>", [tokens])["input_ids"][0]).speech
    assert torch.equal(said.codes, tokens.codes)
