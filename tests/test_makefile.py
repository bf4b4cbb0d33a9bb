import os
import shlex
import subprocess
from pathlib import Path

import pytest

from training import pretrain_teacher
from training.config import load_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def commands() -> list[list[str]]:
    """What ``make default`` would run, word by word, also under ``make test``, which hands its flags down."""
    apart = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    make = ["make", "--dry-run", "default", "DATA=speech", "RUNS=made", "DEVICE=cuda", "WORKERS=3"]
    make += ["TEACHER=first.steps=7", "TRAIN=accumulate=2", "LEGS=bfloat16=false"]
    printed = subprocess.run(make, cwd=ROOT, env=apart, capture_output=True, text=True, check=True).stdout
    return [shlex.split(line) for line in printed.replace("\\\n", " ").splitlines()]


def arguments_of(command: list[str]) -> tuple[str, list[str]]:
    return command[command.index("--config") + 1], [word for word in command if "=" in word]


def test_every_step_of_the_recipe_is_a_config_and_goes_on_with_what_the_steps_before_made(commands, monkeypatch):
    monkeypatch.chdir(ROOT)
    made, legs = set(), []
    for command in commands:
        if "training/pretrain_teacher.py" in command:
            teacher = pretrain_teacher.load_config(*arguments_of(command))
            assert (teacher.data, teacher.device, teacher.workers, teacher.first.steps) == ("speech", "cuda", 3, 7)
            made.add(f"{teacher.out}/teacher")
        elif "training.teachers" in command:
            assert command[command.index("--teacher") + 1].removeprefix("own:") in made
            made.add(command[command.index("--out") + 1])
        elif "training/train.py" in command:
            leg = load_config(*arguments_of(command))
            assert (leg.data, leg.device, leg.workers) == ("speech", "cuda", 3)
            assert {leg.start_from, leg.distillation.features, leg.distillation.labels} - {""} <= made
            made.add(f"{leg.out}/tokenizer")
            legs.append(leg)
    assert [leg.only for leg in legs] == ["", "encoder", "decoder"]
    assert [(leg.accumulate, leg.bfloat16) for leg in legs] == [(2, True), (1, False), (1, False)]
    assert all(leg.model == legs[0].model for leg in legs)
    assert [leg.start_from for leg in legs[1:]] == [f"{leg.out}/tokenizer" for leg in legs[:-1]]
    copied = commands[-1]
    assert copied[0] == "cp"
    assert {str(Path(file).parent) for file in copied[1:-1]} == {f"{legs[-1].out}/tokenizer"}
