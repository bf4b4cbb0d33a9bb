"""Fuzzer of ``.tokens`` files: damaged bytes; shapes, types, offsets, facts and codes that do not fit each other."""

import contextlib
import hashlib
import io
import json
import random
from typing import Any

import safetensors
import torch

from speechtok import SpeechTokens
from speechtok.cli import main
from tests.fuzz.mutate import hostile_value, mutate_bytes, mutate_plain
from tests.fuzz.runner import Fuzzer, Report, run_here

_TYPES = {"I16": torch.int16, "I64": torch.int64}


class Inputs(Fuzzer):
    """Bytes of files."""

    def make(self, rng: random.Random) -> bytes:
        header, data = _parts(rng)
        if rng.random() < 0.85:
            _mutate(rng, header, data)
        if rng.random() < 0.7:
            _sign(header, data)
        made = _write(header, bytes(data), rng)
        return mutate_bytes(rng, made) if rng.random() < 0.25 else made

    def passes(self, made: bytes) -> bool:
        try:
            return len(safetensors.deserialize(made)) >= 3
        except (safetensors.SafetensorError, OverflowError):
            return False

    def use(self, made: bytes) -> None:
        path = self.folder / "a.tokens"
        path.write_bytes(made)
        tokens = SpeechTokens.load(path)
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["info", str(path)]) == 0
        tokens.save(self.folder / "b.tokens")
        again = SpeechTokens.load(self.folder / "b.tokens")
        assert torch.equal(again.codes, tokens.codes)
        assert torch.equal(again.num_samples, tokens.num_samples)
        if len(tokens):
            frames = int(tokens[0].lengths)
            SpeechTokens.join([tokens[0].crop(0, frames // 2), tokens[0].crop(frames // 2, frames)])


def _parts(rng: random.Random) -> tuple[dict[str, Any], bytearray]:
    """A valid header and its data."""
    batch, books, frames = rng.randrange(4), rng.randrange(1, 9), rng.randrange(7)
    facts = {
        "sample_rate": rng.choice([8000, 16_000, 24_000, 48_000]),
        "hop_length": rng.choice([1, 80, 320]),
        "codebook_size": rng.choice([2, 32, 1024, 32_768]),
        "fingerprint": f"{rng.getrandbits(64):016x}",
    }
    lengths = [rng.randrange(frames + 1) for _ in range(batch)]
    samples = [n * facts["hop_length"] - (rng.randrange(facts["hop_length"]) if n else 0) for n in lengths]
    codes = [rng.randrange(facts["codebook_size"]) for _ in range(batch * books * frames)]
    header: dict[str, Any] = {
        "__metadata__": {"format": "speechtok-tokens-1", "tokens": json.dumps(facts), "digest": ""},
    }
    data = bytearray()
    for name, kind, shape, values in (
        ("lengths", "I64", [batch], lengths),
        ("num_samples", "I64", [batch], samples),
        ("codes", "I16", [batch, books, frames], codes),
    ):
        added = torch.tensor(values, dtype=_TYPES[kind]).numpy().tobytes()
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(added)]}
        data += added
    _sign(header, data)
    return header, data


def _sign(header: dict[str, Any], data: bytearray) -> None:
    """Write the digest that fits the facts and tensors, as far as they can be read."""
    with contextlib.suppress(Exception):
        digest = hashlib.sha256(json.dumps(json.loads(header["__metadata__"]["tokens"]), sort_keys=True).encode())
        for name in sorted(header.keys() - {"__metadata__"}):
            tensor = header[name]
            begin, end = tensor["data_offsets"]
            kind = _TYPES.get(tensor["dtype"], tensor["dtype"])
            digest.update(f"{name} {kind} {tuple(tensor['shape'])}".encode())
            digest.update(data[begin:end])
        header["__metadata__"]["digest"] = digest.hexdigest()[:16]


def _mutate(rng: random.Random, header: dict[str, Any], data: bytearray) -> None:
    metadata = header["__metadata__"]
    action = rng.randrange(8)
    if action < 3:
        facts = mutate_plain(rng, json.loads(metadata["tokens"]), rng.randrange(1, 3))
        metadata["tokens"] = json.dumps(facts)
    elif action == 3:
        metadata["tokens"] = rng.choice(
            ["[" * 100_000, '{"sample_rate": ' + "9" * 5000 + "}", "", "null", "[]", '"x"', "{" * 500, "\x00"]
        )
    elif action == 4:
        name = rng.choice(["format", "tokens", "digest"])
        if rng.random() < 0.3:
            del metadata[name]
        else:
            metadata[name] = rng.choice(["", "x" * 300, "\x1b[2J", "speechtok-tokens-2", "\n"])
    elif action == 5 and len(data) > 8:
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
    elif action == 6:  # shapes that hold nothing, or the same number of bytes
        codes = header["codes"]
        begin, end = codes["data_offsets"]
        if begin == end:
            shape = [1, 8, 5]
            shape[rng.randrange(3)] = rng.choice([2**29, 10**8, 2**40, 2**62])
            shape[rng.randrange(3)] = 0
        else:
            count = (end - begin) // 2
            shape = rng.choice([[count, 1, 1], [1, count, 1], [1, 1, count], [count], [1, 1, 1, count]])
        codes["shape"] = shape
        if rng.random() < 0.5:
            batch = shape[0]
            for name in ("lengths", "num_samples"):
                header[name]["shape"] = [batch if batch < 100 else 0]
            _relocate(header, data, rng)
    else:
        name = rng.choice(["lengths", "num_samples", "codes"])
        if rng.random() < 0.3:
            header[rng.choice(["x", "", "Lengths", "\x1b"])] = {
                "dtype": rng.choice(["U8", "BOOL", "F64", "I64"]),
                "shape": [0, rng.choice([0, 5, 2**40])],
                "data_offsets": [len(data), len(data)],
            }
        elif rng.random() < 0.5:
            kinds = {"I64": ["U64", "F64"], "I16": ["U16", "F16", "BF16"]}
            header[name]["dtype"] = rng.choice(kinds[header[name]["dtype"]])
        else:
            header[name] = mutate_plain(rng, header[name])


def _relocate(header: dict[str, Any], data: bytearray, rng: random.Random) -> None:
    """New data of the sizes that the shapes claim, as far as that is little."""
    data.clear()
    for name in ("lengths", "num_samples", "codes"):
        count = 1
        for size in header[name]["shape"]:
            count *= size
        width = 2 if name == "codes" else 8
        added = bytes(count * width) if count < 1000 else b""
        header[name]["data_offsets"] = [len(data), len(data) + len(added)]
        data += added


def _write(header: dict[str, Any], data: bytes, rng: random.Random) -> bytes:
    text = json.dumps(header).encode()
    if rng.random() < 0.05:
        text = text.replace(b'"shape"', b'"shape": [0], "shape"', 1)
    text += b" " * (-len(text) % 8)
    if rng.random() < 0.03:
        text = text.replace(b"}", json.dumps({"deep": hostile_value(rng)}).encode()[1:], 1)
    return len(text).to_bytes(8, "little") + text + data


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("tokens", count, seed)
