import json

import pytest
import torch

import speechtok
from speechtok.errors import CheckpointError, InputError, MissingFileError, VocabularyError
from speechtok.lm import Semantic, SpeechCollator, SpeechProcessor


@pytest.fixture
def processor(text_tokenizer, tiny):
    return SpeechProcessor(text_tokenizer, tiny, speechtok.AudioVocabulary(tiny, Semantic(8)))


@pytest.fixture
def one(tiktoken, tiny):
    """A processor of one style, where styles make no difference."""
    return SpeechProcessor(tiktoken, tiny, speechtok.AudioVocabulary(tiny, "flatten"))


@pytest.fixture
def tokens(tiny, speech):
    audio = torch.stack([torch.from_numpy(speech(0.2, seed)) for seed in (0, 1)])
    return tiny.encode(audio, 16_000, lengths=[3200, 1700])


def test_slots_take_utterances_and_decode_gives_both_back(processor, tokens):
    text = "What was said in<|speech|>? Say<|speech|>"
    ids = processor(text, [tokens])["input_ids"][0]
    said = processor.decode(ids)
    unchanged = processor.text_tokenizer(text)["input_ids"]
    slot = processor.vocabulary.slot_id
    assert [i for i in ids.tolist() if i < processor.vocabulary.offset] == [i for i in unchanged if i != slot]
    assert said.text.count("<|speech|>") == 2
    for got, expected in zip(said.speech, (tokens[0], tokens[1]), strict=True):
        assert torch.equal(got.codes, expected.codes[:, :1])


def test_waveforms_are_encoded(one, tokens, speech):
    with_tokens = one("Say<|speech|>", [tokens[0]])
    assert torch.equal(one("Say<|speech|>", [speech(0.2, 0)], 16_000)["input_ids"], with_tokens["input_ids"])
    with pytest.raises(VocabularyError, match="sample_rate"):
        one("Say<|speech|>", [speech(0.2, 0)])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_are_filled_up_on_the_text_tokenizers_side(one, tokens, side):
    one.text_tokenizer.padding_side = side
    batch = one(["Say<|speech|>", "hello"], [tokens[0]])
    alone = one("hello")["input_ids"][0]
    row, mask = batch["input_ids"][1], batch["attention_mask"][1].bool()
    assert torch.equal(row[mask], alone)
    assert bool((row[~mask] == one.pad_id).all())
    assert bool(mask[-1 if side == "left" else 0])


def test_what_tensors_are_made_of_by_default_does_not_matter(one, tokens):
    # as torch.set_default_device("cuda") does for a whole program
    expected = one(["Say<|speech|>", "hello"], [tokens[0]])
    with torch.device("meta"):
        batch = one(["Say<|speech|>", "hello"], [tokens[0]])
        said = one.decode(expected["input_ids"][0])
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert torch.equal(said.speech[0].codes, tokens[0].codes)


@pytest.mark.parametrize(("text", "count"), [("<|speech|>", 0), ("none", 1), ("<|speech|><|speech|>", 1)])
def test_as_many_utterances_as_slots_are_expected(one, tokens, text, count):
    with pytest.raises(VocabularyError, match=r"slots <\|speech\|> in the text and \d utterances"):
        one(text, [tokens[0]] * count)


def test_chat_templates_have_slots(processor, tokens):
    messages = [{"role": "user", "content": "What was said in<|speech|>?"}]
    ids = processor.apply_chat_template(messages, [tokens[0]])["input_ids"][0]
    rendered = processor.render(messages, add_generation_prompt=True)
    assert rendered.endswith("<|assistant|>")
    assert torch.equal(ids, processor(rendered, [tokens[0]], add_special_tokens=False)["input_ids"][0])
    assert torch.equal(processor.decode(ids).speech[0].codes, tokens[0].codes[:, :1])


def test_a_saved_processor_loads_and_does_the_same(processor, tokens, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = SpeechProcessor.from_pretrained(tmp_path)
    assert loaded.vocabulary == processor.vocabulary
    assert loaded.tokenizer.fingerprint == processor.tokenizer.fingerprint
    for text in ("Say<|speech|> now", "<|speech|>hello world"):
        before, after = processor(text, [tokens[0]]), loaded(text, [tokens[0]])
        assert torch.equal(before["input_ids"], after["input_ids"])


def test_folders_that_hold_no_processor_are_refused(one, tmp_path, tiny, new_tokenizer):
    with pytest.raises(MissingFileError, match="save_pretrained"):
        SpeechProcessor.from_pretrained(tmp_path / "none")
    with pytest.raises(MissingFileError):
        SpeechProcessor.from_pretrained(tmp_path)
    one.save_pretrained(tmp_path)
    new_tokenizer(1).save(tmp_path / "speech_tokenizer")
    with pytest.raises(VocabularyError, match="make the vocabulary with the same tokenizer"):
        SpeechProcessor.from_pretrained(tmp_path)
    tiny.save(tmp_path / "speech_tokenizer")
    config = tmp_path / "tokenizer_config.json"
    described = json.loads(config.read_text())
    del described["speechtok"]
    config.write_text(json.dumps(described))
    with pytest.raises(VocabularyError, match="without a vocabulary"):
        SpeechProcessor.from_pretrained(tmp_path)
    (tmp_path / "speech_tokenizer" / "config.json").write_text("{")
    with pytest.raises(CheckpointError):
        SpeechProcessor.from_pretrained(tmp_path)


def test_what_a_model_wrote_decodes_whatever_it_is(one):
    v = one.vocabulary
    said = one.decode([5, v.begin_id, v.first_code, 6, v.end_id, v.slot_id, v.begin_id, v.begin_id, v.pad_id])
    assert said.text.count("<|speech|>") == 3
    assert [s.codes.shape[2] for s in said.speech] == [0, 0, 0]


def test_only_the_answer_is_learned(processor, tokens):
    examples = [
        {"prompt": "What was said in<|speech|>?", "answer": " hello world", "speech": [tokens[0]]},
        {"prompt": "Say hello:", "answer": "<|speech|>", "speech": [tokens[1]]},
        {"prompt": "", "answer": "<|speech|>", "speech": [tokens[1]]},
    ]
    batch = SpeechCollator(processor)(examples)
    end = processor.text_tokenizer.eos_token_id
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    for ids, labels, mask, example in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], examples, strict=True
    ):
        learned = labels != -100
        assert bool((labels[learned] == ids[learned]).all())
        assert not bool(learned[mask == 0].any())
        answer = processor(example["answer"], example["speech"][: "<" in example["answer"]], add_special_tokens=False)
        assert labels[learned].tolist() == [*answer["input_ids"][0].tolist(), end]
        asked = processor(example["prompt"], example["speech"][: "<" in example["prompt"]])["input_ids"][0]
        assert torch.equal(ids[mask.bool()][: len(asked)], asked.long())  # as the model is asked later


def test_a_conversation_is_learned_from_its_last_message(one, tokens):
    messages = [{"role": "user", "content": "Say hello"}, {"role": "assistant", "content": "<|speech|>"}]
    batch = SpeechCollator(one)([{"messages": messages, "speech": [tokens[0]]}])
    learned = batch["labels"][0] != -100
    v = one.vocabulary
    body = v.to_ids(tokens[0])[0].tolist()
    after = one.text_tokenizer("</s>", add_special_tokens=False)["input_ids"]
    assert batch["labels"][0][learned].tolist() == [*body, *after]
    asked = one.apply_chat_template(messages[:1])["input_ids"][0]
    assert torch.equal(batch["input_ids"][0][~learned], asked)


def test_examples_that_cannot_be_learned_from_are_named(one):
    with pytest.raises(InputError, match="example 1 has the fields"):
        SpeechCollator(one)([{"prompt": "a", "answer": "b"}, {"text": "c"}])
    one.text_tokenizer.chat_template = "{{ messages | length }}"
    with pytest.raises(InputError, match="template"):
        SpeechCollator(one)([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])


def test_a_model_trains_on_a_batch(one, tokens, new_model):
    from speechtok.lm import extend_model

    model = new_model(one.vocabulary.offset)
    extend_model(model, one.vocabulary, one.tokenizer)
    batch = SpeechCollator(one)([{"prompt": "Say hello:", "answer": "<|speech|>", "speech": [tokens[0]]}])
    model(**batch).loss.backward()
    assert float(model.get_input_embeddings().weight.grad[one.vocabulary.first_code :].abs().sum()) > 0
