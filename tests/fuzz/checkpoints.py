"""Fuzzer of ``.pt`` files: checkpoints of trainings and published weights, also such as PyTorch does not write."""

import io
import json
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import torch

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, ConvNeXtTokenizer, SEANetTokenizer, load
from speechtok.interop import CODEBOOK_KEY, convert_config, published_names
from tests.fuzz.mutate import hostile_value, mutate_bytes, mutate_plain
from tests.fuzz.runner import Fuzzer, Report, run_here
from training.checkpoints import read_checkpoint

_STACK = ConvNeXtStackConfig(patch_dim=2, patch_depth=1, frame_dim=4, frame_depth=1, kernel_size=2, expansion=1)
_CONFIG = ConvNeXtConfig(latent_dim=4, codebook_size=4, num_codebooks=2, encoder=_STACK, decoder=_STACK)
PUBLISHED = {
    "sample_rate": 16_000,
    "strides": [4, 2],
    "n_filters": 2,
    "n_residual_layers": 1,
    "residual_kernel_size": 3,
    "dilation_base": 2,
    "lstm_layers": 1,
    "bidirectional": True,
    "dimension": 4,
    "n_q": 2,
    "codebook_size": 4,
    "activation": "ELU",
}
"""A published ``config.json`` of few weights."""


def published_weights(values: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Random weights by their published names."""
    model = SEANetTokenizer(convert_config(values))
    ours = model.named_tensors()
    weights = {CODEBOOK_KEY.format(q): vectors for q, vectors in enumerate(ours["quantizer.codebooks"])}
    for name, theirs in published_names(model).items():
        if name.endswith(".weight"):
            weights[f"{theirs}_v"] = ours[name]
            weights[f"{theirs}_g"] = torch.ones(len(ours[name]), 1, 1)
        else:
            weights[theirs] = ours[name]
    return weights


class Inputs(Fuzzer):
    """Kind of file and its bytes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        torch.manual_seed(0)
        tokenizer = ConvNeXtTokenizer(_CONFIG)
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([parameter])
        optimizer.step()
        self._training = {
            "step": 3,
            "config": {"model": _CONFIG.to_dict(), "steps": 10},
            "tokenizer": dict(tokenizer.state_dict()),
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        self._published = published_weights(PUBLISHED)
        self._saved = {
            (published, zipped): _save(self._published if published else self._training, zipped)
            for published in (False, True)
            for zipped in (False, True)
        }
        (folder / "published").mkdir()
        (folder / "published" / "config.json").write_text(json.dumps(PUBLISHED))

    def make(self, rng: random.Random) -> tuple[str, bytes]:
        published = rng.random() < 0.3
        value: Any = self._published if published else self._training
        action = rng.random()
        if action < 0.5:
            value = _mutate_value(rng, value, published)
        zipped = rng.random() < 0.85
        data = _save(value, zipped) if action < 0.5 else self._saved[published, zipped]
        if action > 0.5 and zipped:
            data = _mutate_records(rng, data)
        elif action > 0.5 or rng.random() < 0.05:
            data = mutate_bytes(rng, data)
        return "published" if published else rng.choice(["training", "training", "state"]), data

    def passes(self, made: tuple[str, bytes]) -> bool:
        if made[1][:4] != b"PK\3\4":
            return made[1][:14] == _save(None, False)[:14]
        try:
            with zipfile.ZipFile(io.BytesIO(made[1])) as archive:
                return any(name.endswith("/data.pkl") for name in archive.namelist())
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
            return False

    def use(self, made: tuple[str, bytes]) -> None:
        kind, data = made
        if kind == "state":
            (self.folder / "state.pt").write_bytes(data)
            assert isinstance(read_checkpoint(self.folder / "state.pt")["config"], dict)
            return
        if kind == "published":
            (self.folder / "published" / "SpeechTokenizer.pt").write_bytes(data)
            load(self.folder / "published")
            return
        path = self.folder / "checkpoint.pt"
        path.write_bytes(data)
        load(path)


def _save(value: Any, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _mutate_value(rng: random.Random, value: dict[str, Any], published: bool) -> dict[str, Any]:
    if published:
        return _mutate_weights(rng, value)
    action = rng.random()
    if action < 0.35:
        return {**value, "tokenizer": _mutate_weights(rng, value["tokenizer"])}
    if action < 0.6:
        return {**value, "config": mutate_plain(rng, value["config"], rng.choice([1, 2]))}
    if action < 0.8:
        return {**value, rng.choice(["step", "x", "tokenizer", "config", "optimizer"]): _odd(rng)}
    changed = {**value}
    del changed[rng.choice(list(changed))]
    return changed


def _mutate_weights(rng: random.Random, weights: dict[str, Any]) -> dict[Any, Any]:
    changed: dict[Any, Any] = dict(weights)
    name = rng.choice(list(changed))
    tensor = changed[name]
    action = rng.randrange(9)
    if action == 0:
        del changed[name]
    elif action == 1:
        changed[rng.choice(["x", 5, "\x1b", 2.5, None, "a" * 500])] = _odd(rng)
    elif action == 2:
        changed[name] = _odd(rng)
    elif action == 3:
        changed[name] = tensor.new_tensor(rng.choice([float("nan"), float("inf"), 1.0])).expand(tensor.shape)
    elif action == 4:
        changed[name] = torch.zeros(1).expand(rng.choice([2**20, 2**31, 2**40]))
    elif action == 5:
        changed[name] = tensor.to(rng.choice([torch.float16, torch.float64, torch.bfloat16, torch.int64, torch.bool]))
    elif action == 6:
        changed[name] = tensor.flatten()[: rng.randrange(3)].reshape(-1)
    elif action == 7:
        changed[name] = tensor.t() if tensor.ndim == 2 else tensor[None]
    else:
        changed[name] = torch.cat([tensor, tensor])
    return changed


def _odd(rng: random.Random) -> Any:
    """A value that ``torch.save`` writes, and that no checkpoint has."""
    doubled: Any = (1,)
    for _ in range(rng.choice([1, 40])):
        doubled = (doubled, doubled)
    return rng.choice(
        [
            lambda: hostile_value(rng),
            lambda: torch.eye(2).to_sparse(),
            lambda: torch.ones(3, device="meta"),
            lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
            lambda: torch.zeros(0, 2**20, dtype=torch.float32),
            lambda: torch.nn.Parameter(torch.ones(2)),
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            lambda: torch.complex(torch.ones(2), torch.ones(2)),
            lambda: doubled,
            lambda: {"a": doubled, 5: [doubled]},
            lambda: {(1, 2): 3},
            lambda: {1, 2},
            lambda: torch.float16,
            lambda: torch.device("cuda:9"),
            lambda: b"\xff" * 10,
            lambda: bytearray(5),
        ]
    )()


def _mutate_records(rng: random.Random, data: bytes) -> bytes:
    """Write the records of a zip file anew: changed pickles, storages of other sizes, and other faults of archives."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in records if name.endswith("data.pkl"))
    storages = [name for name in records if "/data/" in name]
    action = rng.randrange(8)
    if action < 3:
        records[pickled] = _mutate_pickle(rng, records[pickled])
    elif action == 3:
        name = rng.choice(storages)
        records[name] = rng.choice([b"", records[name][:-4], records[name] * 2, bytes(10**6)])
    elif action == 4:
        del records[rng.choice(list(records))]
    elif action == 5:
        name = rng.choice(list(records))
        records[name] = mutate_bytes(rng, records[name])
    elif action == 6:
        records[rng.choice(["archive/data/999", "other/data.pkl", "../x", "archive/byteorder"])] = b"big"
    compression = zipfile.ZIP_DEFLATED if action == 7 and rng.random() < 0.5 else zipfile.ZIP_STORED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
        if action == 7 and compression == zipfile.ZIP_STORED:
            info = archive.getinfo(rng.choice(storages))
            for index in range(rng.choice([1, 500])):
                copy = zipfile.ZipInfo(f"archive/data/{index + 100}")
                copy.header_offset, copy.CRC = info.header_offset, info.CRC
                copy.file_size = copy.compress_size = rng.choice([info.file_size, 2**40])
                archive.filelist.append(copy)
    return buffer.getvalue()


def _mutate_pickle(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(2, len(changed))
        action = rng.random()
        if action < 0.4:
            changed[at] = rng.choice(
                b"().0123KMJQRbdehjlqrstu}]\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8e\x93\x94\x95cCBXNGi"
            )
        elif action < 0.6:
            changed[at] = rng.randrange(256)
        elif action < 0.8:
            changed[at:at] = rng.choice(
                [
                    b"cposix\nsystem\nX\x02\x00\x00\x00ls\x85R",
                    b"ctorch\nTensor\n\x8a\x05\x00\xe4\x0bT\x02\x85R",
                    b"cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0bT\x02\x85R",
                    b"\x8b\x00\x00\x00\x40",
                    b"X\xff\xff\xff\x7f",
                    b"\x95" + (2**40).to_bytes(8, "little"),
                    b"r\xff\xff\xff\x7f",
                    b"2",
                    b"]" * 3000,
                    pickle.dumps(hostile_value(rng), 2)[2:-1],
                ]
            )
        else:
            del changed[at : at + rng.randrange(1, 20)]
    return bytes(changed)


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("checkpoints", count, seed)
