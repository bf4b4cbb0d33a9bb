import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

TONES = {"AA": 300, "IY": 1200, "S": 4000}


@pytest.fixture(scope="session")
def spoken_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances whose phones are tones, which a network learns in seconds; the first has no phones."""
    folder = tmp_path_factory.mktemp("spoken")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(16):
        pieces, phones, end = [], [], 0.0
        for name in rng.choice([*TONES, "SIL"], 8):
            seconds = float(rng.uniform(0.1, 0.25))
            t = np.arange(int(seconds * 16_000)) / 16_000
            pieces.append(0.2 * np.sin(2 * np.pi * TONES.get(name, 0) * t) + 0.002 * rng.standard_normal(len(t)))
            start, end = end, end + len(t) / 16_000
            phones.append([str(name) if name != "SIL" else "+NOISE+", start, end])
        soundfile.write(folder / f"{index}.flac", np.concatenate(pieces), 16_000)
        rows.append({"audio": f"{index}.flac", "phones": phones if index else None})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows[:12])))
    (folder / "dev.jsonl").write_text("\n".join(map(json.dumps, rows[12:])))
    return folder


@pytest.fixture
def values(spoken_folder: Path, tmp_path: Path) -> dict:
    """Plain values of a pretraining that takes a second."""
    return {
        "data": str(spoken_folder),
        "out": str(tmp_path / "run"),
        "first": {"steps": 4, "clusters": 8},
        "second": {"steps": 6, "clusters": 8, "phone_weight": 1.0},
        "model": {"dim": 16, "depth": 2, "heads": 2, "kernel_size": 3, "expansion": 2, "bands": 40},
        "target_layer": 1,
        "batch_size": 4,
        "crop_seconds": 1.0,
        "warmup_steps": 2,
        "bfloat16": False,
        "compile": False,
        "checkpoint_every": 2,
        "validate_every": 100,
    }
