import importlib.util
import json
import math
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from examples.speech_lm.ngram import BEFORE, KneserNey
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import speechtok
from examples.speech_lm import evaluate, models, prepare, speak, talk, train
from examples.speech_lm.config import SpeechLmConfig, load_config, run
from examples.speech_lm.data import DRAWN_WORDS, LanguageExamples, VoiceExamples, batches, byte_tokenizer
from examples.speech_lm.phones import HEARD, Lexicon, Phone, Word, align, heard, letter_of
from examples.speech_lm.speak import Talker, Voice, fill, letter_errors
from speechtok.config import from_mapping
from speechtok.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    FingerprintError,
    InputError,
    MissingFileError,
    SpeechtokError,
    VocabularyError,
)
from speechtok.lm.collator import IGNORE
from speechtok.tokens import SpeechTokens

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "examples" / "speech_lm" / "configs").glob("*.yaml"))
TEXTS = ["Good  Morning", "über 12 boote", "yes", None, "no no"]
PHONES = {
    "Good  Morning": ["SIL", "G", "AH1"],
    "über 12 boote": ["B", "SIL", "IY", "T"],
    "good boote": ["+NOISE+", "G", "T"],
    "mornings": ["S"],
}
"""The last text has a word that is not in the lexicon."""

MODEL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory, speech) -> Path:
    """Five utterances to train on, of which one is no audio and one has no text, and two to validate on."""
    folder = tmp_path_factory.mktemp("data")
    for split, texts in (("train", TEXTS), ("dev", ["good boote", "mornings"])):
        rows = []
        for index, text in enumerate(texts):
            name, seconds = f"{split}{index}.flac", 0.3 + 0.1 * index
            soundfile.write(folder / name, speech(seconds, seed=len(name) + index), 16_000)
            rows.append({"id": f"{split}/{index}", "audio": name, "text": text, "lang": "en"})
            if text in PHONES:
                edges = [0.0, 0.1, 0.2, 0.31, seconds]
                rows[-1]["phones"] = [
                    [phone, *edges[i : i + 2]] for i, phone in enumerate(PHONES[text]) if edges[i] < edges[i + 1]
                ]
                rows[-1]["phones"][-1][2] = seconds
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "train4.flac").write_text("no audio at all")
    return folder


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("lexicon") / "words.dict"
    path.write_text("good G\nmorning M AO\nmorning(2) AH\nyes Y EH S\nboote T\n12 IY\nüber B\n")
    return str(path)


@pytest.fixture(scope="module")
def ambiguous(tmp_path_factory) -> Lexicon:
    """The one that says :data:`WAYS`."""
    path = tmp_path_factory.mktemp("ambiguous") / "words.dict"
    path.write_text(";;; a comment\n\nempty\na AH\na(2) AH AH # a place\nab\tAH B\nb B\nb(2) AH B\nc B\n")
    return Lexicon(str(path))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory, tiny) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.save(folder)
    return folder


@pytest.fixture
def values(data, tokenizer_folder, tmp_path) -> dict:
    """Plain values of a training that takes a second."""
    return {
        "data": str(data),
        "out": str(tmp_path / "run"),
        "tokens": str(tmp_path / "tokens"),
        "tokenizer": str(tokenizer_folder),
        "steps": 6,
        "model": MODEL,
        "batch_ids": 150,
        "warmup_steps": 2,
        "bfloat16": False,
        "validate_every": 4,
        "checkpoint_every": 2,
    }


def config_of(values: dict, **changes) -> SpeechLmConfig:
    return from_mapping(SpeechLmConfig, values | changes)


def voice_of(values: dict, **changes) -> SpeechLmConfig:
    stage = {"stage": "voice", "pattern": {"name": "delay", "delays": [0, 2, 2]}, "num_codebooks": 3}
    return config_of(values, **stage, crop_seconds=0.3, **changes)


@pytest.fixture(scope="module")
def spelling(data, tokenizer_folder, tmp_path_factory, lexicon) -> SpeechLmConfig:
    """A training on the two utterances with phones, by them, until it knows them."""
    folder = tmp_path_factory.mktemp("spelling")
    common = {"data": str(data), "tokens": str(folder / "tokens"), "tokenizer": str(tokenizer_folder), "model": MODEL}
    common |= {"bfloat16": False, "warmup_steps": 10, "validate_every": 1000, "batch_ids": 1000}
    return config_of(
        common, out=str(folder / "run"), steps=400, utterances=2, learning_rate=5e-3, weight_decay=0.0, lexicon=lexicon
    )


@pytest.fixture(scope="module")
def trained(data, tokenizer_folder, tmp_path_factory) -> tuple[SpeechLmConfig, Path]:
    """A model that was trained on two utterances until it knows them, and a voice that was hardly trained."""
    folder = tmp_path_factory.mktemp("trained")
    common = {"data": str(data), "tokens": str(folder / "tokens"), "tokenizer": str(tokenizer_folder), "model": MODEL}
    common |= {"bfloat16": False, "warmup_steps": 10, "validate_every": 1000}
    config = config_of(common, out=str(folder / "run"), steps=160, utterances=2, learning_rate=5e-3, weight_decay=0.0)
    train.train(config)
    return config, train.train(voice_of(common, out=str(folder / "voice"), steps=2))


def weights_of(folder: str) -> dict[str, torch.Tensor]:
    return torch.load(Path(folder) / "checkpoint.pt", weights_only=True)["weights"]


def run_talk(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["talk", *arguments])
    return run(talk.main)


# the data


def test_prepared_codes_are_those_of_each_utterance_alone_and_what_is_no_audio_is_left_out(values, tiny, data, capsys):
    utterances = prepare.prepare(config_of(values, num_codebooks=4), tiny, "train")
    assert [(u.id, u.text) for u in utterances] == [
        ("train/0", "good morning"), ("train/1", "über 12 boote"), ("train/2", "yes"), ("train/3", "")
    ]  # fmt: skip
    assert "left out 1 of 5" in capsys.readouterr().out
    for index, one in enumerate(utterances):
        assert torch.equal(one.tokens.codes, tiny.encode(*speechtok.read_audio(data / f"train{index}.flac")).codes)


def test_interrupted_preparation_goes_on_and_never_encodes_again(values, new_tokenizer, monkeypatch):
    monkeypatch.setattr(prepare, "SHARD", 2)
    config, tokenizer, calls = config_of(values, num_codebooks=4), new_tokenizer(), []
    encode = tokenizer.encode

    def interrupted(*arguments, **named):
        calls.append(len(arguments[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(*arguments, **named)

    monkeypatch.setattr(tokenizer, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(config, tokenizer, "train")
    first = prepare.prepare(config, tokenizer, "train")
    assert calls == [2, 2, 2]  # the third shard has no audio that can be read
    second = prepare.prepare(config, tokenizer, "train")
    assert calls == [2, 2, 2]
    assert all(torch.equal(a.tokens.codes, b.tokens.codes) for a, b in zip(first, second, strict=True))


def test_every_byte_is_text(values):
    tokenizer = byte_tokenizer()
    for text in ("good morning", "ÄÖÜ ß 你好 🙂\n\t", "".join(map(chr, range(1, 256)))):
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.encode())
        assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text


def test_what_is_to_be_learned_is_speech_and_its_text_or_what_a_text_becomes(values, tiny):
    config = config_of(values)
    processor = models.make_processor(config, tiny)
    one = prepare.prepare(config, tiny, "train")[0]
    v, speech = processor.vocabulary, processor.vocabulary.to_ids(one.tokens)[0].tolist()
    text = processor.text_tokenizer
    end = [text.eos_token_id]

    def learned(task: str) -> tuple[list[int], list[int]]:
        batch = LanguageExamples([one], processor, [task]).batch([0], 0)
        ids, labels = batch["input_ids"][0], batch["labels"][0]
        assert torch.equal(labels[labels != IGNORE], ids[labels != IGNORE])
        return ids.tolist(), labels[labels != IGNORE].tolist()

    heard = text("\nSaid: good morning")["input_ids"]
    assert learned("hear") == (speech + heard + end, speech + heard + end)
    said = text("Say: good morning\n")["input_ids"]
    assert learned("say") == (said + speech + end, speech + end)
    assert learned("listen") == (speech + end, speech + end)
    assert v.to_codes(speech).codes.tolist() == one.tokens.codes[:, :1].tolist()


def test_by_phones_it_is_words_their_phones_and_pieces_of_speech(values, tiny, lexicon):
    config = config_of(values, lexicon=lexicon)
    processor = models.make_processor(config, tiny)
    utterances = prepare.prepare(config, tiny, "train")
    one = utterances[1]
    # the edges are at 0.1, 0.2 and 0.31 s, a frame late, and the last one is the end of the codes
    assert [(word.text, [(phone.letter, phone.frames) for phone in word.phones]) for word in one.words] == [
        ("über", [("b", 6)]), ("", [("_", 5)]), ("12", [("i", 6)]), ("boote", [("t", 3)])
    ]  # fmt: skip
    v, text = processor.vocabulary, processor.text_tokenizer
    end = [text.eos_token_id]

    def learned(task: str, epoch: int = 0) -> tuple[list[int], list[int]]:
        batch = LanguageExamples([one], processor, [task], Lexicon(lexicon)).batch([0], epoch)
        ids, labels = batch["input_ids"][0], batch["labels"][0]
        assert torch.equal(labels[labels != IGNORE], ids[labels != IGNORE])
        return ids.tolist(), labels[labels != IGNORE].tolist()

    def bytes_of(some: str) -> list[int]:
        return text(some)["input_ids"]

    speech = [v.to_ids(one.tokens.crop(*cut))[0].tolist() for cut in ((0, 6), (6, 11), (11, 17), (17, 20))]
    said = [*bytes_of("Say: über 12 boote\n[über]b b"), *speech[0], *bytes_of("_"), *speech[1]]
    said += [*bytes_of("[12]i i"), *speech[2], *bytes_of("[boote]t t"), *speech[3]]
    chosen = [*bytes_of("[b "), *speech[0], *bytes_of("_"), *speech[1], *bytes_of("[i "), *speech[2]]
    assert learned("say_phones") == (said + end, [*chosen, *bytes_of("[t "), *speech[3], *end])
    # b ends at frame 6, in time for the piece that ends at 10; the pause at 11, which makes the word before it sure
    first, second = (v.to_ids(one.tokens.crop(*cut))[0].tolist() for cut in ((0, 10), (10, 20)))
    rest = bytes_of("[über]_i[12]t[boote]")
    assert learned("hear_phones") == (
        [*first, *bytes_of("b"), *second, *rest, *end],
        [v.bos_id, *bytes_of("b"), v.bos_id, *rest, *end],
    )
    pronounced, letters = learned("pronounce")
    words = re.findall(r"\[(.*?)\](.*?) ", processor.decode(pronounced).text)
    known = {"good": "g", "morning": "mc", "yes": "yEs", "boote": "t", "12": "i", "über": "b"}
    assert len(words) == DRAWN_WORDS
    assert all(known[word] == some for word, some in words)
    assert processor.decode(letters).text == "".join(f"[{some} " for _, some in words)
    assert learned("pronounce") == (pronounced, letters) != learned("pronounce", epoch=1)
    assert not LanguageExamples(utterances[2:], processor, ["say_phones", "hear_phones"]).lengths  # they have none
    assert all(not other.words for other in prepare.prepare(config_of(values), tiny, "train"))  # nobody asked


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["SIL", "AA", "AA0", "ZH", "+NOISE+"]), st.integers(1, 40)), max_size=12),
       st.integers(0, 60))  # fmt: skip
def test_phones_fill_their_utterance(rows, frames):
    ends = np.cumsum([0, *(length for _, length in rows)]) / 100
    aligned = [[name, start, end] for (name, _), start, end in zip(rows, ends, ends[1:], strict=False)]
    phones = align(aligned, frames, 50.0)
    assert sum(phone.frames for phone in phones) == (frames if rows else 0)
    assert all(phone.frames > 0 for phone in phones)
    letters = iter("".join(letter_of(name) for name, _ in rows) + "_")  # if more frames follow
    assert all(phone.letter in letters for phone in phones)  # in their order


def test_what_no_phone_is_said_of_is_a_pause():
    rows = [["AA", 0.5, 0.6], ["B", 0.61, 0.7], ["D", 0.9, 1.0]]
    assert [(phone.letter, phone.frames) for phone in align(rows, 60, 50.0)] == [
        ("_", 26), ("a", 5), ("b", 5), ("_", 10), ("d", 5), ("_", 9)
    ]  # fmt: skip


WAYS = {"a": ["A", "AA"], "ab": ["Ab"], "b": ["b", "Ab"], "c": ["b"]}


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(sorted(WAYS)), st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=6),
       st.integers(0, 2), st.data())  # fmt: skip
def test_the_phones_of_a_text_are_those_of_its_words_in_some_way(ambiguous, spoken, first, data):
    ways = [(word, WAYS[word][way % len(WAYS[word])], pauses) for word, way, pauses in spoken]
    letters = "_" * first + "".join(way + "_" * pauses for _, way, pauses in ways)
    phones = [Phone(letter, data.draw(st.integers(1, 9))) for letter in letters]
    text = " ".join(word for word, _, _ in ways)
    words = ambiguous.split(text, phones)
    assert [phone for word in words for phone in word.phones] == phones
    assert [word.text for word in words if word.text] == text.split()
    for word in words:
        found = "".join(phone.letter for phone in word.phones)
        assert found == "_" if not word.text else found in WAYS[word.text]
    assert not ambiguous.split(text + " c", phones)
    assert not ambiguous.split(text, [*phones, Phone("z", 1)])
    assert not ambiguous.split(text + " unknown", phones)
    codes = torch.randint(0, 32, (1, 1, sum(phone.frames for phone in phones)))
    facts = (codes.shape[2:], codes.shape[2] * 320)
    tokens = SpeechTokens(
        codes, *(torch.tensor([int(x[0]) if isinstance(x, tuple) else x]) for x in facts), 16_000, 320, 32, ""
    )
    pieces = heard(tokens, words)
    assert torch.equal(torch.cat([piece.codes for piece, _ in pieces], 2), codes)
    assert all(piece.codes.shape[2] <= HEARD for piece, _ in pieces)
    ends = np.cumsum([phone.frames for phone in phones])
    for number in range(1, len(pieces)):  # what ends in the last three frames of a piece is not sure yet
        so_far = re.sub(r"\[.*?\]", "", "".join(part for _, part in pieces[:number]))
        assert len(so_far) == (ends <= number * HEARD - 3).sum()
    written = "".join(part for _, part in pieces)
    assert re.sub(r"\[.*?\]", "", written) == letters
    assert re.findall(r"\[(.*?)\]", written) == text.split()


def test_texts_and_phones_can_be_corrected_without_encoding_again(values, tiny, data, tmp_path, lexicon):
    folder = tmp_path / "corrected"
    shutil.copytree(data, folder)
    config = config_of(values, data=str(folder), lexicon=lexicon)
    prepare.prepare(config, tiny, "train")
    lines = (folder / "train.jsonl").read_text().replace("Good  Morning", "boote morning").replace('"G"', '"T"')
    (folder / "train.jsonl").write_text(lines)
    for path in folder.glob("*.flac"):
        path.unlink()
    one = prepare.prepare(config, tiny, "train")[0]
    assert (one.text, [word.text for word in one.words]) == ("boote morning", ["", "boote", "morning"])


def test_a_voice_is_given_codebook_0_and_learns_the_others(values, tiny):
    config = voice_of(values)
    v = models.make_processor(config, tiny).vocabulary
    utterances = prepare.prepare(config, tiny, "train")
    examples = VoiceExamples(utterances, v, frames=10, seed=0)
    assert len(examples.lengths) == sum(one.tokens.codes.shape[2] // 10 for one in utterances)
    batch, again = examples.batch([0, 1], 3), examples.batch([0, 1], 3)
    assert torch.equal(batch["input_ids"], again["input_ids"])
    learned = batch["labels"][batch["labels"] != IGNORE] - v.first_code
    assert len(learned) == 2 * 2 * 10
    assert set((learned // v.codebook_size).tolist()) == {1, 2}


def test_an_epoch_has_every_example_once_in_batches_that_fit():
    lengths = np.random.default_rng(0).integers(5, 90, 200).tolist()
    plan = batches(lengths, 300, seed=1, epoch=2)
    assert Counter(i for batch in plan for i in batch) == Counter(range(200))
    assert all(max(lengths[i] for i in batch) * len(batch) <= 300 for batch in plan)
    assert plan == batches(lengths, 300, seed=1, epoch=2)
    assert plan != batches(lengths, 300, seed=1, epoch=3)
    assert sorted(batches([7, 400], 300, seed=0, epoch=0)) == [[0], [1]]  # one that never fits has a batch of its own


# training


@pytest.mark.parametrize("make", [config_of, voice_of])
def test_an_interrupted_training_reaches_the_weights_of_an_uninterrupted_one(values, make, tmp_path, monkeypatch):
    dropout = MODEL | {"attention_dropout": 0.3}
    train.train(make(values, model=dropout))
    cut = make(values, model=dropout, out=str(tmp_path / "cut"))
    step = train.Trainer.run_step

    def interrupted(self):
        if self.step == 3:
            raise RuntimeError("power cut")
        return step(self)

    monkeypatch.setattr(train.Trainer, "run_step", interrupted)
    with pytest.raises(RuntimeError, match="power cut"):
        train.train(cut)
    monkeypatch.setattr(train.Trainer, "run_step", step)
    train.train(cut)
    one, other = weights_of(values["out"]), weights_of(cut.out)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ctrl_c_saves_and_exports_what_there_is(values, monkeypatch):
    config = config_of(values, steps=1000, checkpoint_every=1000, validate_every=1000)
    step = train.Trainer.run_step

    def interrupted(self):
        if self.step == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(train.Trainer, "run_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(config)
    assert torch.load(Path(config.out) / "checkpoint.pt", weights_only=True)["place"][0] == 3
    assert Talker(Path(config.out) / "model").say("yes", temperature=1.0).tokens.codes.shape[:2] == (1, 1)


def test_the_best_weights_are_exported_if_they_are_to_be_kept(values):
    config = config_of(values, keep_best=True, learning_rate=0.5, steps=8, validate_every=1)  # it gets worse soon
    train.train(config)
    rows = [json.loads(line) for line in (Path(config.out) / "log.jsonl").read_text().splitlines()]
    assert min(row["loss"] for row in rows) < rows[-1]["loss"]
    best = torch.load(Path(config.out) / "best.pt", weights_only=True)
    exported = AutoModelForCausalLM.from_pretrained(Path(config.out) / "model").state_dict()
    assert all(torch.equal(exported[name], weight) for name, weight in best.items())


def test_a_checkpoint_of_another_training_or_tokenizer_is_refused(values, new_tokenizer, tmp_path):
    train.train(config_of(values))
    with pytest.raises(CheckpointError, match=r"text_weight 1\.0, and the config says 2\.0"):
        train.train(config_of(values, text_weight=2.0))
    new_tokenizer(seed=1).save(tmp_path / "other")
    with pytest.raises(CheckpointError, match="trained with the speech tokenizer"):
        train.train(config_of(values, tokenizer=str(tmp_path / "other")))
    corrected = tmp_path / "corrected"
    shutil.copytree(values["data"], corrected)
    lines = (corrected / "train.jsonl").read_text()
    (corrected / "train.jsonl").write_text(lines.replace('"yes"', '"yes indeed"'))
    with pytest.raises(CheckpointError, match="trained on other utterances, texts or phones"):
        train.train(config_of(values, data=str(corrected)))
    (Path(values["out"]) / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="delete it to start again"):
        train.train(config_of(values))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_one_and_no_new_model_has_more_than_30_million_parameters(path):
    config = load_config(str(path), ["data=somewhere"])
    if config.model:
        tokenizer = speechtok.load()
        ids = models.make_processor(config, tokenizer).vocabulary.stop_id
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config.model, vocab_size=ids))
        assert sum(p.numel() for p in model.parameters()) < 30e6


@pytest.mark.parametrize("tied", [True, False])
def test_lora_trains_small_changes_of_a_pretrained_model_and_the_new_ids(values, tmp_path, tied):
    pytest.importorskip("peft")
    base = tmp_path / "base"
    text = byte_tokenizer()
    text.save_pretrained(base)
    fields = {name: value for name, value in MODEL.items() if name not in ("model_type", "tie_word_embeddings")}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(text), tie_word_embeddings=tied, **fields)).save_pretrained(base)
    del values["model"]
    train.train(config_of(values, pretrained=str(base), lora_rank=2, learning_rate=0.05))
    before = AutoModelForCausalLM.from_pretrained(base)
    after = AutoModelForCausalLM.from_pretrained(Path(values["out"]) / "model")
    old = before.get_input_embeddings().weight
    assert torch.equal(after.get_input_embeddings().weight[: len(old)], old)  # the texts as they were
    assert not torch.equal(after.model.layers[0].mlp.up_proj.weight, before.model.layers[0].mlp.up_proj.weight)
    start = models.make_model(config_of(values, pretrained=str(base)), Talker(Path(values["out"]) / "model").processor)
    for table in ("get_input_embeddings", "get_output_embeddings"):
        new, made = getattr(after, table)().weight, getattr(start, table)().weight
        assert new.shape == made.shape
        assert not torch.equal(new[len(old) :], made[len(old) :])
    assert len(weights_of(values["out"])) < 40  # and no weight of the model itself is in the checkpoint
    assert Talker(Path(values["out"]) / "model").say("yes", temperature=1.0).tokens.codes.shape[:2] == (1, 1)


def test_lora_without_peft_says_what_to_install(values, monkeypatch, tmp_path, tiny):
    del values["model"]
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else find(name, *rest))
    monkeypatch.setattr(models, "_pretrained", lambda kind, name, **_: LlamaForCausalLM(
        LlamaConfig(vocab_size=300, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    ))  # fmt: skip
    processor = models.SpeechProcessor(byte_tokenizer(), tiny, speechtok.AudioVocabulary(tiny, "semantic"))
    with pytest.raises(ConfigError, match="pip install"):
        models.make_model(config_of(values, pretrained="anything", lora_rank=2), processor)


# what a trained model does


def test_utterances_can_be_memorised_text_to_codes_exactly_and_back(trained):
    config, _ = trained
    figures = evaluate.evaluate(config)
    assert figures["utterances"] == figures["said exactly"] == 2
    assert figures["frames said right"] == 1
    assert figures["letter errors"] == 0
    assert json.loads((Path(config.out) / "evaluation.json").read_text()) == figures


def test_by_its_phones_too_an_utterance_is_memorised_and_its_phones_are_heard(spelling):
    train.train(spelling)
    talker = Talker(Path(spelling.out) / "model")
    utterances = prepare.prepare(spelling, talker.tokenizer, "train")
    figures = evaluate.memorised(talker, utterances)
    assert figures["said exactly"] == figures["utterances"] == 2
    assert figures["letter errors"] == 0
    for one in utterances:
        assert talker.hear(one.tokens) == (
            one.text,
            "".join(phone.letter for word in one.words for phone in word.phones),
        )
        take = talker.say(one.text)
        assert take.words == one.words
        other = next(other for other in utterances if other is not one)
        assert talker.surprise(take) < talker.surprise(evaluate._as_if(take, other))


@pytest.mark.parametrize("takes", [1, 3])
def test_whatever_is_said_every_word_is_said_once_and_no_phone_for_ever(values, takes, lexicon, monkeypatch):
    monkeypatch.setattr(speak, "MOST_SECONDS", 100.0)
    talker = Talker(train.train(config_of(values, lexicon=lexicon, steps=1)))  # it knows nothing
    spoken = talker._takes("any, WORDS!", takes, 2.0)
    assert len(spoken) == takes
    for one in spoken:
        assert [word.text for word in one.words if word.text] == ["any", "words"]
        frames = [(phone.letter, phone.frames) for word in one.words for phone in word.phones]
        assert sum(n for _, n in frames) == one.tokens.codes.shape[2]
        # a run of 16 frames may end a phone that had room for one frame more
        assert all(1 <= n <= (60 if letter == "_" else 30) + 15 for letter, n in frames)
        assert all(1 <= len(word.phones) <= 24 for word in one.words)
    with pytest.raises(InputError, match="has no words; expected something to pronounce"):
        talker.say("...")


def test_what_takes_too_long_to_say_is_cut_between_words(values, lexicon, monkeypatch):
    monkeypatch.setattr(speak, "MOST_SECONDS", 0.1)
    talker = Talker(train.train(config_of(values, lexicon=lexicon, steps=1)))
    said = talker.say("one two three four five six seven", temperature=1.0)
    words = [word.text for word in said.words if word.text]
    assert words == ["one", "two", "three", "four", "five", "six", "seven"][: len(words)]
    assert len(words) < 7


@pytest.mark.parametrize("phones", [False, True])
def test_dev_is_measured_beside_a_trigram_and_its_sentences_are_said(values, trained, monkeypatch, phones, lexicon):
    monkeypatch.setattr(speak, "MOST_SECONDS", 0.5)  # one that has hardly learned finds no end
    monkeypatch.setattr(speak, "MOST_LETTERS", 20)
    monkeypatch.setattr(speak, "MOST_PHONES", 3)
    config = config_of(values, lexicon=lexicon if phones else "")
    train.train(config)
    figures = evaluate.evaluate(config, str(trained[1]), sentences=2, takes=2)
    assert all(math.isfinite(value) for value in figures.values())
    if phones:
        assert 0 < figures["frames whose code is of their phone, real"] <= 1
    assert phones == ("phone errors" in figures) == ("phone errors, of its own pronunciation" in figures)
    assert 1 < figures["perplexity of the trigram"] < 100
    assert 1 < figures["perplexity"] < 1000
    right, wrong = (
        ("of the speech of phones", "of that of other phones") if phones else ("after its text", "after another text")
    )
    assert figures[f"perplexity {right}"] != figures[f"perplexity {wrong}"] or phones  # one sentence has phones
    assert {path.suffix for path in (Path(config.out) / "said").iterdir()} == {".wav", ".json"}


@pytest.mark.parametrize("with_voice", [False, True])
def test_say_transcribe_and_continue_from_the_command_line(trained, data, tmp_path, monkeypatch, capsys, with_voice):
    config, voice = trained
    common = ["--model", f"{config.out}/model", *(["--voice", str(voice)] * with_voice)]
    said, longer, source = str(tmp_path / "said.wav"), str(tmp_path / "longer.wav"), str(data / "train0.flac")
    reference = ["--reference", source] * with_voice
    assert run_talk(monkeypatch, "say", "Good morning", said, "--takes", "2", *reference, *common) == 0
    assert len(speechtok.read_audio(said)[0]) > 0
    assert run_talk(monkeypatch, "continue", source, longer, "--seconds", "0.5", *common) == 0
    heard, whole = speechtok.read_audio(source)[0], speechtok.read_audio(longer)[0]
    assert len(heard) < len(whole) <= len(heard) + 8000 + 320
    capsys.readouterr()
    known = prepare.prepare(config, speechtok.load(config.tokenizer), "train")[0]
    source = str(data / f"train{known.id[-1]}.flac")
    assert run_talk(monkeypatch, "transcribe", source, *common) == 0
    assert capsys.readouterr().out == f"{known.text}\n"


def test_guidance_knows_what_would_follow_the_codes_alone(spelling, monkeypatch):
    train.train(spelling)
    talker = Talker(Path(spelling.out) / "model")
    v, written, told = talker.vocabulary, [], []

    def recorded(writer):
        ask = next(writer)
        while True:
            written.append((yield ask))
            try:
                ask = writer.send(written[-1])
            except StopIteration as stop:
                return stop.value

    def pick(scores, without, symbols, *_):
        told.append((len(written), without, symbols))
        return int(torch.multinomial(torch.softmax(scores, 0), 1))

    monkeypatch.setattr(speak, "pick_speech", pick)
    prompt = talker.processor("Say: good über\n")["input_ids"]
    writer = speak.Writer(talker.processor, ["good", "über"]).write()
    ((codes, words),) = speak.write_together(talker.model, prompt, [recorded(writer)], v, 1.0, guidance=2.0)
    assert [word.text for word in words if word.text] == ["good", "über"]
    assert len(told) > codes.shape[1] / 16
    for count, without, symbols in told:
        alone = [v.bos_id, *(i for i in written[:count] if i >= v.first_code)]
        with torch.inference_mode():
            logits = talker.model(input_ids=torch.tensor([alone])).logits[0, -1]
        assert torch.allclose(without, logits[symbols + v.first_code], atol=1e-4)


def test_guidance_makes_a_code_likelier_that_is_likely_for_what_is_said_and_leaves_the_end_as_it_is(tiny):
    v = speechtok.AudioVocabulary(tiny, "semantic")
    symbols = torch.tensor([-3, 0, 1])  # the end and two codes
    told, without = torch.tensor([0.5, 0.2, 0.3]).log(), torch.tensor([0.1, 0.2, 0.7]).log()

    def shares(guidance: float) -> list[float]:
        torch.manual_seed(0)
        picks = [speak.pick_speech(told, without, symbols, v, 1.0, guidance) for _ in range(4000)]
        return [picks.count(i) / 4000 for i in range(3)]

    assert shares(0.0) == pytest.approx([0.5, 0.2, 0.3], abs=0.03)
    ratio = (2 / 3) * ((2 / 3) / (2 / 7)) ** 2  # of the codes, twice over what they were without
    assert shares(2.0) == pytest.approx([0.5, 0.5 * ratio / (1 + ratio), 0.5 / (1 + ratio)], abs=0.03)
    assert speak.pick_speech(told, without, symbols, v, 0.0, 0.0) == 0


@pytest.mark.parametrize("by_phones", [False, True])
def test_what_is_said_can_be_heard_while_it_is(trained, spelling, by_phones, monkeypatch, capsysbinary):
    if by_phones:
        train.train(spelling)  # it is, if the whole file is run
    folder = Path((spelling if by_phones else trained[0]).out) / "model"
    talker, chunks = Talker(folder), []
    said = talker.say("über 12 boote", play=chunks.append)
    assert len(chunks) > 3
    assert torch.equal(torch.cat(chunks), talker.tokenizer.decode(said.tokens)[0])
    capsysbinary.readouterr()
    assert run_talk(monkeypatch, "say", "über 12 boote", "-", "--temperature", "0", "--model", str(folder)) == 0
    samples = np.frombuffer(capsysbinary.readouterr().out, np.int16)
    assert np.abs(samples / 32_767 - torch.cat(chunks).clamp(-1, 1).numpy()).max() < 1e-4


def test_the_take_that_is_kept_is_the_one_that_the_model_understands_best(trained):
    talker = Talker(Path(trained[0].out) / "model")
    one = prepare.prepare(trained[0], talker.tokenizer, "train")[0]
    right, wrong = one.tokens.codes[0, :1], torch.zeros(1, 30, dtype=torch.int64)
    talker._speech = lambda *_, **__: [wrong, right, wrong[:, :0]]
    assert torch.equal(talker.say(one.text, takes=3).tokens.codes[0], right)


def test_speech_goes_on_for_as_long_as_was_asked_though_an_id_may_be_many_frames(trained, data):
    talker = Talker(Path(trained[0].out) / "model")
    heard = talker.tokenizer.encode(*speechtok.read_audio(data / "dev0.flac"))
    asked = []

    def speech(prompt, seconds, takes, temperature, at_least):
        asked.append((seconds, at_least))
        before = talker.vocabulary.to_codes(prompt[0]).codes[0]
        assert torch.equal(before, heard.codes[0, :1])
        return [torch.cat([before, torch.arange(1000)[None] % 32], 1)]

    talker._speech = speech
    assert talker.go_on(heard, 0.5).tolist() == list(range(25))
    assert asked == [(0.5, 0.25)]


def test_a_voice_keeps_what_is_said_however_long_it_is(trained, tiny):
    voice = Voice(trained[1])
    reference = torch.randint(0, 32, (3, 40))
    for frames in (1, voice.frames, 2 * voice.frames + 3):
        codes = torch.randint(0, 32, (frames,))
        for known in (None, reference):
            spoken = voice(codes, known)
            assert spoken.shape == (3, frames)
            assert torch.equal(spoken[0], codes)
            assert 0 <= int(spoken.min()) <= int(spoken.max()) < 32


def test_filling_what_is_missing_is_what_the_model_finds_likeliest(trained):
    voice = Voice(trained[1])
    v = voice.vocabulary
    given = torch.randint(0, 32, (3, 8))
    given[1:] = -1
    filled = fill(voice.model, v, given, temperature=0.0)
    ids = v.to_ids(filled[None])
    with torch.inference_mode():
        logits = voice.model(input_ids=ids).logits[0, :-2]  # at each id, of the next; the end is not asked for
    for place, id_ in enumerate(ids[0, 1:-1].tolist()):
        first = v.first_code + (id_ - v.first_code) // 32 * 32
        if first > v.first_code:
            assert int(logits[place, first : first + 32].argmax()) == id_ - first


def test_frames_that_keep_to_their_phones_are_counted():
    def utterance(codes: list[int], letters: str) -> prepare.Utterance:
        frames = torch.tensor([len(codes)])
        tokens = SpeechTokens(torch.tensor([[codes]]), frames, 320 * frames, 16_000, 320, 4, "")
        return prepare.Utterance("", letters, "", tokens, (Word(letters, tuple(Phone(x, 1) for x in letters)),))

    commonest = evaluate.commonest_phones([utterance([0, 0, 1, 1, 1], "aabbA"), utterance([0, 3], "b_")], 4)
    assert commonest == ["a", "b", "", "_"]
    assert evaluate.phones_kept([utterance([0, 1, 2, 0, 3], "abb__")], commonest) == pytest.approx(2 / 3)


def test_letter_errors_are_insertions_deletions_and_substitutions():
    assert letter_errors(["abc"], ["abc"]) == 0
    assert letter_errors(["abcd", "ef"], ["abxd", "efg"]) == pytest.approx(2 / 6)
    assert letter_errors(["abc"], [""]) == 1


# the trigram


def test_the_probabilities_after_any_context_sum_to_one():
    rng = np.random.default_rng(0)
    model = KneserNey([rng.integers(0, 8, 30).tolist() for _ in range(20)], symbols=10)
    for context in ([], [BEFORE, BEFORE], [BEFORE, 3], [1, 2], [9, 1], [9, 9]):
        assert sum(model.probability(context, symbol) for symbol in range(10)) == pytest.approx(1)
        assert min(model.probability(context, symbol) for symbol in range(10)) > 0


def test_a_trigram_knows_what_two_symbols_tell_and_bigrams_do_not():
    rng = np.random.default_rng(0)

    def sequence() -> list[int]:
        row = rng.integers(0, 6, 2).tolist()
        for _ in range(60):
            row.append((row[-1] + row[-2]) % 6 if rng.random() < 0.9 else int(rng.integers(6)))
        return row

    known, new = [sequence() for _ in range(60)], [sequence() for _ in range(10)]
    trigram, bigram = (math.exp(sum(map(KneserNey(known, 6, order).nll, new)) / sum(map(len, new))) for order in (3, 2))
    assert trigram < 2.2 < bigram < 6.5


# mistakes


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stage": "music"}, ConfigError, "stage is 'music'; expected one of language, voice"),
        ({"steps": 0}, ConfigError, "steps is 0; expected at least 1"),
        ({"learning_rate": 0.0}, ConfigError, "learning_rate is 0.0; expected above 0"),
        ({"model": {}}, ConfigError, "expected one of them"),
        ({"pretrained": "x"}, ConfigError, "expected one of them"),
        ({"lora_rank": 4}, ConfigError, "lora_rank is 4 without pretrained"),
        ({"stage": "voice"}, ConfigError, "num_codebooks is 1 for the stage voice"),
        ({"lexicon": "words.dict", "stage": "voice"}, ConfigError, "lexicon is 'words.dict' for the stage voice"),
        ({"lexicon": "nothing.dict"}, MissingFileError, "lexicon is 'nothing.dict', which does not exist"),
        ({"lexicon": __file__}, InputError, "line 1: the phone is"),
        ({"lexicon": "/dev/null"}, MissingFileError, "expected a pronouncing dictionary"),
        ({"model": {"model_type": "nothing"}}, ConfigError, "of which transformers makes no language model"),
        ({"model": {"hidden_size": 8}}, ConfigError, "expected a model_type"),
        ({"pattern": {"name": "zigzag"}}, VocabularyError, "pattern is"),
        ({"pattern": {"name": "parallel"}}, VocabularyError, "expected a vocabulary with a pattern of one line"),
        ({"data": "nowhere"}, MissingFileError, "train.jsonl does not exist"),
        ({"utterances": 99}, InputError, "utterances is 99, and .* has 4 with a text"),
        ({"tokenizer": "nowhere/at-all/x"}, MissingFileError, "nowhere"),
        ({"device": "cuda:77"}, ConfigError, "device is 'cuda:77'"),
    ],
)
def test_a_mistake_in_a_config_says_what_was_expected(values, changes, error, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(error, match=message):
        train.train(config_of(values, **changes))


def test_a_pretrained_model_that_is_not_there_is_named(values, tmp_path):
    del values["model"]
    with pytest.raises(InputError, match="which transformers cannot load"):
        train.train(config_of(values, pretrained=str(tmp_path)))


@pytest.mark.parametrize("line", ["no JSON", '{"text": "x"}', '["a.flac"]', '{"audio": "a.flac", "text": 3}'])
def test_a_manifest_that_is_none_is_named_with_its_line(values, tiny, tmp_path, line):
    (tmp_path / "train.jsonl").write_text(f'{{"audio": "a.flac"}}\n{line}\n')
    with pytest.raises(InputError, match="line 2 is"):
        prepare.prepare(config_of(values, data=str(tmp_path)), tiny, "train")
    (tmp_path / "train.jsonl").write_text('{"audio": "a.flac"}\n')
    with pytest.raises(AudioError, match="none of the 1 utterances"):
        prepare.prepare(config_of(values, data=str(tmp_path)), tiny, "train")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["Q", 0.1, 0.2], "the phone is 'Q'; expected ARPAbet"),
        (["AA", 0.1, 0.1], "it goes from 0.1 to 0.1"),
        (["AA", 0.1, math.inf], "it goes from 0.1 to inf"),
        (["AA", 0.02, 0.3], "the one before ends at 0.1"),
        (["AA", 0.1], "expected .phone, start_s, end_s."),
        ("AA", "expected .phone, start_s, end_s."),
    ],
)
def test_phones_that_are_none_are_named_with_their_utterance(values, tiny, data, tmp_path, row, message, lexicon):
    folder = tmp_path / "phones"
    shutil.copytree(data, folder)
    line = {"id": "one", "audio": "train0.flac", "text": "good", "phones": [["SIL", 0.0, 0.1], row]}
    (folder / "train.jsonl").write_text(json.dumps(line))
    with pytest.raises(InputError, match=f"one: phone 1 is .*{message}"):
        prepare.prepare(config_of(values, data=str(folder), lexicon=lexicon), tiny, "train")
    del line["phones"]
    (folder / "train.jsonl").write_text(json.dumps(line))
    with pytest.raises(InputError, match=r"has no phones that .* has for its texts; expected some"):
        prepare.prepare(config_of(values, data=str(folder), lexicon=lexicon), tiny, "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["say", " ", "out.wav"], "the text is empty"),
        (["say", "yes", "out.wav", "--takes", "0"], "takes is 0; expected at least 1"),
        (["say", "yes", "out.wav", "--temperature", "-1"], "temperature is -1.0; expected at least 0"),
        (["say", "yes", "out.wav", "--reference", "nothing.wav"], "nothing.wav does not exist"),
        (["say", "yes", "-", "--voice", "the voice"], "out is - with --voice"),
        (["transcribe", "nothing.wav"], "nothing.wav does not exist"),
        (["continue", "nothing.wav", "out.wav"], "nothing.wav does not exist"),
        (["say", "yes", "nowhere/out.wav"], "cannot write nowhere/out.wav"),
        (["transcribe", "in.wav", "--model", "nowhere"], "nowhere has no training.json"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(trained, arguments, message, monkeypatch, capsys):
    arguments = [str(trained[1]) if argument == "the voice" else argument for argument in arguments]
    model = [] if "--model" in arguments else ["--model", f"{trained[0].out}/model"]
    assert run_talk(monkeypatch, *arguments, *model) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")


def test_models_that_do_not_belong_together_are_refused(trained, values, new_tokenizer, tmp_path, data):
    model = Path(trained[0].out) / "model"
    with pytest.raises(InputError, match="a model of the stage language; expected one of the stage voice"):
        Talker(model, model)
    with pytest.raises(InputError, match="stage is voice"):
        evaluate.evaluate(voice_of(values))
    talker = Talker(model)
    with pytest.raises(InputError, match="pass --voice too"):
        talker.audio(
            torch.zeros(3, dtype=torch.int64), talker.tokenizer.encode(*speechtok.read_audio(data / "dev0.flac"))
        )
    new_tokenizer(seed=1).save(tmp_path / "other")
    other = train.train(voice_of(values, tokenizer=str(tmp_path / "other"), steps=1))
    with pytest.raises(FingerprintError, match="expected the same one"):
        Talker(model, other)


def test_a_damaged_model_is_named(values):
    folder = train.train(config_of(values, steps=1))
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SpeechtokError, match="cannot be read"):
        Talker(folder)
