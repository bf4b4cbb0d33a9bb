import json
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.codecs.baselines import Identity
from benchmarks.codecs.interface import Reconstruction
from benchmarks.codecs.spec import Spec
from benchmarks.data import read_utterances
from tests.conftest import make_speech
from training.manifest import Utterance


@pytest.fixture(scope="session")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Two sample rates, a silent and a very short utterance, a file without audio, and a missing file."""
    folder = tmp_path_factory.mktemp("data")
    soundfile.write(folder / "a.wav", make_speech(1.5, seed=1), 16_000)
    soundfile.write(folder / "b.wav", make_speech(1.5, seed=2, sample_rate=44_100), 44_100)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "short.wav", make_speech(0.1), 16_000)
    (folder / "broken.wav").write_text("no audio")
    names = ("a", "b", "silent", "short", "broken", "missing")
    rows = [{"id": name, "audio": f"{name}.wav", "lang": "en", "speaker": "s"} for name in names]
    path: Path = folder / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_utterances(path)


class Late(Identity):
    """A codec with a delay of 20 ms, which fails on silence."""

    def __call__(self, waveform: torch.Tensor) -> Reconstruction:
        if not waveform.any():
            raise KeyError("silence")
        return Reconstruction(torch.nn.functional.pad(waveform, (320, 0)), 1.0)


@pytest.fixture
def late() -> Late:
    return Late(Spec("identity"))


class InProcess:
    """Stands in for a process pool and runs everything in this process."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function, task) -> Future:
        future: Future = Future()
        future.set_result(function(task))
        return future
