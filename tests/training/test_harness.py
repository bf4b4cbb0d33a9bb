import errno
import os
import re
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from speechtok.errors import CheckpointError, OutputError, SpeechtokError
from training import harness, results
from training.distributed import World
from training.harness import Run, fit, resume
from training.logs import Report
from training.optimizers import learning_rate_factor, muon_and_adamw
from training.results import Export
from training.skipped import SkippedSteps, all_finite


class Line:
    """A small trainer: a linear layer that learns to give 0."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(0)
        self.seed, self.device, self.world = seed, torch.device("cpu"), World()
        self.model = nn.Linear(4, 1)
        self.optimizers = muon_and_adamw([self.model.weight], [self.model.bias], 1e-2, 1e-2)
        self.step, self.skipped = 0, SkippedSteps()

    def batch(self, step: int) -> Tensor:
        return torch.randn(8, 4, generator=torch.Generator().manual_seed(1000 * self.seed + step))

    def run_step(self, batch: Tensor) -> dict[str, Tensor]:
        loss = self.model(batch).square().mean()
        loss.backward()
        if all_finite({"loss": loss}):
            self.skipped.reset()
            self.optimizers.set_rates(learning_rate_factor(self.step, 10, 2, 0.5))
            self.optimizers.step()
        else:
            self.skipped.add(self.step, {"loss": loss})
        self.optimizers.zero_grad()
        self.step += 1
        return {"loss": loss.detach()}

    def scalars(self, terms: dict[str, Tensor]) -> dict[str, float]:
        return {"train/loss": float(terms["loss"])}

    def state_dict(self) -> dict[str, Any]:
        return {
            "config": {"seed": self.seed},
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optimizers"])

    def fixed_values(self, state: dict[str, Any]) -> dict[str, Any]:
        return {"seed": state["config"]["seed"]}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(out=tmp_path, steps=10, log_every=2, validate_every=4, checkpoint_every=3)


@pytest.fixture
def expected(tmp_path: Path) -> Tensor:
    """Weights of an uninterrupted run."""
    trainer = Line()
    fit(trainer, Run(out=tmp_path / "expected", steps=10, log_every=5, validate_every=100, checkpoint_every=100))
    return trainer.model.weight


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_run_trains_logs_validates_and_saves(run, capsys):
    trainer, validated = Line(), []

    def validate() -> Report:
        validated.append(trainer.step)
        media = lambda writer, step: writer.add_text("note", "seen", step)  # noqa: E731
        return Report({"score": 0.5}, media)

    assert not resume(trainer, run)
    fit(trainer, run, validate)
    assert trainer.step == 10
    assert validated == [4, 8, 10]
    assert torch.equal(torch.load(run.checkpoint, weights_only=True)["model"]["weight"], trainer.model.weight)
    assert [step for step, _ in scalars(run.out / "tensorboard", "train/loss")] == [2, 4, 6, 8, 10]
    assert scalars(run.out / "tensorboard", "validation/score") == [(4, 0.5), (8, 0.5), (10, 0.5)]
    assert "step 8: score 0.5" in capsys.readouterr().out


def test_a_run_that_was_cut_reaches_the_weights_of_an_uninterrupted_one(run, expected):
    cut = Line()
    cut.batch = lambda step: 1 / 0 if step == 5 else Line.batch(cut, step)
    with pytest.raises(ZeroDivisionError):
        fit(cut, run)
    resumed = Line()
    assert resume(resumed, run)
    assert resumed.step == 3
    fit(resumed, run)
    assert torch.equal(resumed.model.weight, expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_saves_after_the_current_step(run, expected, number, capsys):
    stopped = Line()
    original = stopped.run_step

    def run_step(batch: Tensor) -> dict[str, Tensor]:
        if stopped.step == 4:
            os.kill(os.getpid(), number)
        return original(batch)

    stopped.run_step = run_step
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, run)
    assert "interrupted; step 5 is saved" in capsys.readouterr().out
    resumed = Line()
    resume(resumed, run)
    assert resumed.step == 5
    fit(resumed, run)
    assert torch.equal(resumed.model.weight, expected)


def test_a_completed_run_is_not_trained_again(run):
    fit(Line(), run)
    done = Line()
    resume(done, run)
    done.run_step = None
    fit(done, run)
    assert done.step == 10


def test_a_checkpoint_with_other_fixed_values_is_refused(run):
    fit(Line(), run)
    with pytest.raises(CheckpointError, match="was trained with seed 0, but the config has 1"):
        resume(Line(seed=1), run)


@pytest.mark.parametrize("damage", [{"model": {}}, {"optimizers": []}])
def test_a_checkpoint_that_does_not_fit_is_named(run, damage):
    fit(Line(), run)
    state = torch.load(run.checkpoint, weights_only=True)
    torch.save(state | damage, run.checkpoint)
    with pytest.raises(CheckpointError, match="does not fit this version of the training code"):
        resume(Line(), run)


def test_a_failed_checkpoint_is_reported_and_training_continues(run, monkeypatch, capsys):
    original = harness.save_checkpoint

    def save_checkpoint(state: dict[str, Any], path: Path) -> None:
        if state["step"] == 3:
            raise CheckpointError("the checkpoint of step 3 cannot be written")
        original(state, path)

    monkeypatch.setattr(harness, "save_checkpoint", save_checkpoint)
    fit(Line(), run)
    assert "warning (1 failed checkpoints so far): the checkpoint of step 3" in capsys.readouterr().out
    assert scalars(run.out / "tensorboard", "train/failed_checkpoints")[-1] == (10, 1.0)


class FullDisk:
    """A disk without room for the last checkpoint, nor for the first ``failures`` exports."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: int = 0) -> None:
        self.failures, self.events = failures, []
        monkeypatch.setattr(harness, "save_checkpoint", self.save)
        monkeypatch.setattr(results, "RETRY_SECONDS", 0.01)

    def save(self, state: dict[str, Any], path: Path) -> None:
        if state["step"] == 10:
            self.events.append("checkpoint")
            raise CheckpointError("no space")

    def write(self) -> None:
        self.events.append("export")
        if self.failures:
            self.failures -= 1
            raise OutputError("cannot write model")


def test_a_full_disk_at_the_last_step_is_an_error_after_the_result_is_written(run, monkeypatch):
    disk = FullDisk(monkeypatch)
    with pytest.raises(CheckpointError, match=r"no space\. The result of the training is complete: \S*model"):
        fit(Line(), run, lambda: Report({"score": 0.5}), Export(run.out / "model", disk.write, 16))
    assert disk.events == ["checkpoint", "export"]
    assert scalars(run.out / "tensorboard", "validation/score")[-1] == (10, 0.5)


def test_a_training_that_can_write_nothing_waits_for_room(run, expected, monkeypatch, capsys):
    disk, trainer = FullDisk(monkeypatch, failures=2), Line()
    with pytest.raises(CheckpointError, match="is complete"):
        fit(trainer, run, export=Export(run.out / "model", disk.write, 16))
    assert disk.events == ["checkpoint", "export"] * 3
    printed = capsys.readouterr().out
    assert printed.count(f"in the memory of process {os.getpid()} only") == 2
    assert "cannot write model. Trying again every 0.01 s until there is room; Ctrl-C gives up" in printed
    assert torch.equal(trainer.model.weight, expected)


@pytest.mark.parametrize("exports", [True, False])
def test_waiting_for_room_ends_with_a_stop_request(run, monkeypatch, exports):
    disk = FullDisk(monkeypatch, failures=10**6)
    monkeypatch.setattr(results, "RETRY_SECONDS", 60)
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(SpeechtokError, match="cannot write model" if exports else "no space"):
        fit(Line(), run, export=Export(run.out / "model", disk.write, 16) if exports else None)


def test_an_export_that_fails_after_the_checkpoint_is_an_error_at_once(run):
    def write() -> None:
        raise OutputError("cannot write model")

    with pytest.raises(OutputError, match="cannot write model"):
        fit(Line(), run, export=Export(run.out / "model", write, 16))
    assert torch.load(run.checkpoint, weights_only=True)["step"] == 10


def test_a_completed_run_writes_its_result_again(run):
    fit(Line(), run)
    done, written = Line(), []
    resume(done, run)
    fit(done, run, export=Export(run.out / "model", lambda: written.append(done.step), 16))
    assert written == [10]


def test_room_for_the_result_is_kept_until_the_last_step(run):
    trainer, occupied = Line(), []

    def occupy() -> None:
        occupied.append(sum(path.stat().st_blocks * 512 for path in run.out.glob(".speechtok-*")))

    trainer.batch = lambda step: occupy() or Line.batch(trainer, step)
    fit(trainer, run, export=Export(run.out / "model", occupy, 3_000_000))
    assert min(occupied[:-1]) >= 3_000_000
    assert occupied[-1] == 0
    assert not list(run.out.glob(".*"))


def test_a_disk_without_room_for_the_result_is_named_before_the_first_step(run):
    trainer = Line()
    with pytest.raises(OutputError, match=r"has no room for the result .*free at least 1000000000000 MB, or choose"):
        fit(trainer, run, export=Export(run.out / "model", lambda: None, 10**18))
    assert trainer.step == 0
    assert not list(run.out.glob(".*"))


@pytest.mark.parametrize("method", ["__init__", "add_scalar", "close"])
def test_an_error_of_tensorboard_does_not_end_a_training(run, expected, monkeypatch, method, capsys):
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SummaryWriter, method, fail)
    trainer = Line()
    fit(trainer, run, lambda: Report({"score": 0.5}, lambda writer, step: writer.add_text("note", "seen", step)))
    assert torch.equal(trainer.model.weight, expected)
    printed = capsys.readouterr().out
    assert printed.count("training continues without them") == 1


def test_skipped_steps_are_reported(run, capsys):
    trainer = Line()
    trainer.batch = lambda step: Line.batch(trainer, step) * (float("nan") if step == 4 else 1.0)
    fit(trainer, run)
    assert "step 4 was skipped (1 so far): not all finite: loss nan" in capsys.readouterr().out
    assert scalars(run.out / "tensorboard", "train/skipped_steps")[-1] == (10, 1.0)


def test_only_the_first_process_writes(run, capsys):
    trainer = Line()
    trainer.world = SimpleNamespace(writes=False, any=lambda value: value)
    fit(trainer, run, validate=lambda: pytest.fail("validated"))
    assert trainer.step == 10
    assert not list(run.out.iterdir())
    assert capsys.readouterr().out == ""


def test_a_compiled_training_says_that_it_compiles_and_how_to_turn_it_off(run, capsys):
    fit(Line(), Run(out=run.out, steps=10, log_every=5, validate_every=5, checkpoint_every=5, compiled=True))
    printed = capsys.readouterr().out
    assert re.search(r"compiling .*minutes.*compile=false", printed)
    assert re.search(r"the first step took \d+ s", printed)
    fit(Line(), Run(out=run.out / "b", steps=10, log_every=5, validate_every=5, checkpoint_every=5))
    assert "compil" not in capsys.readouterr().out
