"""Fuzzer of training configs: YAML files and overrides of the command line."""

import contextlib
import dataclasses
import random
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import yaml

from tests.fuzz.mutate import hostile_value, mutate_bytes
from tests.fuzz.runner import Fuzzer, Report, run_here
from training.config import TrainingConfig, config_from_dict, load_config

Input = tuple[bytes, list[str]]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONFIGS = Path(__file__).parents[2] / "training" / "configs"

_TEXTS = (
    *("!!int x", "!!float ''", "!!bool x", "!!timestamp 2020-13-45", "2020-13-45", "!!binary é", "!!set {a, b}"),
    *("!!omap [a]", "[" * 300, "{a: " * 300, "&a [*a]", "&a {b: *a}", "{<<: [*a]}", "<<: 5", "*x", "&x", "!!str [a]"),
    *("0x" + "f" * 5000, "9" * 5000, "1e400", "-1e400", ".nan", ".inf", "0b_", "1:99:99", "0o9", "5e-3", "1_000"),
    *("'", '"', "{", "]", "a: b: c", "\x00", "\x1b[2J", "\ud800", "- a\n- b", "--- a\n--- b", "%YAML 9.0\n--- a"),
    *("@", "`", "a" * 3000, "", " ", "~", "null", "=", "encoder", "decoder", "DIR", "1", "0", "-1", "2", "1000"),
    *("0.5", "true", "!!python/object:os.system {}"),
)


class Inputs(Fuzzer):
    """A YAML file and overrides."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._names = list(_fields(TrainingConfig, ""))
        self._files = [path.read_bytes() for path in sorted(_CONFIGS.glob("*.yaml")) if b"steps" in path.read_bytes()]

    def make(self, rng: random.Random) -> Input:
        data = b"data: D\nout: O\nsteps: 1000\n" if rng.random() < 0.85 else rng.choice(self._files)
        action = rng.random()
        if action < 0.1:
            data = mutate_bytes(rng, data)
        elif action < 0.2:
            with contextlib.suppress(UnicodeEncodeError):
                data += f"{rng.choice(self._names).partition('.')[0]}: {rng.choice(_TEXTS)}\n".encode()
        elif action < 0.23:
            doubled = "a0: &a0 [1]\n" + "".join(
                f"a{n + 1}: &a{n + 1} {rng.choice(['[*a{0}, *a{0}]', '{{<<: *a{0}}}', '[*a{0}]']).format(n)}\n"
                for n in range(rng.choice([3, 30, 70]))
            )
            data += doubled.encode()
        return data, [self._override(rng) for _ in range(rng.choice([0, 1, 1, 1, 2, 4]))]

    def _override(self, rng: random.Random) -> str:
        name = rng.choice(self._names)
        action = rng.random()
        if action < 0.05:
            name = rng.choice(
                ["", ".", "a.b.c", name + ".x", name.partition(".")[0], "x" * 500, "\x1b", "model.family"]
            )
        value = hostile_value(rng) if rng.random() < 0.4 else None
        if value is None:
            return f"{name}={rng.choice(_TEXTS)}" if action < 0.98 else name
        with contextlib.suppress(ValueError):
            return f"{name}={value}"[:100_000]
        return f"{name}={value:#x}" if type(value) is int else name

    def passes(self, made: Input) -> bool:
        try:
            text = made[0].decode("utf-8-sig")
            depth = max(text.count("["), text.count("{"), *(one.count("[") + one.count("{") for one in made[1]), 0)
            if "&" in text or depth > 100:
                return "&" in text and "*" in text
            if not isinstance(yaml.load(text, _LOADER), dict):
                return False
            for override in made[1]:
                yaml.load(override.partition("=")[2], _LOADER)
            return True
        except (yaml.YAMLError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return False

    def use(self, made: Input) -> None:
        path = self.folder / "c.yaml"
        path.write_bytes(made[0])
        config = load_config(str(path), made[1])
        assert config_from_dict(config.to_dict()) == config
        assert config.crop_frames >= 2


def _fields(kind: Any, prefix: str) -> Any:
    for field in dataclasses.fields(kind):
        yield prefix + field.name
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        for one in kinds:
            if dataclasses.is_dataclass(one):
                yield from _fields(one, f"{prefix}{field.name}.")


def run(count: int, seed: int = 0) -> Report:
    """Run in this process; see :func:`tests.fuzz.runner.run_here`."""
    return run_here("overrides", count, seed)
