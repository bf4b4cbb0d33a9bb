import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import speechtok
from training.config import TrainingConfig, load_config
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


def stages_of(recipe: str, *options: str) -> tuple[list[TrainingConfig], set[str]]:
    """The trainings of a recipe, each of which reads what steps before it wrote; and all that was written."""
    written, stages = set(), []
    for command in dry_run(recipe, "DATA=speech", "RUNS=made", "DEVICE=cuda", "WORKERS=3", *options):
        if "training.teachers.pretrain" in command:
            teacher = load_teacher_config(*config_and_fields(command))
            assert (teacher.data, teacher.device, teacher.workers, teacher.first.steps) == ("speech", "cuda", 3, 7)
            written.add(f"{teacher.out}/teacher")
        elif "training.teachers" in command:
            kind, _, where = command[command.index("--teacher") + 1].partition(":")
            assert where in written if kind == "own" else (kind, where) == ("transformers", "whisper")
            written.add(command[command.index("--out") + 1])
        elif "training.teachers.phone_probe" in command:
            assert command[command.index("--features") + 1] in written
            written.add(command[command.index("--out") + 1])
        elif "training.train" in command:
            stage = load_config(*config_and_fields(command))
            assert (stage.data, stage.device, stage.workers) == ("speech", "cuda", 3)
            assert {stage.distillation.features, stage.distillation.labels} - {""} <= written
            written.add(f"{stage.out}/tokenizer")
            stages.append(stage)
        elif "training.high_bands" in command:
            assert command[command.index("--tokenizer") + 1] in written
            written.add(command[command.index("--out") + 1])
    return stages, written


def test_each_step_of_speechtok_v1_reads_what_the_steps_before_it_wrote(monkeypatch):
    monkeypatch.chdir(ROOT)
    options = ["TEACHER=first.steps=7", "JOINT=accumulate=2", "ENCODER=bfloat16=false", "DECODER=bfloat16=false"]
    stages, written = stages_of("speechtok-v1", *options)
    assert [stage.train_only for stage in stages] == ["", "encoder", "decoder"]
    assert [(stage.accumulate, stage.bfloat16) for stage in stages] == [(2, True), (1, False), (1, False)]
    assert all(replace(stage.model, noise_bands=0) == stages[0].model for stage in stages)
    assert [stage.start_from for stage in stages[1:]] == [f"{stage.out}/tokenizer" for stage in stages[:-1]]
    assert "made/default-decoder/tokenizer" in written  # as the Makefile's comment says


def test_each_step_of_speechtok_v2_reads_what_the_steps_before_it_wrote(monkeypatch):
    monkeypatch.chdir(ROOT)
    options = ["WHISPER=whisper", "NOISE=noise.jsonl", "START=first", "ENCODER=steps=7", "DECODER=bfloat16=false"]
    (encoder, decoder), written = stages_of("speechtok-v2", *options)
    assert (encoder.train_only, encoder.start_from, encoder.steps) == ("encoder", "first", 7)
    assert encoder.augmentation.noise == "noise.jsonl"
    assert (decoder.train_only, decoder.start_from, decoder.bfloat16) == ("decoder", f"{encoder.out}/tokenizer", False)
    assert decoder.model == encoder.model == speechtok.load("speechtok-v2").config
    assert "made/speechtok-v2" in written  # as the Makefile's comment says


def test_the_fast_tests_are_those_without_the_slow_marker(tmp_path):
    commands = dry_run("test-fast", f"VENV={tmp_path}")
    assert commands[-1][-2:] == ["-m", "not slow"]


def test_a_cpu_build_of_pytorch_is_installed_before_what_needs_pytorch(tmp_path):
    installs = [words for words in dry_run("demo", f"VENV={tmp_path}", "TORCH_INDEX=cpu") if "install" in words]
    assert installs[0][-3:] == ["torch", "--index-url", "cpu"]
    assert ".[plot]" in installs[1]
