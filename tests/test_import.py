import subprocess
import sys

import pytest

HEAVY = [
    "aiohttp",
    "fairseq2",
    "fastapi",
    "huggingface_hub",
    "matplotlib",
    "ray",
    "torchaudio",
    "transformers",
    "vector_quantize_pytorch",
]


@pytest.fixture(scope="module")
def imported() -> list[str]:
    """All modules of a new interpreter after ``import speechtok``."""
    code = "import sys, speechtok; print(*sys.modules, sep='\\n')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("name", [*HEAVY, "pytest", "training", "benchmarks"])
def test_importing_speechtok_imports_nothing_heavy(imported, name):
    assert "speechtok" in imported
    assert not [module for module in imported if module.split(".")[0] == name]


@pytest.mark.slow
def test_loading_and_a_round_trip_import_nothing_heavy():
    code = """
import sys, speechtok, torch
before = set(sys.modules)
tokenizer = speechtok.load()
tokenizer.decode(tokenizer.encode(torch.zeros(3_200), 16_000))
print(*set(sys.modules) - before, sep="\\n")
"""
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    # PyTorch's compiler takes longer to import than everything else
    assert not [name for name in new if name.split(".")[0] in (*HEAVY, "sympy") or name.startswith("torch._dynamo")]


@pytest.mark.slow
def test_the_vocabulary_is_imported_on_first_use_without_transformers(imported):
    assert "speechtok.lm" not in imported
    code = "import sys, speechtok; speechtok.AudioVocabulary, speechtok.lm; print('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_public_name_is_importable():
    import speechtok

    assert [name for name in speechtok.__all__ if not hasattr(speechtok, name)] == []
