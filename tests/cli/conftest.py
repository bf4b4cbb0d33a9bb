from pathlib import Path

import pytest

from speechtok import ConvNeXtTokenizer, load
from speechtok.cli import main
from tests.cli.helpers import make_tokenizer


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    make_tokenizer(0).save(directory)
    return directory


@pytest.fixture(scope="session")
def tokenizer(model) -> ConvNeXtTokenizer:
    return load(model)


@pytest.fixture
def run(model):
    """Run a command with the tiny tokenizer and return its exit status."""
    return lambda *words: main([*map(str, words), "--model", str(model)])
