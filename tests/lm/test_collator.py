import dataclasses

import pytest
import torch

from speechtok.errors import FingerprintError, InputError, VocabularyError
from speechtok.lm import SpeechCollator, extend_model


def test_labels_cover_the_answer_only(processor, tokens):
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
        assert torch.equal(ids[mask.bool()][: len(asked)], asked.long())  # as at inference


def test_labels_of_a_conversation_cover_its_last_message(one, tokens):
    messages = [{"role": "user", "content": "Say hello"}, {"role": "assistant", "content": "<|speech|>"}]
    batch = SpeechCollator(one)([{"messages": messages, "speech": [tokens[0]]}])
    learned = batch["labels"][0] != -100
    v = one.vocabulary
    body = v.to_ids(tokens[0])[0].tolist()
    after = one.text_tokenizer("</s>", add_special_tokens=False)["input_ids"]
    assert batch["labels"][0][learned].tolist() == [*body, *after]
    asked = one.apply_chat_template(messages[:1])["input_ids"][0]
    assert torch.equal(batch["input_ids"][0][~learned], asked)


def test_an_example_that_cannot_be_used_is_named(one):
    with pytest.raises(InputError, match="example 1 has the fields"):
        SpeechCollator(one)([{"prompt": "a", "answer": "b"}, {"text": "c"}])
    with pytest.raises(InputError, match="example 0 has the answer None; expected a string"):
        SpeechCollator(one)([{"prompt": "a", "answer": None}])
    one.text_tokenizer.chat_template = "{{ messages | length }}"
    with pytest.raises(InputError, match="template"):
        SpeechCollator(one)([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])


@pytest.mark.parametrize("form", ["prompt", "messages"])
@pytest.mark.parametrize(
    ("speech", "message"),
    [
        (None, r"speech is None; expected a list of SpeechTokens or waveforms"),
        ([], r"the text has 1 placeholders <\|speech\|> for 0 utterances"),
        ([None], "speech has a NoneType, and sample_rate is not given"),
    ],
)
def test_speech_that_cannot_be_used_is_named_with_its_example(one, form, speech, message):
    texts = {"prompt": "a", "answer": "<|speech|>"}
    if form == "messages":
        texts = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<|speech|>"}]}
    with pytest.raises(VocabularyError, match=f"example 1: {message}"):
        SpeechCollator(one)([{"prompt": "a", "answer": "b"}, {**texts, "speech": speech}])


def test_tokens_of_another_tokenizer_keep_their_error_and_name_the_example(one, tokens):
    other = dataclasses.replace(tokens[0], fingerprint="fedcba")
    with pytest.raises(FingerprintError, match=r"example 0: the tokens were made by tokenizer fedcba"):
        SpeechCollator(one)([{"prompt": "a", "answer": "<|speech|>", "speech": [other]}])


def test_a_model_trains_on_a_batch(one, tokens, new_model):
    model = new_model(one.vocabulary.offset)
    extend_model(model, one.vocabulary, one.tokenizer)
    batch = SpeechCollator(one)([{"prompt": "Say hello:", "answer": "<|speech|>", "speech": [tokens[0]]}])
    model(**batch).loss.backward()
    assert float(model.get_input_embeddings().weight.grad[one.vocabulary.first_code :].abs().sum()) > 0
