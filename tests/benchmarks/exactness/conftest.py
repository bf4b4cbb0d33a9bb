import json
from pathlib import Path

import pytest
import soundfile
import torch


@pytest.fixture(scope="session")
def waveforms(speech) -> list[torch.Tensor]:
    return [torch.from_numpy(speech(seconds, seed)) for seed, seconds in enumerate([0.05, 0.7, 0.31])]


@pytest.fixture(scope="session")
def model(tiny, tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("model")
    tiny.save(directory)
    return str(directory)


@pytest.fixture(scope="session")
def manifest(waveforms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for index, x in enumerate(waveforms):
        soundfile.write(folder / f"{index}.wav", x.numpy(), 16_000, subtype="FLOAT")
    (folder / "test.jsonl").write_text("\n".join(json.dumps({"audio": f"{i}.wav"}) for i in range(len(waveforms))))
    return folder / "test.jsonl"
