"""Audio, files and output of commands."""

from pathlib import Path

import numpy as np
import soundfile
import torch

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer

RATE = 16_000
HALF = ConvNeXtStackConfig(patch_dim=16, patch_depth=1, frame_dim=32, frame_depth=1)


def make_tokenizer(seed: int, **config) -> ConvNeXtTokenizer:
    torch.manual_seed(seed)
    return ConvNeXtTokenizer(
        ConvNeXtConfig(encoder=HALF, decoder=HALF, latent_dim=8, codebook_size=32, num_codebooks=4, **config)
    )


def chirp(seconds: float = 0.3, seed: int = 0, rate: int = RATE) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.4 * np.sin(2 * np.pi * (200 + 300 * t) * t) + 0.02 * noise).astype(np.float32)


def write(path: Path, samples: np.ndarray | None = None, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, chirp() if samples is None else samples, rate)
    return path


def tree(folder: Path) -> set[str]:
    """All files below ``folder``, temporary ones included."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def rows(printed: str) -> dict[str, str]:
    """Values of a printed table, by label."""
    pairs = (line.split("  ", 1) for line in printed.splitlines() if line)
    return {label: value.strip() for label, value in pairs}


def assert_error(stderr: str, *words: object) -> None:
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert any(all(str(word) in line for word in words) for line in lines), stderr
    assert "Traceback" not in stderr
