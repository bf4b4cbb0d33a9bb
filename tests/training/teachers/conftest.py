from pathlib import Path

import pytest
import torch

from tests.training.teachers.helpers import TINY
from training.teachers.hubert import Hubert


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved HuBERT with random weights and three phones."""
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("own")
    Hubert(TINY, ("SIL", "AH", "T")).save(directory)
    return directory
