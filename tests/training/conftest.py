import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.training.helpers import config_of, extracted
from training.train import train

TINY_MODEL = {
    "latent_dim": 8,
    "codebook_size": 16,
    "num_codebooks": 3,
    "encoder": {"patch_dim": 16, "patch_depth": 1, "frame_dim": 32, "frame_depth": 1},
    "decoder": {"patch_dim": 16, "patch_depth": 1, "frame_dim": 32, "frame_depth": 1},
}


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 12 gliding tones of 0.4 to 1.5 s, their manifests, and one file that is not audio."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        seconds = 0.4 + index * 0.1
        t = np.arange(int(seconds * 16_000)) / 16_000
        pitch = 2 * np.pi * (120 + 20 * index) * (t + 0.1 * t**2)
        wave = 0.2 * sum(np.sin(k * pitch) / k for k in range(1, 8)) + 0.01 * rng.standard_normal(len(t))
        soundfile.write(folder / f"{index}.flac", wave, 16_000)
        rows.append(json.dumps({"audio": f"{index}.flac", "text": None}))
    (folder / "broken.flac").write_text("no audio at all")
    rows.insert(3, json.dumps({"audio": "broken.flac"}))
    (folder / "train.jsonl").write_text("\n".join(rows[:-2]) + "\n")
    (folder / "dev.jsonl").write_text("\n".join(rows[-2:]) + "\n")
    return folder


@pytest.fixture(scope="session")
def tiny_values(speech_folder: Path) -> dict:
    """Plain values of the config of a training that takes seconds, without ``out``."""
    return {
        "data": str(speech_folder),
        "steps": 8,
        "batch_size": 4,
        "crop_seconds": 0.3,
        "bfloat16": False,
        "compile": False,
        "log_every": 2,
        "validate_every": 100,
        "validation_utterances": 2,
        "checkpoint_every": 3,
        "model": TINY_MODEL,
        "quantizer": {"start_step": 2},
        "optimizer": {"warmup_steps": 2},
    }


@pytest.fixture
def tiny_config(tiny_values: dict, tmp_path: Path) -> dict:
    """Plain values of the config of a training that takes seconds."""
    return tiny_values | {"out": str(tmp_path / "run")}


@pytest.fixture(scope="session")
def once_trained(tiny_values: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a completed training, shared by all tests."""
    return train(config_of(tiny_values, out=str(tmp_path_factory.mktemp("once") / "run"))).parent


@pytest.fixture
def trained(tiny_config: dict, once_trained: Path) -> dict:
    """``tiny_config``, completed, in a folder of the test's own."""
    shutil.copytree(once_trained, tiny_config["out"])
    return tiny_config


@pytest.fixture(scope="session")
def once_distilled(tiny_values: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``features`` of a teacher, and a completed training with them, ``run``; shared by all tests."""
    folder = tmp_path_factory.mktemp("once")
    distillation = {"features": extracted(tiny_values, folder / "features"), "features_by_frame": 5.0}
    model = tiny_values["model"] | {"semantic_dim": 3}
    train(config_of(tiny_values, out=str(folder / "run"), model=model, distillation=distillation))
    return folder


@pytest.fixture
def encoder_stage(tiny_config: dict, once_distilled: Path, tmp_path: Path) -> dict:
    """Plain values of the config of an encoder stage; ``start_from`` is a folder of the test's own."""
    shutil.copytree(once_distilled / "run" / "tokenizer", tmp_path / "first")
    return tiny_config | {
        "model": tiny_config["model"] | {"semantic_dim": 3},
        "distillation": {"features": str(once_distilled / "features"), "features_by_frame": 5.0},
        "out": str(tmp_path / "second"),
        "start_from": str(tmp_path / "first"),
        "train_only": "encoder",
        "optimizer": {"muon_lr": 5e-3, "adamw_lr": 5e-3},
    }
