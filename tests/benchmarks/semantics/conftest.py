import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import speechtok

HALF = speechtok.ConvNeXtStackConfig(patch_dim=16, patch_depth=1, frame_dim=32, frame_depth=1)
TONES = {"AA": 300, "IY": 1200, "S": 4000, "SIL": 0}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = speechtok.ConvNeXtConfig(latent_dim=8, codebook_size=32, num_codebooks=3, encoder=HALF, decoder=HALF)
    directory = tmp_path_factory.mktemp("model")
    speechtok.ConvNeXtTokenizer(config).save(directory)
    return str(directory)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances whose phones are tones; the test manifest also has one without alignment and one without audio."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(8):
        pieces, phones, at = [], [], 0
        for name in rng.choice(list(TONES), 8):
            samples = int(rng.uniform(0.1, 0.3) * 16_000)
            pieces.append(0.2 * np.sin(2 * np.pi * TONES[name] * np.arange(samples) / 16_000))
            phones.append([str(name), at / 16_000, (at + samples) / 16_000])
            at += samples
        soundfile.write(folder / f"{index}.wav", np.concatenate(pieces) + 0.001 * rng.standard_normal(at), 16_000)
        rows.append({"audio": f"{index}.wav", "phones": phones})
    (folder / "broken.wav").write_text("no audio")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows[:5])))
    (folder / "dev.jsonl").write_text("\n".join(map(json.dumps, [rows[7]])))
    rows += [{"audio": "0.wav"}, {"audio": "broken.wav", "phones": [["AA", 0.0, 1.0]]}]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows[5:])))
    return folder
