import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

from examples.speech_lm import talk, train
from examples.speech_lm.config import SpeechLmConfig, run
from speechtok.mapping import from_mapping
from tests.voice.networks import make_voice_model

TEXTS = ["Good  Morning", "über 12 boote", "yes", None, "no no"]
PHONES = {
    "Good  Morning": ["SIL", "G", "AH1"],
    "über 12 boote": ["B", "SIL", "IY", "T"],
    "good boote": ["+NOISE+", "G", "T"],
    "mornings": ["S"],  # not in the lexicon
}
MODEL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="session")
def data(tmp_path_factory, speech) -> Path:
    """Five training utterances, one without audio and one without text, and two validation utterances."""
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


@pytest.fixture(scope="session")
def lexicon(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("lexicon") / "words.dict"
    path.write_text("good G\nmorning M AO\nmorning(2) AH\nyes Y EH S\nboote T\n12 IY\nüber B\n")
    return str(path)


@pytest.fixture(scope="session")
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


def grid_of(values: dict, **changes) -> SpeechLmConfig:
    heads = {"name": "depth", "depth_width": 32, "num_layers": 1, "num_heads": 2}
    stage = {"stage": "speech", "pattern": {"name": "parallel"}, "num_codebooks": 3, "heads": heads}
    return config_of(values, **{**stage, **changes}, crop_seconds=0.3)


@pytest.fixture(scope="session")
def trained_with_phones(data, tokenizer_folder, tmp_path_factory, lexicon) -> SpeechLmConfig:
    """A model that has memorised the two utterances with phones."""
    folder = tmp_path_factory.mktemp("phones")
    common = {"data": str(data), "tokens": str(folder / "tokens"), "tokenizer": str(tokenizer_folder), "model": MODEL}
    common |= {"bfloat16": False, "warmup_steps": 10, "validate_every": 1000, "batch_ids": 1000}
    config = config_of(
        common, out=str(folder / "run"), steps=400, utterances=2, learning_rate=5e-3, weight_decay=0.0, lexicon=lexicon
    )
    train.train(config)
    return config


@pytest.fixture(scope="session")
def trained(data, tokenizer_folder, tmp_path_factory) -> SpeechLmConfig:
    """A model that has memorised two utterances."""
    folder = tmp_path_factory.mktemp("trained")
    common = {"data": str(data), "tokens": str(folder / "tokens"), "tokenizer": str(tokenizer_folder), "model": MODEL}
    common |= {"bfloat16": False, "warmup_steps": 10, "validate_every": 1000}
    config = config_of(common, out=str(folder / "run"), steps=160, utterances=2, learning_rate=5e-3, weight_decay=0.0)
    train.train(config)
    return config


@pytest.fixture(scope="session")
def voice_model(tiny, tmp_path_factory) -> str:
    """File of a voice model with random weights."""
    path = tmp_path_factory.mktemp("voice") / "voice.safetensors"
    make_voice_model(tiny, path)
    return str(path)


@pytest.fixture(scope="session")
def prompt(speech, tmp_path_factory) -> str:
    """An audio file with a voice."""
    path = tmp_path_factory.mktemp("prompt") / "voice.wav"
    soundfile.write(path, speech(0.7, seed=9), 16_000)
    return str(path)


def weights_of(folder: str) -> dict[str, torch.Tensor]:
    return torch.load(Path(folder) / "checkpoint.pt", weights_only=True)["weights"]


@pytest.fixture
def run_talk(monkeypatch) -> Callable[..., int]:
    """``run_talk("say", …)``: the exit status of ``python -m examples.speech_lm.talk say …``."""

    def run_command(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["talk", *arguments])
        return run(talk.main)

    return run_command
