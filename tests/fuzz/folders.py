"""Fuzzer of tokenizer folders: ``config.json`` and ``model.safetensors`` of both families, changed or damaged."""

import json
import random
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer, SEANetConfig, SEANetTokenizer, load
from tests.fuzz.mutate import hostile_value, mutate_bytes, mutate_plain
from tests.fuzz.runner import Fuzzer, Report, run_here

_STACK = ConvNeXtStackConfig(patch_dim=2, patch_depth=1, frame_dim=4, frame_depth=1, kernel_size=2, expansion=1)


class Inputs(Fuzzer):
    """Bytes of both files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        torch.manual_seed(0)
        small = {"latent_dim": 4, "codebook_size": 4, "num_codebooks": 2}
        tokenizers = (
            ConvNeXtTokenizer(ConvNeXtConfig(**small, encoder=_STACK, decoder=_STACK)),
            ConvNeXtTokenizer(
                ConvNeXtConfig(**small, semantic_dim=2, noise_bands=2, patch_length=20, encoder=_STACK, decoder=_STACK)
            ),
            SEANetTokenizer(
                SEANetConfig(**small, strides=(4, 2), filters=2, lstm_layers=1, bidirectional=False, causal=True)
            ),
        )
        self._folders = []
        for index, tokenizer in enumerate(tokenizers):
            tokenizer.save(folder / str(index))
            files = [(folder / str(index) / name).read_bytes() for name in ("config.json", "model.safetensors")]
            self._folders.append((json.loads(files[0]), files[1]))
        self._path = folder / "made"
        self._path.mkdir()

    def make(self, rng: random.Random) -> tuple[bytes, bytes]:
        values, weights = rng.choice(self._folders)
        action = rng.random()
        if action < 0.3:
            values = mutate_plain(rng, values, rng.choice([1, 1, 2]))
        elif action < 0.55:
            values = {**values, "config": mutate_plain(rng, values["config"], rng.choice([1, 1, 2]))}
        elif action < 0.65:
            config = values["config"]
            large = {name: rng.choice([1, 2, 64, 1024, 65_536]) for name in config if type(config[name]) is int}
            stacks = {name: {**config[name], "patch_depth": 1024} for name in ("encoder", "decoder") if name in config}
            values = {**values, "config": {**config, **rng.choice([large, stacks])}}
        text = json.dumps(values).encode()
        if rng.random() < 0.4:
            weights = _mutate_weights(rng, weights)
        if rng.random() < 0.05:
            text = mutate_bytes(rng, text)
        return text, mutate_bytes(rng, weights) if rng.random() < 0.05 else weights

    def passes(self, made: tuple[bytes, bytes]) -> bool:
        try:
            return isinstance(json.loads(made[0]), dict) and bool(safetensors.deserialize(made[1]))
        except (ValueError, RecursionError, safetensors.SafetensorError, OverflowError):
            return False

    def use(self, made: tuple[bytes, bytes]) -> None:
        (self._path / "config.json").write_bytes(made[0])
        (self._path / "model.safetensors").write_bytes(made[1])
        tokenizer = load(self._path)
        tokens = tokenizer.encode(torch.sin(torch.arange(500.0)), tokenizer.sample_rate)
        assert bool(torch.isfinite(tokenizer.decode(tokens)).all())
        repr(tokenizer.aliases)


def _mutate_weights(rng: random.Random, data: bytes) -> bytes:
    action = rng.random()
    if action < 0.5:
        weights = safetensors.torch.load(data)
        name = rng.choice(list(weights))
        tensor = weights[name].float()
        change = rng.randrange(7)
        if change == 0:
            del weights[name]
        elif change == 1:
            weights[rng.choice(["x", "", "\x1b[2J", name + "x"])] = torch.zeros(rng.choice([0, 1, 3]))
        elif change == 2:
            weights[name] = tensor * rng.choice([float("nan"), float("inf"), 1e38, 0.0])
        elif change == 3:
            weights[name] = torch.zeros_like(tensor, dtype=rng.choice([torch.int8, torch.bool, torch.float64]))
        elif change == 4:
            weights[name] = tensor.flatten()
        elif change == 5:
            weights[name] = torch.cat([tensor, tensor])
        else:
            weights[name] = torch.zeros(rng.choice([(0,), (0, 5), ()]))
        return safetensors.torch.save(weights)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = rng.choice(list(header))
    if action < 0.8:
        header[name] = mutate_plain(rng, header[name])
    else:
        header[rng.choice(["x", name])] = {
            "dtype": rng.choice(["F32", "F16", "F8_E4M3", "U64", "C64", "x"]),
            "shape": rng.choice([[0, 2**40], [0, 2**62, 2], [0] * 100, hostile_value(rng)]),
            "data_offsets": [len(data) - 8 - size] * 2,
        }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("folders", count, seed)
