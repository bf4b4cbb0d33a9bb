import pytest
import torch

from tests.conftest import make_speech


@pytest.fixture(scope="session")
def audio() -> torch.Tensor:
    return torch.from_numpy(make_speech(2, seed=1))
