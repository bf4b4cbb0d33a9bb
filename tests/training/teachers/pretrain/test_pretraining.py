import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from speechtok.errors import CheckpointError, ConfigError, InputError, OutputError, SpeechtokError
from tests.training.teachers.pretrain.helpers import config_of
from training.dataset import pack
from training.manifest import find_utterances, phones_at
from training.teachers.frames import frame_centres
from training.teachers.hubert import load_hubert
from training.teachers.pretrain import pretraining, trainer
from training.teachers.pretrain.frame_labels import label_phones
from training.teachers.pretrain.pretraining import pretrain
from training.teachers.pretrain.validation import phone_accuracy

pytestmark = pytest.mark.slow


def checkpoint(values: dict, name: str) -> Path:
    return Path(values["out"]) / f"{name}.pt"


def state_of(values: dict, name: str) -> dict:
    return torch.load(checkpoint(values, name), weights_only=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_pretraining_finishes_its_step_and_resumes_to_equal_weights(values, tmp_path, monkeypatch, number):
    whole = load_hubert(pretrain(config_of(values))).state_dict()
    values["out"] = str(tmp_path / "again")
    original, calls = torch.optim.AdamW.step, []

    def step(self):
        calls.append(1)
        if len(calls) in (3, 4, 9):  # 4 is the last step of the first iteration; AdamW steps after Muon
            os.kill(os.getpid(), number)
        return original(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    for name, saved in (("first", 3), ("first", 4), ("second", 5)):
        with pytest.raises(KeyboardInterrupt):
            pretrain(config_of(values))
        assert state_of(values, name)["step"] == saved
    resumed = load_hubert(pretrain(config_of(values))).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert len(calls) == 4 + 6


def make_diverge(monkeypatch: pytest.MonkeyPatch, what: str, diverges: Callable[[int], bool]) -> None:
    """Make the loss or the gradient infinite in steps, counted from 1 over both iterations."""
    classification, clip = trainer.classification, torch.nn.utils.clip_grad_norm_
    calls = []

    def classify(name: str, *arguments: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(name)
        terms = classification(name, *arguments)
        if what == "loss" and diverges(calls.count("cluster")):
            terms[f"{name}_loss"] = terms[f"{name}_loss"] * torch.nan
        return terms

    def clip_gradients(*arguments: object) -> torch.Tensor:
        infinite = what == "gradient" and diverges(calls.count("cluster"))
        return clip(*arguments) * (torch.inf if infinite else 1)

    monkeypatch.setattr(trainer, "classification", classify)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip_gradients)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped(values, monkeypatch, what, capsys):
    make_diverge(monkeypatch, what, lambda step: step == 7)
    network = load_hubert(pretrain(config_of(values)))
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    assert state_of(values, "second")["skipped_steps"] == 1
    assert "step 2 was skipped (1 so far)" in "".join(capsys.readouterr())


def test_a_pretraining_that_diverges_ends_and_resumes_with_lower_rates(values, monkeypatch):
    monkeypatch.setattr("training.skipped.MAX_SKIPPED_IN_A_ROW", 2)
    with monkeypatch.context() as diverging:
        make_diverge(diverging, "loss", lambda step: step >= 7)
        with pytest.raises(SpeechtokError, match=r"2 steps in a row, up to step 3, .* lower the learning rates"):
            pretrain(config_of(values))
    values["second"] |= {"muon_lr": 1e-4, "adamw_lr": 1e-4}
    values["first"] |= {"muon_lr": 1e-4}
    values["clip_norm"] = 0.5
    pretrain(config_of(values))
    saved = state_of(values, "second")
    assert saved["step"] == 6
    assert all(group["lr"] <= 1e-4 for optimizer in saved["optimizers"] for group in optimizer["param_groups"])


def test_phones_that_are_trained_are_classified(values):
    values["first"]["steps"] = 1
    values["second"].update(steps=60, phone_share=0.9, mask_start=0.01, muon_lr=0.02, adamw_lr=0.01)
    values |= {"speed_low": 1.0, "speed_high": 1.0}
    config = config_of(values)
    network = load_hubert(pretrain(config))
    assert network.phones == ("SIL", "AA", "IY", "S")
    _, dev = find_utterances(config.data)
    corpus = pack([u.audio for u in dev], 16_000, Path(config.out) / "audio")
    found = phone_accuracy(network, corpus, label_phones(dev, corpus, network.phones, 320, 16_000))
    assert found["phone_accuracy"] > 0.8
    assert found["phone_accuracy_without_silence"] > 0.8


def test_validation_compares_with_the_phone_at_the_centre_of_a_frame(values, monkeypatch):
    calls = []
    monkeypatch.setattr(pretraining, "phone_accuracy", lambda *arguments: calls.append(arguments) or {})
    config = config_of(values)
    pretrain(config)
    network, corpus, labels = calls[0]
    for index, utterance in enumerate(find_utterances(config.data)[1]):
        frames = -(-len(corpus[index]) // 320)
        centres = frame_centres(frames, 320, 16_000).numpy()
        expected = phones_at(utterance.phones, centres, network.phones)
        assert labels.at(index, np.arange(frames) * 320 + 160).tolist() == expected.tolist()


def test_a_phone_weight_without_phones_is_refused(values, speech_folder):
    values["data"] = str(speech_folder)
    with pytest.raises(ConfigError, match=r"second\.phone_weight is 1\.0"):
        pretrain(config_of(values))


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_cannot_be_used_is_named(values, device):
    with pytest.raises(InputError, match=f"device is '{device}', which cannot be used here"):
        pretrain(config_of(values | {"device": device}))


def test_a_folder_that_cannot_be_written_is_named(values, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="which cannot be written"):
        pretrain(config_of(values | {"out": str(tmp_path / "file" / "run")}))


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(values, monkeypatch, capsys):
    original, saved = torch.save, []

    def save(state, file):
        if isinstance(state, dict) and "step" in state:
            saved.append(state["step"])
            if len(saved) == 4 or full:
                raise OSError(errno.ENOSPC, "No space left on device")
        original(state, file)

    full = False
    monkeypatch.setattr(torch, "save", save)
    pretrain(config_of(values))
    assert saved == [2, 4, 2, 4, 6]
    assert "the checkpoint of step 4 cannot be written" in "".join(capsys.readouterr())
    full = True
    with pytest.raises(CheckpointError, match=r"of step 8 cannot be written .*result .* is complete: \S*teacher"):
        pretrain(config_of(values | {"second": values["second"] | {"steps": 8}, "checkpoint_every": 100}))


def test_tensorboard_files_that_cannot_be_written_do_not_end_a_training(values, monkeypatch, capsys):
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    values["log_every"] = 1
    pretrain(config_of(values))
    assert "training continues without them" in "".join(capsys.readouterr())


@pytest.mark.parametrize("with_phones", [True, False])
def test_a_classifier_that_was_not_trained_is_not_exported(values, speech_folder, with_phones):
    values["second"]["phone_weight"] = 0.0
    if not with_phones:
        values["data"] = str(speech_folder)
    assert load_hubert(pretrain(config_of(values))).phones == ()


def test_a_checkpoint_of_another_training_is_refused(values):
    values["first"]["steps"] = values["second"]["steps"] = 2
    pretrain(config_of(values))
    values["weight_decay"] = 0.5
    with pytest.raises(CheckpointError, match=r"trained with weight_decay 0\.1, but the config has 0\.5"):
        pretrain(config_of(values))
    del values["weight_decay"]
    checkpoint(values, "second").write_text("damaged")
    with pytest.raises(CheckpointError, match="delete it"):
        pretrain(config_of(values))


def test_the_second_iteration_may_change_without_the_first(values):
    values["first"]["steps"] = values["second"]["steps"] = 2
    pretrain(config_of(values))
    checkpoint(values, "second").unlink()
    values["second"]["phone_weight"] = 0.0
    pretrain(config_of(values))


@pytest.mark.parametrize("change", [{"clusters": 4}, {"target_layer": 2}, {"phone_weight": 0.0}])
def test_clusters_are_computed_again_if_and_only_if_their_number_or_layer_changes(values, change):
    values["first"]["steps"] = values["second"]["steps"] = 2
    pretrain(config_of(values))
    out = Path(values["out"])
    before = set(out.glob("second-clusters*"))
    checkpoint(values, "second").unlink()
    values |= {name: value for name, value in change.items() if name == "target_layer"}
    values["second"] |= {name: value for name, value in change.items() if name != "target_layer"}
    pretrain(config_of(values))
    new = set(out.glob("second-clusters*")) - before
    assert len(new) == ("phone_weight" not in change)
    assert all(np.load(path).max() < 4 for path in new if "clusters" in change)


@pytest.mark.parametrize(
    ("phone", "named", "message"),
    [
        ("SIL", True, "trained with phones"),
        ("ZZ", True, "trained with phones"),
        ("SIL", False, "does not fit this version"),  # early checkpoints do not name their phones
    ],
)
def test_a_checkpoint_with_other_phones_is_refused(values, spoken_folder, tmp_path, phone, named, message):
    values["first"]["steps"] = values["second"]["steps"] = 2
    pretrain(config_of(values))
    shutil.copytree(spoken_folder, tmp_path / "other")
    for name in ("train.jsonl", "dev.jsonl"):
        text = (spoken_folder / name).read_text().replace('"AA"', f'"{phone}"')
        (tmp_path / "other" / name).write_text(text)
    if not named:
        state = state_of(values, "first")
        del state["phones"]
        torch.save(state, checkpoint(values, "first"))
    values["data"] = str(tmp_path / "other")
    with pytest.raises(CheckpointError, match=message):
        pretrain(config_of(values))


def test_a_complete_teacher_can_be_trained_for_longer(values):
    values["first"]["steps"] = values["second"]["steps"] = 2
    before = load_hubert(pretrain(config_of(values))).state_dict()
    values["second"]["steps"] = 5
    after = load_hubert(pretrain(config_of(values))).state_dict()
    assert not torch.equal(before["embed.weight"], after["embed.weight"])
    assert state_of(values, "second")["step"] == 5


def test_a_checkpoint_of_an_early_version_is_resumed_to_equal_weights(values, tmp_path):
    whole = load_hubert(pretrain(config_of(values))).state_dict()
    values["out"] = str(tmp_path / "again")
    pretrain(config_of(values))
    checkpoint(values, "second").unlink()
    state = state_of(values, "first")
    del state["skipped_steps"], state["skipped_in_a_row"], state["phones"]  # what early versions did not save
    torch.save(state, checkpoint(values, "first"))
    resumed = load_hubert(pretrain(config_of(values))).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
