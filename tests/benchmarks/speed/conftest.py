import pytest
import torch


@pytest.fixture(autouse=True)
def same_threads_after():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("model")
    tiny.save(directory)
    return str(directory)
