import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

from training.config import load_config
from training.teachers.pretrain.config import load_config as load_teacher_config

ROOT = Path(__file__).parents[1]


def dry_run(*words: str) -> list[list[str]]:
    """Commands that ``make`` would run, word by word."""
    # make test hands its flags down in the environment
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    make = ["make", "--dry-run", *words]
    printed = subprocess.run(make, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    return [shlex.split(line) for line in printed.replace("\\\n", " ").splitlines()]


def config_and_fields(command: list[str]) -> tuple[str, list[str]]:
    return command[command.index("--config") + 1], [word for word in command if "=" in word]


def test_each_step_of_the_default_recipe_reads_what_the_steps_before_it_wrote(monkeypatch):
    monkeypatch.chdir(ROOT)
    options = ["TEACHER=first.steps=7", "JOINT=accumulate=2", "ENCODER=bfloat16=false", "DECODER=bfloat16=false"]
    written, stages = set(), []
    for command in dry_run("default", "DATA=speech", "RUNS=made", "DEVICE=cuda", "WORKERS=3", *options):
        if "training.teachers.pretrain" in command:
            teacher = load_teacher_config(*config_and_fields(command))
            assert (teacher.data, teacher.device, teacher.workers, teacher.first.steps) == ("speech", "cuda", 3, 7)
            written.add(f"{teacher.out}/teacher")
        elif "training.teachers" in command:
            assert command[command.index("--teacher") + 1].removeprefix("own:") in written
            written.add(command[command.index("--out") + 1])
        elif "training.train" in command:
            stage = load_config(*config_and_fields(command))
            assert (stage.data, stage.device, stage.workers) == ("speech", "cuda", 3)
            assert {stage.start_from, stage.distillation.features, stage.distillation.labels} - {""} <= written
            written.add(f"{stage.out}/tokenizer")
            stages.append(stage)
    assert [stage.train_only for stage in stages] == ["", "encoder", "decoder"]
    assert [(stage.accumulate, stage.bfloat16) for stage in stages] == [(2, True), (1, False), (1, False)]
    assert all(replace(stage.model, noise_bands=0) == stages[0].model for stage in stages)
    assert [stage.start_from for stage in stages[1:]] == [f"{stage.out}/tokenizer" for stage in stages[:-1]]
    assert f"{stages[-1].out}/tokenizer" == "made/default-decoder/tokenizer"  # as the Makefile's comment says


def test_the_fast_tests_are_those_without_the_slow_marker(tmp_path):
    commands = dry_run("test-fast", f"VENV={tmp_path}")
    assert commands[-1][-2:] == ["-m", "not slow"]


def test_a_cpu_build_of_pytorch_is_installed_before_what_needs_pytorch(tmp_path):
    installs = [words for words in dry_run("demo", f"VENV={tmp_path}", "TORCH_INDEX=cpu") if "install" in words]
    assert installs[0][-3:] == ["torch", "--index-url", "cpu"]
    assert ".[plot]" in installs[1]
