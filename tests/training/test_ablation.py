import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from training import ablation
from training.ablation import main, read_runs, table
from training.config import load_config
from training.train import train

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).resolve().parents[2] / "training/configs"


@pytest.fixture
def command(tiny_config, tmp_path):
    config, runs, out = tmp_path / "tiny.yaml", tmp_path / "runs.yaml", tmp_path / "out"
    values = {name: value for name, value in tiny_config.items() if name not in ("data", "out")}
    config.write_text(yaml.safe_dump(values))
    runs.write_text(yaml.safe_dump({"all": [], "no-mel": ["loss.mel=0"]}))
    arguments = ["--config", str(config), "--runs", str(runs), "--out", str(out), f"data={tiny_config['data']}"]
    return arguments, runs, out


def test_runs_are_trained_and_compared_and_completed_runs_are_kept(command, capsys, monkeypatch):
    arguments, _, out = command
    separately = ablation.run_process

    def first_separately(command):
        """Run only the first training in its own process; importing everything takes longer than training."""
        if not (out / "all" / "tokenizer").exists():
            return separately(command)
        config, *changes = command[command.index("--config") + 1 :]
        train(load_config(config, changes))
        return 0

    monkeypatch.setattr(ablation, "run_process", first_separately)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith(("| all |", "| no-mel |"))]
    assert len(rows) == 2
    assert rows[0].split("|")[2:] != rows[1].split("|")[2:]
    assert (out / "ablation.md").read_text() in printed
    assert {path.parent.resolve() for path in out.rglob("*.int16")} == {out / "audio"}  # packed once
    weights = [(out / name / "tokenizer" / "model.safetensors").read_bytes() for name in ("all", "no-mel")]
    assert weights[0] != weights[1]
    monkeypatch.setattr(ablation, "train_run", None)  # all runs are complete
    assert main(arguments) == 0
    assert capsys.readouterr().out == (out / "ablation.md").read_text()


@pytest.mark.parametrize("written", ["", "{", "[]", '{"config": {}}'])
def test_a_run_without_a_complete_result_is_run_again(command, tmp_path, monkeypatch, written):
    arguments, _, out = command
    trained = []

    def train(config, overrides, out):
        out.mkdir(exist_ok=True)
        trained.append(out.name)

    monkeypatch.setattr(ablation, "train_run", train)
    monkeypatch.setattr(ablation, "measure", lambda _: {"stoi": 0.5})
    (out / "all").mkdir(parents=True)
    (out / "all" / "measured.json").write_text(written)
    assert main(arguments) == 0
    assert trained == ["all", "no-mel"]
    assert main([*arguments, "workers=1"]) == 0  # does not change the weights
    assert trained == ["all", "no-mel"]


def test_a_result_of_another_config_is_refused(command, monkeypatch, capsys):
    arguments, _, out = command
    monkeypatch.setattr(ablation, "train_run", lambda *_: None)
    monkeypatch.setattr(ablation, "measure", lambda _: {"stoi": 0.5})
    assert main(arguments) == 0
    for change in ("steps=7", "optimizer.muon_lr=0.1"):
        assert main([*arguments, change]) == 1
        name = change.partition("=")[0].partition(".")[0]
        assert f"{out / 'all'} has a run with another {name}; delete the folder" in capsys.readouterr().err


def test_an_interrupted_run_is_resumed(command, monkeypatch):
    arguments, _, _ = command

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ablation, "train_run", interrupted)
    assert main(arguments) == 130
    monkeypatch.setattr(ablation, "train_run", lambda *_: None)
    monkeypatch.setattr(ablation, "measure", lambda _: {"stoi": 0.5})
    assert main(arguments) == 0


def test_ctrl_c_waits_until_a_training_has_saved(tmp_path):
    program = """
import signal, sys, time
def stop(*_):
    time.sleep(1)
    open(sys.argv[1], "w").write("saved")
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
time.sleep(60)
"""
    parent = """
import sys
from training.ablation import run_process
run_process([sys.executable, "-c", sys.argv[1], sys.argv[2]])
"""
    arguments = [sys.executable, "-c", parent, program, str(tmp_path / "file")]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=root, start_new_session=True, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
    assert (tmp_path / "file").read_text() == "saved"


def test_missing_results_are_empty_cells():
    assert table({"a": {"stoi": 0.5, "pnmi": float("nan")}}).splitlines()[-1] == "| a |  | 0.5000 |  |  |  |"


@pytest.mark.parametrize("changes", ["speed=1.1", [1]])
def test_a_run_without_a_list_of_overrides_is_an_error(command, changes, capsys):
    arguments, runs, _ = command
    runs.write_text(yaml.safe_dump({"odd": changes}))
    assert main(arguments) == 1
    assert "odd is" in capsys.readouterr().err


def test_a_training_that_fails_is_named(command, capsys):
    arguments, _, _ = command
    assert main([*arguments, "device=nonsense"]) == 1
    assert "the training all ended with status 1" in capsys.readouterr().err


def test_the_runs_of_the_repository_are_different_configs():
    runs = read_runs(str(CONFIGS / "ablation.yaml"))
    configs = [load_config(str(CONFIGS / "default.yaml"), ["data=x", *changes]).to_dict() for changes in runs.values()]
    assert all(configs.count(config) == 1 for config in configs)
