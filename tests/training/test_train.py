import errno
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import speechtok
from speechtok.errors import CheckpointError, ConfigError, OutputError, SpeechtokError
from tests.training.helpers import assert_same_weights, config_of, exported_of, scalars_of, state_of
from training.checkpoints import CHECKPOINT_NAME
from training.train import main, train
from training.trainer import Batch, Trainer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_training_exports_a_tokenizer_that_encodes_and_decodes(trained):
    tokenizer = speechtok.load(exported_of(trained))
    waveform = torch.sin(torch.arange(5000) / 10) * 0.3
    tokens = tokenizer.encode(waveform, 16_000)
    assert tokens.codes.shape == (1, 3, 16)
    assert tokenizer.decode(tokens).shape == (1, 5000)


def test_a_checkpoint_loads_as_a_tokenizer(trained):
    tokenizer = speechtok.load(Path(trained["out"]) / CHECKPOINT_NAME)
    assert tokenizer.encode(torch.zeros(320), 16_000).codes.shape == (1, 3, 1)


def test_starting_from_a_tokenizer_of_another_config_is_an_error(tiny_config, new_tokenizer, tmp_path):
    new_tokenizer().save(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"start_from is .*other, whose config is .* but model is"):
        train(config_of(tiny_config, start_from=str(tmp_path / "other")))


def test_worker_processes_do_not_change_the_weights(trained, tmp_path):
    train(config_of(trained, out=str(tmp_path / "second"), workers=2))
    assert_same_weights(Path(trained["out"]), tmp_path / "second")


def spoil(batch: Batch, bad: bool) -> Batch:
    return batch._replace(waveform=batch.waveform * (float("nan") if bad else 1.0))


def test_a_training_that_skips_too_many_steps_ends_and_keeps_its_checkpoint(tiny_config, monkeypatch):
    original = Trainer.batch
    monkeypatch.setattr(Trainer, "batch", lambda self, step: spoil(original(self, step), 3 <= step < 2**40))
    with pytest.raises(SpeechtokError, match="50 steps in a row, up to step 52, were not finite"):
        train(config_of(tiny_config, steps=60, checkpoint_every=3, validate_every=1000))
    state = state_of(tiny_config)
    assert state["step"] == 51
    assert all(torch.isfinite(value).all() for value in state["autoencoder"].values())


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(tiny_config, monkeypatch, capsys):
    original, saved = torch.save, []

    def save(state, file):
        saved.append(state["step"])
        if state["step"] == 6:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(state, file)

    monkeypatch.setattr(torch, "save", save)
    train(config_of(tiny_config))
    assert saved == [3, 6, 8]
    assert "the checkpoint of step 6 cannot be written" in capsys.readouterr().out
    assert state_of(tiny_config)["step"] == 8
    assert scalars_of(tiny_config, "train/failed_checkpoints")[8] == 1


def test_a_full_disk_at_the_end_is_an_error_and_costs_neither_the_result_nor_the_checkpoint(tiny_config):
    """A limit on the size of files stands in for a full disk, so that torch itself meets the error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    exported = train(config_of(tiny_config, steps=6))
    earlier = speechtok.load(exported).fingerprint
    before = (Path(tiny_config["out"]) / CHECKPOINT_NAME).read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(
            CheckpointError,
            match=r"step 8 cannot be written .*is kept: free 1 MB at .*result .* is complete: \S*tokenizer",
        ):
            train(config_of(tiny_config))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (Path(tiny_config["out"]) / CHECKPOINT_NAME).read_bytes() == before
    assert not list(Path(tiny_config["out"]).rglob(".*"))
    assert speechtok.load(exported).fingerprint != earlier  # trained to the last step


def test_an_out_that_cannot_be_written_is_named_before_the_first_step(tiny_config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="which cannot be written"):
        train(config_of(tiny_config, out=str(tmp_path / "file" / "run")))


def test_a_completed_training_is_reported(trained, capsys):
    train(config_of(trained, steps=4))
    assert "has completed 8 of 4 steps; pass a higher steps=" in capsys.readouterr().out


def test_tensorboard_has_losses_audio_spectrograms_and_histograms_of_codes(trained):
    events = EventAccumulator(str(Path(trained["out"]) / "tensorboard"))
    tags = events.Reload().Tags()
    assert {"train/mel", "train/skipped_steps", "validation/mel", "validation/perplexity_2"} <= set(tags["scalars"])
    assert {"original/0", "decoded/1"} <= set(tags["audio"])
    assert {"spectrogram/0", "spectrogram/1"} <= set(tags["images"])
    assert tags["histograms"] == ["codes/0", "codes/1", "codes/2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_only": "decoder"}, "start_from"),
        ({"train_only": "head"}, "'encoder' or 'decoder'"),
        ({"train_only": "encoder", "start_from": "x"}, "semantic_dim is 0"),
        ({"train_only": "encoder", "start_from": "x", "model": {"semantic_dim": 3}}, "without a teacher"),
        (
            {"train_only": "encoder", "start_from": "x", "model": {"semantic_dim": 3}, "adversary": {"weight": 1.0}},
            "nothing is decoded",
        ),
        ({"train_only": "decoder", "start_from": "x", "distillation": {"labels": "y"}}, "codes do not change"),
        ({"distillation": {"features": "nowhere"}}, "nowhere"),
        ({"distillation": {"perceptual_teacher": "own:nowhere"}}, "nowhere"),
        ({"distillation": {"perceptual_teacher": "nobody"}}, "nobody"),
        ({"adversary": {"weight": -1.0}}, "weight"),
        ({"adversary": {"weight": 1.0, "start_step": 8}}, "start_step"),
        ({"model": {"semantic_dim": 3}}, "semantic_dim"),
    ],
)
def test_a_mistake_in_the_config_is_named_before_the_first_step(tiny_config, changes, message):
    with pytest.raises(SpeechtokError, match=message):
        train(config_of(tiny_config, **changes))


def test_the_command_trains_on_a_folder_of_audio(tiny_config, speech_folder, tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in speech_folder.glob("[0-9].flac"):
        (folder / file.name).symlink_to(file)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_config | {"data": "elsewhere", "steps": 3}))
    assert main(["--config", str(path), f"data={folder}"]) == 0
    exported = exported_of(tiny_config)
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {exported}"
    assert speechtok.load(exported).num_codebooks == 3


def test_the_module_runs_as_a_program_and_reports_a_config_mistake_in_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("out: run\nsteps: 5\nbatch_sise: 3\n")
    command = [sys.executable, "-m", "training.train", "--config", str(path), f"data={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "error: config has an unknown field 'batch_sise'; did you mean 'batch_size'?"
    )
