import dataclasses

import pytest
import torch

from speechtok.errors import FingerprintError, InputError, VocabularyError
from speechtok.lm import SpeechCollator, extend_model


def test_labels_cover_the_answer_only(processor, tokens):
    examples = [
        {"prompt": "What was said in<|speech|>?", "answer": " hello world", "audio": [tokens[0]]},
        {"prompt": "Say hello:", "answer": "<|speech|>", "audio": [tokens[1]]},
        {"prompt": "", "answer": "<|speech|>", "audio": [tokens[1]]},
    ]
    batch = SpeechCollator(processor)(examples)
    end = processor.tokenizer.eos_token_id
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    for ids, labels, mask, example in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], examples, strict=True
    ):
        learned = labels != -100
        assert bool((labels[learned] == ids[learned]).all())
        assert not bool(learned[mask == 0].any())
        answer = processor(example["answer"], example["audio"][: "<" in example["answer"]], add_special_tokens=False)
        assert labels[learned].tolist() == [*answer["input_ids"][0].tolist(), end]
        asked = processor(example["prompt"], example["audio"][: "<" in example["prompt"]])["input_ids"][0]
        assert torch.equal(ids[mask.bool()][: len(asked)], asked.long())  # as at inference


def test_labels_of_a_conversation_cover_its_last_message(one, tokens):
    messages = [{"role": "user", "content": "Say hello"}, {"role": "assistant", "content": "<|speech|>"}]
    batch = SpeechCollator(one)([{"messages": messages, "audio": [tokens[0]]}])
    learned = batch["labels"][0] != -100
    v = one.vocabulary
    body = v.to_ids(tokens[0])[0].tolist()
    after = one.tokenizer("</s>", add_special_tokens=False)["input_ids"]
    assert batch["labels"][0][learned].tolist() == [*body, *after]
    asked = one.apply_chat_template(messages[:1], add_generation_prompt=True)["input_ids"][0]
    assert torch.equal(batch["input_ids"][0][~learned], asked)


def test_an_example_that_cannot_be_used_is_named(one):
    with pytest.raises(InputError, match="example 1: it has the fields"):
        SpeechCollator(one)([{"prompt": "a", "answer": "b"}, {"text": "c"}])
    with pytest.raises(InputError, match="example 0: its answer is None; expected a string"):
        SpeechCollator(one)([{"prompt": "a", "answer": None}])
    one.tokenizer.chat_template = "{{ messages | length }}"
    with pytest.raises(InputError, match="template"):
        SpeechCollator(one)([{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])


@pytest.mark.parametrize("form", ["prompt", "messages"])
@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (3, r"audio is 3; expected a list of SpeechTokens or waveforms"),
        (None, r"the text has 1 placeholders <\|speech\|> for 0 utterances"),
        ([], r"the text has 1 placeholders <\|speech\|> for 0 utterances"),
        ([None], "audio has None; expected SpeechTokens, a waveform, a path"),
        ([torch.zeros(100)], "audio has a Tensor, and sampling_rate is not given"),
    ],
)
def test_speech_that_cannot_be_used_is_named_with_its_example(one, form, audio, message):
    texts = {"prompt": "a", "answer": "<|speech|>"}
    if form == "messages":
        texts = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<|speech|>"}]}
    with pytest.raises(VocabularyError, match=f"example 1: {message}"):
        SpeechCollator(one)([{"prompt": "a", "answer": "b"}, {**texts, "audio": audio}])


def test_examples_without_fields_name_the_setting_of_trainer(one):
    with pytest.raises(InputError, match=r"example 0: it has no fields; .* remove_unused_columns=False"):
        SpeechCollator(one)([{}, {}])


def test_columns_of_none_count_as_left_out(one, tokens):
    # as tables fill the columns that an example does not have
    with_audio = {"prompt": "Say:", "answer": "<|speech|>", "messages": None, "audio": [tokens[0]]}
    without = {"prompt": "a", "answer": "b", "messages": None, "audio": None}
    batch = SpeechCollator(one)([with_audio, without])
    alone = SpeechCollator(one)([{"prompt": "a", "answer": "b"}])["input_ids"][0]
    assert torch.equal(batch["input_ids"][1][batch["attention_mask"][1].bool()], alone)


def test_conversations_may_hold_their_audio_in_parts(one, tokens):
    in_text = [{"role": "user", "content": "Repeat:<|speech|>"}, {"role": "assistant", "content": "<|speech|> ok"}]
    in_parts = [
        {"role": "user", "content": [{"type": "text", "text": "Repeat:"}, {"type": "audio", "audio": tokens[0]}]},
        {"role": "assistant", "content": [{"type": "audio", "audio": tokens[1]}, {"type": "text", "text": " ok"}]},
    ]
    expected = SpeechCollator(one)([{"messages": in_text, "audio": [tokens[0], tokens[1]]}])
    batch = SpeechCollator(one)([{"messages": in_parts}])
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


@pytest.mark.parametrize("messages", [[], "hello", [[{"role": "user", "content": "a"}]]], ids=str)
def test_messages_that_are_no_conversation_are_refused(one, messages):
    with pytest.raises(InputError, match="example 0: "):
        SpeechCollator(one)([{"messages": messages}])


def test_the_former_field_and_argument_work_with_a_warning(one, speech, tokens):
    example = {"prompt": "Say:", "answer": "<|speech|>"}
    expected = SpeechCollator(one, 16_000)([{**example, "audio": [speech(0.2, 0)]}])
    with pytest.warns(DeprecationWarning, match="use sampling_rate="):
        collator = SpeechCollator(one, sample_rate=16_000)
    with pytest.warns(DeprecationWarning, match="field speech of an example is deprecated; use audio"):
        batch = collator([{**example, "speech": [speech(0.2, 0)]}])
    assert torch.equal(batch["input_ids"], expected["input_ids"])


def test_tokens_of_another_tokenizer_keep_their_error_and_name_the_example(one, tokens):
    other = dataclasses.replace(tokens[0], fingerprint="fedcba")
    with pytest.raises(FingerprintError, match=r"example 0: the tokens were made by tokenizer fedcba"):
        SpeechCollator(one)([{"prompt": "a", "answer": "<|speech|>", "audio": [other]}])


def test_a_model_trains_on_a_batch(one, tokens, new_model):
    model = new_model(one.vocabulary.offset)
    extend_model(model, one.vocabulary, one.speech_tokenizer)
    batch = SpeechCollator(one)([{"prompt": "Say hello:", "answer": "<|speech|>", "audio": [tokens[0]]}])
    model(**batch).loss.backward()
    assert float(model.get_input_embeddings().weight.grad[one.vocabulary.first_code :].abs().sum()) > 0
