import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoProcessor

import speechtok
from speechtok.errors import CheckpointError, MissingFileError, OutputError, VocabularyError
from speechtok.lm import SpeechProcessor, TokenizerInfo


def test_placeholders_are_replaced_and_decode_restores_text_and_speech(processor, tokens):
    text = "What was said in<|speech|>? Say<|speech|>"
    ids = processor(text, [tokens])["input_ids"][0]
    said = processor.decode(ids)
    unchanged = processor.tokenizer(text)["input_ids"]
    placeholder = processor.vocabulary.placeholder_id
    assert [i for i in ids.tolist() if i < processor.vocabulary.offset] == [i for i in unchanged if i != placeholder]
    assert said.text.count("<|speech|>") == 2
    for got, expected in zip(said.speech, (tokens[0], tokens[1]), strict=True):
        assert torch.equal(got.codes, expected.codes[:, :1])


def test_waveforms_are_encoded(one, tokens, speech):
    with_tokens = one("Say<|speech|>", [tokens[0]])
    assert torch.equal(one("Say<|speech|>", [speech(0.2, 0)], 16_000)["input_ids"], with_tokens["input_ids"])
    with pytest.raises(VocabularyError, match="sampling_rate"):
        one("Say<|speech|>", [speech(0.2, 0)])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_are_padded_on_the_padding_side_of_the_text_tokenizer(one, tokens, side):
    one.tokenizer.padding_side = side
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
    ids = processor.apply_chat_template(messages, audio=[tokens[0]], add_generation_prompt=True)["input_ids"][0]
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered.endswith("<|assistant|>")
    assert torch.equal(ids, processor(rendered, [tokens[0]], add_special_tokens=False)["input_ids"][0])
    assert torch.equal(processor.decode(ids).speech[0].codes, tokens[0].codes[:, :1])


def test_a_full_disk_is_an_output_error_of_a_processor_that_is_saved(processor, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(processor.tokenizer, "save_pretrained", full)
    with pytest.raises(OutputError, match=r"cannot write to .*No space left"):
        processor.save_pretrained(tmp_path)


def test_a_saved_processor_gives_the_same_ids(processor, tokens, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = SpeechProcessor.from_pretrained(tmp_path)
    assert loaded.vocabulary == processor.vocabulary
    assert loaded.speech_tokenizer.fingerprint == processor.speech_tokenizer.fingerprint
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


@pytest.mark.parametrize("audio", [3, torch.tensor(0.5), {1, 2}, [{3}], [None]], ids=str)
def test_audio_that_is_not_a_list_of_utterances_is_refused(one, audio):
    with pytest.raises(VocabularyError, match=r"audio (is|has) .*; expected (a list of )?SpeechTokens"):
        one("hello", audio)


def test_one_utterance_needs_no_list(one, tokens, speech):
    expected = one("Say<|speech|>", [tokens[0]])["input_ids"]
    for audio in (tokens[0], speech(0.2, 0), speech(0.2, 0).tolist()):
        assert torch.equal(one("Say<|speech|>", audio, 16_000)["input_ids"], expected)
    assert torch.equal(one(audio=tokens[0])["input_ids"], one("<|speech|>", [tokens[0]])["input_ids"])


def test_audio_columns_of_datasets_are_encoded(one, speech, tmp_path):
    samples = speech(0.2, 0)
    path = tmp_path / "a.wav"
    speechtok.write_audio(path, samples, 16_000)
    exact, from_file = (one("<|speech|>", [audio], 16_000)["input_ids"] for audio in (samples, path))
    decoder = SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=torch.from_numpy(samples)[None], sample_rate=16_000)
    )
    for audio in ({"array": samples, "sampling_rate": 16_000, "path": None}, decoder):
        assert torch.equal(one("<|speech|>", [audio])["input_ids"], exact)
    for audio in ({"path": str(path), "array": None}, {"bytes": path.read_bytes(), "path": "a.wav"}, str(path)):
        assert torch.equal(one("<|speech|>", [audio])["input_ids"], from_file)
    with pytest.raises(VocabularyError, match=r"audio has a mapping with \['text'\]; expected array and sampling_rate"):
        one("<|speech|>", [{"text": "a"}])


def test_the_arguments_of_padding_are_those_of_transformers(one, tokens):
    texts = ["Say<|speech|>", "hello"]
    lists = one(texts, [tokens[0]], padding=False, return_tensors=None)
    lengths = list(map(len, lists["input_ids"]))
    assert lengths[0] != lengths[1]
    assert one(texts, [tokens[0]])["input_ids"].shape == (2, max(lengths))
    assert one(texts, [tokens[0]], pad_to_multiple_of=64)["input_ids"].shape[1] % 64 == 0
    longer = one(texts, [tokens[0]], padding="max_length", max_length=200, padding_side="left", return_tensors="np")
    assert longer["input_ids"].shape == (2, 200)
    assert longer["input_ids"][1, -lengths[1] :].tolist() == lists["input_ids"][1]
    assert longer["attention_mask"].sum(1).tolist() == lengths
    for arguments, message in (
        ({"padding": False}, "the rows differ in length"),
        ({"padding": "max_length"}, "max_length None"),
        ({"padding": "max_length", "max_length": 3}, f"a row has {max(lengths)} ids"),
        ({"padding": "all"}, "padding is 'all'"),
        ({"padding_side": "up"}, "padding_side is 'up'"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of is 0"),
        ({"return_tensors": "tf"}, "return_tensors is 'tf'"),
        ({"truncation": True}, "truncation is True; expected False"),
    ):
        with pytest.raises(VocabularyError, match=message):
            one(texts, [tokens[0]], **arguments)


def test_text_that_is_not_text_is_refused(one):
    for text in (3, ["a", None]):
        with pytest.raises(VocabularyError, match=r"text is .*; expected a string or a list of strings"):
            one(text)


def test_batches_of_conversations_equal_the_conversations_alone(one, tokens):
    conversations = [
        [{"role": "user", "content": "What was said in<|speech|>?"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        [{"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": " and "}, {"type": "audio"}]}],
    ]
    audio = [tokens[0], tokens[1], tokens[0]]
    batch = one.apply_chat_template(conversations, audio=audio, add_generation_prompt=True)
    for row, (conversation, own) in enumerate(zip(conversations, (audio[:1], [], audio[1:]), strict=True)):
        alone = one.apply_chat_template(conversation, audio=own, add_generation_prompt=True)["input_ids"][0]
        assert torch.equal(batch["input_ids"][row][batch["attention_mask"][row].bool()], alone)
    texts = one.apply_chat_template(conversations, tokenize=False)
    assert texts == [one.apply_chat_template(conversation, tokenize=False) for conversation in conversations]
    ids = one.apply_chat_template(conversations, audio=audio, add_generation_prompt=True, return_dict=False)
    assert torch.equal(ids, batch["input_ids"])


def test_audio_parts_come_in_the_order_of_the_conversation(one, tokens, speech):
    part = {"type": "audio", "audio": {"array": speech(0.2, 0), "sampling_rate": 16_000}}
    conversation = [
        {"role": "user", "content": ["First ", part, {"type": "text", "text": "then <|speech|>"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": [{"type": "audio", "audio": tokens[0]}]},
    ]
    said = one.decode(one.apply_chat_template(conversation, audio=[tokens[1]])["input_ids"][0])
    for got, expected in zip(said.speech, (tokens[0], tokens[1], tokens[0]), strict=True):
        assert torch.equal(got.codes, expected.codes)


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ("hello", "conversation is 'hello'; expected a list of messages"),
        ([[], {}], "conversation is .*; expected a list of messages"),
        ([{"role": "user", "content": 3}], "the content of a message is 3; expected a string or a list of parts"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a content has the part {'type': 'image'}; expected"),
        ([{"role": "user", "content": [{"type": "text"}]}], "a content has the part {'type': 'text'}; expected"),
        ([{"role": "user", "content": [{"type": "audio", "url": "http://a"}]}], "url .* download it first"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "more placeholders"),
    ],
)
def test_conversations_that_cannot_be_used_are_refused(one, conversation, message):
    with pytest.raises(VocabularyError, match=message):
        one.apply_chat_template(conversation)


def test_utterances_without_a_placeholder_are_refused(one, tokens):
    with pytest.raises(VocabularyError, match=r"0 placeholders .* for 1 utterances"):
        one.apply_chat_template([{"role": "user", "content": "hello"}], audio=[tokens[0]])


def test_decoded_text_is_a_string(one, tokens):
    ids = one("Say<|speech|>", [tokens[0]])["input_ids"]
    (said,) = one.batch_decode(ids)
    assert isinstance(said, str)
    assert said == said.text == one.decode(ids[0])
    assert torch.equal(said.speech[0].codes, tokens[0].codes)


def test_former_names_work_with_a_warning(one, tokens, speech):
    expected = one("Say<|speech|>", [speech(0.2, 0)], 16_000)["input_ids"]
    with pytest.warns(DeprecationWarning, match=r"speech=…\) is deprecated; use audio="):
        assert torch.equal(one("Say<|speech|>", speech=[speech(0.2, 0)], sampling_rate=16_000)["input_ids"], expected)
    with pytest.warns(DeprecationWarning, match="text_tokenizer is deprecated; use tokenizer"):
        assert one.text_tokenizer is one.tokenizer


def test_code_in_a_folder_is_never_run(one, tmp_path, monkeypatch):
    one.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "tokenizer_config.json").read_text())
    values |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on stdin"))
    with pytest.raises(CheckpointError, match="transformers cannot load"):
        SpeechProcessor.from_pretrained(tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_auto_processor_loads_it_or_says_how(one, tokens, tmp_path):
    one.save_pretrained(tmp_path / "saved")
    expected = one("Say<|speech|>", [tokens[0]])["input_ids"][0].tolist()
    assert type(AutoProcessor.from_pretrained(tmp_path / "saved")) is SpeechProcessor
    program = """
import sys
import speechtok
from transformers import AutoProcessor
try:
    AutoProcessor.from_pretrained("saved")
except ValueError as error:
    print("\\nsays how:", "trust_remote_code=True" in str(error))
processor = AutoProcessor.from_pretrained("saved", trust_remote_code=True)
ids = processor("Say<|speech|>", speechtok.SpeechTokens.load("x.tokens"))["input_ids"]
print(type(processor).__name__, ids.tolist())
"""
    tokens[0].save(tmp_path / "x.tokens")
    paths = [str(Path(speechtok.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    assert done.stdout.splitlines()[-2:] == ["says how: True", f"SpeechProcessor {[expected]}"], done.stderr


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
    assert loaded.vocabulary.fingerprint == loaded.speech_tokenizer.fingerprint
    tokens = loaded.speech_tokenizer.encode(speech(0.2), 16_000)
    (said,) = loaded.decode(loaded("<|speech|>", [tokens])["input_ids"][0]).speech
    assert torch.equal(said.codes, tokens.codes)
