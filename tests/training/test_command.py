import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from speechtok.errors import ConfigError
from training import config
from training.command import describe_fields, field_docs, run_command


@dataclass(frozen=True)
class Inner:
    """Inner fields.

    Attributes:
        rate: learning rate of ``AdamW``.
    """

    rate: float = 1e-3


@dataclass(frozen=True)
class Outer:
    """All fields.

    Attributes:
        out: folder of the run. It is created.
        name: name of the run, which
            is long.
        fast: whether it is fast.
        inner: see :class:`Inner`.
    """

    out: str
    name: str = ""
    fast: bool = True
    inner: Inner = field(default_factory=Inner)


def test_help_lists_every_field_with_default_and_meaning():
    rows = [line.split(maxsplit=2) for line in describe_fields(Outer).splitlines() if line.strip()]
    assert rows[1:] == [
        ["out", "required", "folder of the run"],
        ["name", "''", "name of the run, which is long"],
        ["fast", "true", "whether it is fast"],
        ["inner:", "see", "Inner"],
        ["inner.rate", "0.001", "learning rate of AdamW"],
    ]


CONFIGS = [value for value in vars(config).values() if isinstance(value, type) and dataclasses.is_dataclass(value)]


@pytest.mark.parametrize("config_type", CONFIGS, ids=lambda config_type: config_type.__name__)
def test_every_field_of_a_config_is_documented(config_type):
    assert list(field_docs(config_type)) == [f.name for f in dataclasses.fields(config_type)]


def test_the_help_of_training_shows_the_fields_of_both_families(capsys):
    with pytest.raises(SystemExit):
        run_command("training.train", "Train.", config.TrainingConfig, config.load_config, Path, ["--help"])
    printed = capsys.readouterr().out
    for name in ("crop_seconds", "model.hop_length", "model.encoder.frame_dim", "model.filters", "optimizer.muon_lr"):
        assert f"\n  {name} " in printed
    assert "for model.family: seanet" in printed


def failing(error: BaseException):
    def run(_config: object) -> Path:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "status", "said"),
    [
        (lambda _: Path("there"), 0, "wrote there\n"),
        (failing(ConfigError("steps is 0")), 1, "error: steps is 0\n"),
        (
            failing(torch.OutOfMemoryError("CUDA out of memory.\nmore")),
            1,
            "error: CUDA out of memory. Lower batch_size",
        ),
        (failing(KeyboardInterrupt()), 130, ""),
    ],
)
def test_a_program_ends_with_a_status_and_one_line(run, status, said, capsys):
    load = lambda path, overrides: (path, overrides)  # noqa: E731
    assert run_command("x", "X.", Outer, load, run, ["--config", "c.yaml", "a=1"]) == status
    printed = capsys.readouterr()
    assert (printed.out if status == 0 else printed.err).startswith(said)
