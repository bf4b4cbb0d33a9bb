import json
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session")
def aligned_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances of two bursts of tones with a pause between them, aligned, for training and validation, and noise."""
    folder = tmp_path_factory.mktemp("aligned")
    rng = np.random.default_rng(0)
    for name, count in (("train", 6), ("dev", 3), ("test", 3)):
        rows = []
        for index in range(count):
            t = np.arange(24_000) / 16_000
            talks = ((t > 0.3) & (t < 0.7)) | ((t > 1.0) & (t < 1.3))
            wave = 0.2 * np.sin(2 * np.pi * (150 + 30 * index) * t) * talks + 0.002 * rng.standard_normal(len(t))
            soundfile.write(folder / f"{name}{index}.flac", wave, 16_000)
            phones = [["SIL", 0, 0.3], ["AH", 0.3, 0.7], ["SIL", 0.7, 1.0], ["IY", 1.0, 1.3], ["SIL", 1.3, 1.5]]
            rows.append(json.dumps({"audio": f"{name}{index}.flac", "phones": phones}))
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    rows = []
    for index in (1, 4, 5):
        soundfile.write(folder / f"noise{index}.flac", 0.1 * rng.standard_normal(16_000), 16_000)
        rows.append(json.dumps({"id": f"esc10-{index}-1-A", "audio": f"noise{index}.flac"}))
    (folder / "noise.jsonl").write_text("\n".join(rows) + "\n")
    return folder
