import dataclasses
import importlib.util
import json
import math
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import speechtok
from examples.speech_lm import evaluate, models, prepare, speak, talk, train
from examples.speech_lm.config import SpeechLmConfig, load_config, run
from examples.speech_lm.data import LanguageExamples, VoiceExamples, batches, byte_tokenizer
from examples.speech_lm.ngram import BEFORE, KneserNey
from examples.speech_lm.phones import Lexicon, align, heard, letter_of, script, spelled
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
TEXTS = ["Good  Morning", "über 12 Boote", "yes", None, "no no"]
PHONES = ["G", "B"]
"""The second of the first two texts; the first is SIL, and the third AH."""

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
            if index < 2:
                rows[-1]["phones"] = [["SIL", 0.0, 0.09], [PHONES[index], 0.09, 0.2], ["AH1", 0.2, seconds]]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "train4.flac").write_text("no audio at all")
    return folder


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("lexicon") / "words.dict"
    path.write_text("good G UH D\nmorning M AO R N IH NG\nmorning(2) M AH\nyes Y EH S\nboote B OW1 T\n12 T W EH L V\n")
    return str(path)


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
def spelling(data, tokenizer_folder, tmp_path_factory) -> SpeechLmConfig:
    """A model that was trained on the same two utterances by their phones until it knows them."""
    folder = tmp_path_factory.mktemp("spelling")
    common = {"data": str(data), "tokens": str(folder / "tokens"), "tokenizer": str(tokenizer_folder), "model": MODEL}
    common |= {"bfloat16": False, "warmup_steps": 10, "validate_every": 1000, "batch_ids": 1000}
    return config_of(
        common, out=str(folder / "run"), steps=160, utterances=2, learning_rate=5e-3, weight_decay=0.0, phones=True
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


def test_by_phones_it_is_pieces_of_speech_and_their_letters(values, tiny, lexicon):
    config = config_of(values, phones=True)
    processor = models.make_processor(config, tiny)
    utterances = prepare.prepare(config, tiny, "train")
    one = utterances[1]
    assert [phone.letter for phone in one.phones] == list("_bA")
    # the edges are at 0.09 and 0.2 s, a frame late, and the last one is the end of the codes
    assert [phone.frames for phone in one.phones] == [6, 5, 9]

    def learned(task: str, epoch: int = 0) -> tuple[str, list[int], str]:
        lines = Lexicon(lexicon, ["good morning"])
        batch = LanguageExamples([one], processor, [task], lines).batch([0], epoch)
        ids, labels = batch["input_ids"][0], batch["labels"][0]
        whole, some = processor.decode(ids), processor.decode(labels[labels != IGNORE])
        if whole.speech:
            assert torch.equal(SpeechTokens.join(whole.speech).codes, one.tokens.codes[:, :1])
        return whole.text, [piece.codes.shape[2] for piece in whole.speech], some.text

    said = "_bA\n_<|speech|>b<|speech|>A<|speech|>"
    assert learned("say_phones") == (f"Say: über 12 boote\n{said}", [6, 5, 9], said)
    # the pause ends at frame 6, in time for the piece that ends at 10; b at 11, in the next and last
    heard = "<|speech|>_<|speech|>bA\nSaid: über 12 boote"
    assert learned("hear_phones") == (heard, [10, 10], heard)
    text, _, script = learned("pronounce")
    known = {"good": "gUd", "morning": "mcrnIG", "yes": "yEs", "boote": "bot", "12": "twElv"}
    words = text.split("\n")[0].removeprefix("Say: ").split()
    assert words
    assert script == "_" + "".join(known[word] for word in words) + "_\n"
    assert learned("pronounce") == (text, [], script) != learned("pronounce", epoch=1)
    assert not LanguageExamples(utterances[2:], processor, ["say_phones", "hear_phones"]).lengths  # they have none
    assert all(not other.phones for other in prepare.prepare(config_of(values), tiny, "train"))  # nobody asked


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["SIL", "AA", "AA0", "ZH", "+NOISE+"]), st.integers(1, 40)), max_size=12),
       st.integers(0, 60))  # fmt: skip
def test_phones_fill_their_utterance_and_every_piece_has_its_own(tiny, rows, frames):
    ends = np.cumsum([0, *(length for _, length in rows)]) / 100
    aligned = [[name, start, end] for (name, _), start, end in zip(rows, ends, ends[1:], strict=False)]
    phones = align(aligned, frames, 50.0)
    assert sum(phone.frames for phone in phones) == (frames if rows else 0)
    assert all(phone.frames > 0 for phone in phones)
    assert "".join(phone.letter for phone in phones) in "".join(map(letter_of, (name for name, _ in rows))) or rows
    codes = torch.randint(0, 32, (1, 1, frames))
    tokens = SpeechTokens(
        codes, torch.tensor([frames]), torch.tensor([320 * frames]), 16_000, 320, 32, tiny.fingerprint
    )
    pieces = heard(tokens, phones)
    assert "".join(letters for _, letters in pieces) == script(phones)
    assert torch.equal(torch.cat([codes[:, :, :0], *(piece.codes for piece, _ in pieces)], 2), codes)
    if phones:
        assert torch.equal(torch.cat([piece.codes for _, piece in spelled(tokens, phones)], 2), codes)


def test_texts_and_phones_can_be_corrected_without_encoding_again(values, tiny, data, tmp_path):
    folder = tmp_path / "corrected"
    shutil.copytree(data, folder)
    config = config_of(values, data=str(folder), phones=True)
    prepare.prepare(config, tiny, "train")
    lines = (folder / "train.jsonl").read_text().replace("Good  Morning", "good evening").replace('"G"', '"V"')
    (folder / "train.jsonl").write_text(lines)
    for path in folder.glob("*.flac"):
        path.unlink()
    one = prepare.prepare(config, tiny, "train")[0]
    assert (one.text, one.phones[1].letter) == ("good evening", "v")


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
    assert Talker(Path(config.out) / "model").say("yes", temperature=1.0).ndim == 1


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
    (Path(values["out"]) / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="delete it to start again"):
        train.train(config_of(values))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_one_and_no_new_model_has_more_than_30_million_parameters(path):
    config = load_config(str(path), ["data=somewhere"])
    if config.model:
        tokenizer = speechtok.load()
        ids = models.make_processor(config, tokenizer).vocabulary.end
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
    assert Talker(Path(values["out"]) / "model").say("yes", temperature=1.0).ndim == 1


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
    figures = evaluate.memorised(talker, utterances := prepare.prepare(spelling, talker.tokenizer, "train"))
    assert figures["said exactly"] == figures["utterances"] == 2
    assert figures["letter errors"] == 0
    for one in utterances:
        letters = script(one.phones)
        assert talker.pronounce(one.text) == letters
        assert talker.hear(one.tokens) == (one.text, letters)
        (take,) = talker._takes(one.text, 1, 0.0)
        assert take.phones == one.phones
        other = next(other for other in utterances if other is not one)
        assert talker.surprise(take) < talker.surprise(dataclasses.replace(take, text=other.text, phones=other.phones))


@pytest.mark.parametrize("takes", [1, 3])
def test_whatever_is_said_every_phone_is_heard_once_and_not_for_ever(values, takes, tiny):
    config = config_of(values, phones=True, steps=1)
    talker = Talker(train.train(config))  # it knows nothing
    talker.pronounce = lambda text: "_AAz_"
    spoken = talker._takes("any", takes, 1.0)
    assert len(spoken) == takes
    for one in spoken:
        assert script(one.phones) == "_AAz_"
        assert sum(phone.frames for phone in one.phones) == one.tokens.codes.shape[2]
        # a run of 16 frames may end a phone that had room for one frame more
        assert all(phone.frames <= (60 if phone.letter == "_" else 30) + 15 for phone in one.phones)
    assert talker.say("any", takes, 1.0).ndim == 1


@pytest.mark.parametrize("phones", [False, True])
def test_dev_is_measured_beside_a_trigram_and_its_sentences_are_said(values, trained, monkeypatch, phones, lexicon):
    monkeypatch.setattr(speak, "MOST_SECONDS", 0.5)  # one that has hardly learned finds no end
    monkeypatch.setattr(speak, "MOST_LETTERS", 20)
    config = config_of(values, phones=phones, lexicon=lexicon if phones else "")
    train.train(config)
    figures = evaluate.evaluate(config, str(trained[1]), sentences=2, takes=2)
    assert all(math.isfinite(value) for value in figures.values())
    assert phones == ("phone errors" in figures) == ("phone errors, as it would pronounce" in figures)
    assert 1 < figures["perplexity of the trigram"] < 100
    assert 1 < figures["perplexity"] < 1000
    assert figures["perplexity after its text"] != figures["perplexity after another text"]
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


def test_the_take_that_is_kept_is_the_one_that_the_model_understands_best(trained):
    talker = Talker(Path(trained[0].out) / "model")
    one = prepare.prepare(trained[0], talker.tokenizer, "train")[0]
    right, wrong = one.tokens.codes[0, :1], torch.zeros(1, 30, dtype=torch.int64)
    talker._speech = lambda *_: [wrong, right, wrong[:, :0]]
    assert torch.equal(talker.say(one.text, takes=3), right[0])


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
        ({"lexicon": "words.dict"}, ConfigError, "lexicon is 'words.dict', which is for phones=true"),
        ({"lexicon": "nothing.dict", "phones": True}, MissingFileError, "lexicon is 'nothing.dict', which does not"),
        ({"lexicon": __file__, "phones": True}, InputError, "the phone is|none of which is in the texts"),
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
        (["Q", 0.0, 0.1], "the phone is 'Q'; expected ARPAbet"),
        (["AA", 0.1, 0.1], "it goes from 0.1 to 0.1"),
        (["AA", 0.1], "expected .phone, start_s, end_s."),
        ("AA", "expected .phone, start_s, end_s."),
    ],
)
def test_phones_that_are_none_are_named_with_their_utterance(values, tiny, data, tmp_path, row, message):
    folder = tmp_path / "phones"
    shutil.copytree(data, folder)
    line = {"id": "one", "audio": "train0.flac", "text": "good", "phones": [["SIL", 0.0, 0.1], row]}
    (folder / "train.jsonl").write_text(json.dumps(line))
    with pytest.raises(InputError, match=f"one: phone 1 is .*{message}"):
        prepare.prepare(config_of(values, data=str(folder), phones=True), tiny, "train")
    del line["phones"]
    (folder / "train.jsonl").write_text(json.dumps(line))
    with pytest.raises(InputError, match="has no phones; expected some"):
        prepare.prepare(config_of(values, data=str(folder), phones=True), tiny, "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["say", " ", "out.wav"], "the text is empty"),
        (["say", "yes", "out.wav", "--takes", "0"], "takes is 0; expected at least 1"),
        (["say", "yes", "out.wav", "--temperature", "-1"], "temperature is -1.0; expected at least 0"),
        (["say", "yes", "out.wav", "--reference", "nothing.wav"], "nothing.wav does not exist"),
        (["transcribe", "nothing.wav"], "nothing.wav does not exist"),
        (["continue", "nothing.wav", "out.wav"], "nothing.wav does not exist"),
        (["say", "yes", "nowhere/out.wav"], "cannot write nowhere/out.wav"),
        (["transcribe", "in.wav", "--model", "nowhere"], "nowhere has no training.json"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(trained, arguments, message, monkeypatch, capsys):
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
