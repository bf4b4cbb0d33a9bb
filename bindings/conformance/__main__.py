"""Make the golden files again: ``python -m bindings.conformance``.

Run it when the default changes. The golden file of a tokenizer that did not change must stay the same.
"""

from pathlib import Path

import torch

import speechtok
from bindings.conformance.golden import make_golden, write_golden
from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer
from speechtok.fingerprints import NAMED_TOKENIZERS

FOLDER = Path(__file__).parent

RANDOM = ConvNeXtConfig(
    hop_length=160,
    patch_length=40,
    window_length=120,
    latent_dim=24,
    semantic_dim=8,
    num_codebooks=3,
    codebook_size=40,
    noise_bands=5,
    hold=3_000,
    encoder=ConvNeXtStackConfig(patch_dim=16, patch_depth=1, frame_dim=40, frame_depth=2, kernel_size=3),
    decoder=ConvNeXtStackConfig(patch_dim=24, patch_depth=1, frame_dim=32, frame_depth=1, kernel_size=5),
)
"""A small model whose sizes differ from those of the default in every dimension."""


def main() -> None:
    """Write the files of all tokenizers of the suite."""
    if not (FOLDER / "random").is_dir():
        torch.manual_seed(0)
        ConvNeXtTokenizer(RANDOM).save(FOLDER / "random")
    for name in (*NAMED_TOKENIZERS, "random"):
        tokenizer = speechtok.load(FOLDER / name if name == "random" else name)
        path = FOLDER / f"{name}.txt"
        write_golden(make_golden(tokenizer, name), path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
