"""Fuzzer of the folders of codecs of transformers: configs that do not fit their weights, and damaged files."""

import json
import random
from pathlib import Path

import safetensors
import torch
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel
from transformers.utils import logging

from speechtok import load
from tests.fuzz.mutate import mutate_bytes, mutate_plain
from tests.fuzz.runner import Fuzzer, Report, run_here


class Inputs(Fuzzer):
    """Name of the codec, and bytes of both files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        logging.set_verbosity(logging.CRITICAL)
        torch.manual_seed(0)
        models = {
            "encodec": EncodecModel(
                EncodecConfig(
                    num_filters=2, hidden_size=8, codebook_size=1024, num_lstm_layers=1, target_bandwidths=[1.5, 3.0]
                )
            ),
            "dac": DacModel(
                DacConfig(
                    encoder_hidden_size=2, decoder_hidden_size=8, n_codebooks=2, codebook_size=16, codebook_dim=2,
                    downsampling_ratios=[2, 4], upsampling_ratios=[4, 2], sampling_rate=16_000,
                )
            ),
            "mimi": MimiModel(
                MimiConfig(
                    num_filters=2, hidden_size=8, codebook_size=16, codebook_dim=4, num_hidden_layers=1,
                    vector_quantization_hidden_dimension=4, num_attention_heads=2, num_key_value_heads=2, head_dim=4,
                    intermediate_size=8, num_quantizers=2, upsample_groups=8,
                )
            ),
        }  # fmt: skip
        self._files = {}
        for name, model in models.items():
            model.eval().save_pretrained(folder / name)
            files = [(folder / name / file).read_bytes() for file in ("config.json", "model.safetensors")]
            self._files[name] = json.loads(files[0]), files[1]

    def make(self, rng: random.Random) -> tuple[str, bytes, bytes]:
        name = rng.choice(list(self._files))
        values, weights = self._files[name]
        action = rng.random()
        if action < 0.6:
            values = mutate_plain(rng, values, rng.choice([1, 1, 2]))
        elif action < 0.75:
            numbers = [field for field in values if type(values[field]) in (int, float)]
            values = {**values, rng.choice(numbers): rng.choice([0, -1, 1, 64, 4096, 2**20, 2**24, 2**31, 1e300])}
        elif action < 0.8:
            values = self._files[rng.choice(list(self._files))][0]
        text = json.dumps(values).encode()
        if rng.random() < 0.05:
            text = mutate_bytes(rng, text)
        return name, text, mutate_bytes(rng, weights) if rng.random() < 0.1 else weights

    def passes(self, made: tuple[str, bytes, bytes]) -> bool:
        try:
            return isinstance(json.loads(made[1]), dict) and bool(safetensors.deserialize(made[2]))
        except (ValueError, RecursionError, safetensors.SafetensorError, OverflowError):
            return False

    def use(self, made: tuple[str, bytes, bytes]) -> None:
        name, text, weights = made
        (self.folder / name / "config.json").write_bytes(text)
        (self.folder / name / "model.safetensors").write_bytes(weights)
        tokenizer = load(f"{name}:{self.folder / name}")
        assert len(tokenizer.fingerprint) == 16


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("codecs", count, seed)
