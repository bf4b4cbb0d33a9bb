import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

import speechtok
from speechtok.errors import CheckpointError
from tests.training.helpers import assert_same_weights, config_of, exported_of, fork_context, scalars_of, state_of
from training.checkpoints import CHECKPOINT_NAME
from training.config import OLD_STATE_NAMES
from training.muon import Muon
from training.train import train
from training.trainer import Batch, Trainer

pytestmark = pytest.mark.slow


def test_an_interrupted_training_reaches_the_weights_of_an_uninterrupted_one(trained, tmp_path, monkeypatch):
    whole = Path(trained["out"])
    # checkpoints at steps 3 and 6; interrupted at 5, 7, and then run to the end
    for stop in (5, 7):
        original = Trainer.run_step

        def run_step(self, waveform, original=original, stop=stop):
            if self.step == stop:
                raise RuntimeError("power cut")
            return original(self, waveform)

        monkeypatch.setattr(Trainer, "run_step", run_step)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config_of(trained, out=str(tmp_path / "cut")))
        monkeypatch.setattr(Trainer, "run_step", original)
    cut = train(config_of(trained, out=str(tmp_path / "cut"))).parent
    assert_same_weights(whole, cut)
    assert speechtok.load(whole / "tokenizer").fingerprint == speechtok.load(cut / "tokenizer").fingerprint


def test_a_training_killed_ten_times_at_any_moment_reaches_the_same_weights(tiny_config, tmp_path, monkeypatch):
    context = fork_context(monkeypatch)
    values = tiny_config | {"steps": 30, "checkpoint_every": 2}
    cut = values | {"out": str(tmp_path / "cut")}

    def run(values: dict, seconds: float | None = None) -> int | None:
        process = context.Process(target=train, args=(config_of(values),))
        process.start()
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode

    assert run(values, seconds=0.0) != 0  # the server is there now
    shutil.rmtree(values["out"], ignore_errors=True)
    start = time.perf_counter()
    assert run(values) == 0
    seconds = time.perf_counter() - start
    moments = random.Random(0)
    killed, steps = 0, set()
    while killed < 10:
        code = run(cut, moments.uniform(0.05, 0.5) * seconds)
        killed += code == -signal.SIGKILL
        if (Path(cut["out"]) / CHECKPOINT_NAME).exists():
            steps.add(state_of(cut)["step"])
        if code == 0:  # it came to its end: kill the rest of the ten from the start
            shutil.rmtree(cut["out"])
    assert run(cut) == 0
    assert_same_weights(Path(values["out"]), Path(cut["out"]))
    assert len(steps) > 1, "no kill came between two checkpoints"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_completes_the_step_and_saves(trained, tmp_path, monkeypatch, number):
    original = Muon.step
    cut = config_of(trained, out=str(tmp_path / "cut"))
    steps = []

    def step(self):
        steps.append(0)
        if len(steps) == 5:  # in the middle of a step
            os.kill(os.getpid(), number)
        return original(self)

    monkeypatch.setattr(Muon, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    assert torch.load(Path(cut.out) / CHECKPOINT_NAME, weights_only=True)["step"] == 5
    assert_same_weights(Path(trained["out"]), train(cut).parent)


def test_resuming_does_not_need_start_from(trained, tmp_path):
    first = exported_of(trained)
    changes = {"out": str(tmp_path / "second"), "start_from": str(first)}
    train(config_of(trained, **changes))
    shutil.rmtree(first)
    train(config_of(trained, **changes, steps=9))


def test_a_checkpoint_of_another_config_is_refused(trained):
    with pytest.raises(CheckpointError, match="batch_size"):
        train(config_of(trained, batch_size=2))


def test_a_resumed_training_may_have_more_steps(trained):
    train(config_of(trained, steps=10))
    assert state_of(trained)["step"] == 10


def test_a_damaged_checkpoint_is_named(trained):
    path = Path(trained["out"]) / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        train(config_of(trained))


def spoil(batch: Batch, bad: bool) -> Batch:
    return batch._replace(waveform=batch.waveform * (float("nan") if bad else 1.0))


def test_skipped_steps_are_counted_across_a_resume(tiny_config, monkeypatch):
    original = Trainer.batch
    monkeypatch.setattr(Trainer, "batch", lambda self, step: spoil(original(self, step), step in (1, 9)))
    train(config_of(tiny_config))
    assert state_of(tiny_config)["skipped_steps"] == 1
    train(config_of(tiny_config, steps=12))
    assert state_of(tiny_config)["skipped_steps"] == 2
    assert scalars_of(tiny_config, "train/skipped_steps")[12] == 2


def test_a_training_with_a_perceptual_teacher_and_an_adversary_resumes(tiny_config):
    changes = {
        "distillation": {"perceptual_teacher": "mfcc"},
        "adversary": {"weight": 1.0, "start_step": 2, "period_channels": 8, "spectrum_channels": 4},
    }
    train(config_of(tiny_config, steps=5, **changes))
    once = state_of(tiny_config)
    shutil.rmtree(tiny_config["out"])
    train(config_of(tiny_config, steps=5, checkpoint_every=3, **changes))
    assert all(torch.equal(x, once["autoencoder"][name]) for name, x in state_of(tiny_config)["autoencoder"].items())
    judges = once["adversary"][0]
    train(config_of(tiny_config, steps=7, **changes))
    assert any(not torch.equal(x, judges[name]) for name, x in state_of(tiny_config)["adversary"][0].items())
    assert scalars_of(tiny_config, "train/representation")


def test_a_resumed_training_may_have_other_learning_rates(trained):
    train(config_of(trained, steps=10, optimizer={"muon_lr": 1e-3, "warmup_steps": 2}))
    assert state_of(trained)["step"] == 10


def test_fields_that_a_checkpoint_lacks_had_their_defaults(trained):
    with pytest.raises(CheckpointError, match=r"trained with speed 1\.0, but the config has 1\.1"):
        train(config_of(trained, speed=1.1, steps=9))
    state = state_of(trained)
    state["config"]["speed"] = 1.1
    torch.save(state, Path(trained["out"]) / CHECKPOINT_NAME)
    with pytest.raises(CheckpointError, match=r"speed 1\.1"):
        train(config_of(trained, steps=9))


def with_former_names(state: dict) -> dict:
    """A state as versions before 0.2 saved it."""
    config = state["config"]
    config["only"] = config.pop("train_only", "")
    config["adversary"]["features"] = config["adversary"].pop("feature_matching")
    config["distillation"]["teacher"] = config["distillation"].pop("perceptual_teacher")
    former = {new: old for old, new in OLD_STATE_NAMES.items()}
    return {former.get(name, name): value for name, value in state.items()}


@pytest.mark.parametrize("stage", ["joint", "encoder"])
def test_a_checkpoint_with_former_names_loads_and_resumes(stage, trained, encoder_stage, tmp_path):
    values = {"joint": trained, "encoder": encoder_stage}[stage] | {"out": str(tmp_path / "new")}
    train(config_of(values))
    old = tmp_path / "old"
    old.mkdir()
    state = with_former_names(state_of(values))
    assert {"network", "before"} <= state.keys()
    torch.save(state, old / CHECKPOINT_NAME)
    assert (
        speechtok.load(old / CHECKPOINT_NAME).fingerprint
        == speechtok.load(tmp_path / "new" / CHECKPOINT_NAME).fingerprint
    )
    for folder in ("new", "old"):
        train(config_of(values, steps=10, out=str(tmp_path / folder)))
    assert_same_weights(tmp_path / "new", old)
