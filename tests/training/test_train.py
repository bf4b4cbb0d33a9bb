import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import speechtok
from speechtok.config import from_mapping
from speechtok.errors import CheckpointError, ConfigError, SpeechtokError
from training import train as train_module
from training.config import TrainingConfig
from training.train import CHECKPOINT_NAME, Trainer, learning_rate_factor, make_optimizers, perplexity, train

ROOT = Path(__file__).resolve().parents[2]


def config_of(values: dict, **changes) -> TrainingConfig:
    return from_mapping(TrainingConfig, values | changes)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / CHECKPOINT_NAME, weights_only=True)["network"]


def assert_same_weights(a: Path, b: Path) -> None:
    left, right = weights_of(a), weights_of(b)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_training_exports_a_tokenizer_that_encodes_and_decodes(tiny_config):
    folder = train(config_of(tiny_config))
    tokenizer = speechtok.load(folder)
    waveform = torch.sin(torch.arange(5000) / 10) * 0.3
    tokens = tokenizer.encode(waveform, 16_000)
    assert tokens.codes.shape == (1, 3, 16)
    assert tokenizer.decode(tokens).shape == (1, 5000)


def test_training_lowers_the_loss(tiny_config):
    config = config_of(tiny_config, steps=60)
    corpora = [train_module.pack(f, 16_000, Path(config.out)) for f in train_module.find_utterances(config.data)]
    trainer = Trainer(config, *corpora)
    mel = [float(trainer.run_step(trainer.crops(step))["mel"]) for step in range(60)]
    assert sum(mel[-5:]) < 0.7 * sum(mel[:5])


def test_every_prefix_of_the_codebooks_is_trained(tiny_config):
    config = config_of(tiny_config)
    corpora = [train_module.pack(f, 16_000, Path(config.out)) for f in train_module.find_utterances(config.data)]
    trainer = Trainer(config, *corpora)
    used = set()
    for step in range(8):
        codes = trainer.run_step(trainer.crops(step)).get("codes")
        if codes is not None:
            used |= set((codes[:, :, 0] >= 0).sum(1).tolist())
    assert used == {1, 2, 3}


def test_an_interrupted_training_reaches_the_weights_of_an_uninterrupted_one(tiny_config, tmp_path, monkeypatch):
    whole = train(config_of(tiny_config)).parent
    # checkpoints at steps 3 and 6; interrupted at 5, 7, and then run to the end
    for stop in (5, 7):
        original = Trainer.run_step

        def run_step(self, waveform, original=original, stop=stop):
            if self.step == stop:
                raise RuntimeError("power cut")
            return original(self, waveform)

        monkeypatch.setattr(Trainer, "run_step", run_step)
        with pytest.raises(RuntimeError, match="power cut"):
            train(config_of(tiny_config, out=str(tmp_path / "cut")))
        monkeypatch.setattr(Trainer, "run_step", original)
    cut = train(config_of(tiny_config, out=str(tmp_path / "cut"))).parent
    assert_same_weights(whole, cut)
    assert speechtok.load(whole / "tokenizer").fingerprint == speechtok.load(cut / "tokenizer").fingerprint


def test_a_training_killed_without_warning_resumes_to_the_same_weights(tiny_config, tmp_path):
    values = tiny_config | {"steps": 40}
    whole = train(config_of(values)).parent
    values["out"] = str(tmp_path / "killed")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    command = [sys.executable, str(ROOT / "training/train.py"), "--config", str(path)]
    # as many threads as here: sums may round differently with another number
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / CHECKPOINT_NAME
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists(), "the training ended before its first checkpoint"
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    assert_same_weights(whole, tmp_path / "killed")


def test_ctrl_c_saves(tiny_config, monkeypatch):
    original = Trainer.run_step

    def run_step(self, waveform):
        if self.step == 4:
            raise KeyboardInterrupt
        return original(self, waveform)

    monkeypatch.setattr(Trainer, "run_step", run_step)
    with pytest.raises(KeyboardInterrupt):
        train(config_of(tiny_config))
    assert torch.load(Path(tiny_config["out"]) / CHECKPOINT_NAME, weights_only=True)["step"] == 4


def test_a_checkpoint_in_the_making_is_a_loadable_tokenizer(tiny_config):
    train(config_of(tiny_config))
    tokenizer = speechtok.load(Path(tiny_config["out"]) / CHECKPOINT_NAME)
    assert tokenizer.encode(torch.zeros(320), 16_000).codes.shape == (1, 3, 1)


def test_a_training_starts_from_a_tokenizer(tiny_config, tmp_path):
    first = train(config_of(tiny_config))
    config = config_of(tiny_config, out=str(tmp_path / "second"), start_from=str(first))
    corpora = [train_module.pack(f, 16_000, Path(config.out)) for f in train_module.find_utterances(config.data)]
    trainer = Trainer(config, *corpora)
    started = speechtok.load(first)
    trainer.continue_from(started)
    assert trainer.tokenizer.fingerprint == started.fingerprint
    assert trainer.quantizer.started
    assert torch.equal(trainer.quantizer.codebooks, started.quantizer.codebooks)
    live = dict(trainer.network.named_parameters())
    assert all(torch.equal(p, live[f"encoder.{name}"]) for name, p in started.encoder.named_parameters())
    trainer.run_step(trainer.crops(0))
    drift = (trainer.quantizer.codebooks - started.quantizer.codebooks).abs().max()
    assert 0 < drift < started.quantizer.codebooks.abs().max()


def test_a_tokenizer_of_another_config_is_no_start(tiny_config, new_tokenizer, tmp_path):
    new_tokenizer().save(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"start_from is .*other, a tokenizer of another config"):
        train(config_of(tiny_config, start_from=str(tmp_path / "other")))


def test_what_is_trained_is_what_is_exported(tiny_config):
    """Training simulates the rounding of inference: both networks give the same audio."""
    config = config_of(tiny_config)
    corpora = [train_module.pack(f, 16_000, Path(config.out)) for f in train_module.find_utterances(config.data)]
    trainer = Trainer(config, *corpora)
    waveform = trainer.crops(0)
    simulated = trainer._encode(waveform)
    with torch.no_grad():
        exactly, _ = trainer.tokenizer.encoder(waveform, trainer.tokenizer.encoder.initial_state(len(waveform)))
        padded = torch.nn.functional.pad(exactly, (0, 0, 0, 1))
        audio, _ = trainer.tokenizer.decoder(padded, trainer.tokenizer.decoder.initial_state(len(waveform)))
    assert simulated.requires_grad
    assert torch.allclose(simulated, exactly, atol=1e-4)
    assert torch.allclose(trainer._decode(exactly), audio[:, 320:], atol=1e-4)


def test_a_resumed_training_needs_its_start_no_more(tiny_config, tmp_path):
    first = train(config_of(tiny_config))
    changes = {"out": str(tmp_path / "second"), "start_from": str(first)}
    train(config_of(tiny_config, **changes))
    shutil.rmtree(first)
    train(config_of(tiny_config, **changes, steps=9))


def test_a_checkpoint_of_another_config_is_refused(tiny_config):
    train(config_of(tiny_config))
    with pytest.raises(CheckpointError, match="batch_size"):
        train(config_of(tiny_config, batch_size=2))


def test_a_training_may_be_made_longer(tiny_config):
    train(config_of(tiny_config))
    train(config_of(tiny_config, steps=10))
    assert torch.load(Path(tiny_config["out"]) / CHECKPOINT_NAME, weights_only=True)["step"] == 10


def test_a_damaged_checkpoint_is_named(tiny_config):
    train(config_of(tiny_config))
    path = Path(tiny_config["out"]) / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        train(config_of(tiny_config))


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_checkpoint(tiny_config, monkeypatch):
    original = Trainer.crops
    monkeypatch.setattr(
        Trainer, "crops", lambda self, step: original(self, step) * (float("nan") if step == 5 else 1.0)
    )
    with pytest.raises(SpeechtokError, match="step 5 is not finite"):
        train(config_of(tiny_config))
    state = torch.load(Path(tiny_config["out"]) / CHECKPOINT_NAME, weights_only=True)
    assert state["step"] == 3
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def test_the_exported_weights_are_an_average_of_the_live_ones(tiny_config):
    train(config_of(tiny_config))
    state = torch.load(Path(tiny_config["out"]) / CHECKPOINT_NAME, weights_only=True)
    live, averaged = state["network"]["encoder.embed.weight"], state["tokenizer"]["encoder.embed.weight"]
    assert not torch.equal(live, averaged)
    assert torch.nn.functional.cosine_similarity(live.flatten(), averaged.flatten(), dim=0) > 0.9


def test_every_parameter_is_optimized_once_and_matrices_inside_by_muon(tiny_config):
    network = speechtok.SpeechTokenizer(config_of(tiny_config).model).requires_grad_(True)
    (muon, _), (adamw, _) = make_optimizers(network, config_of(tiny_config))
    groups = [{id(p) for p in optimizer.param_groups[0]["params"]} for optimizer in (muon, adamw)]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {id(p) for p in network.parameters()}
    names = {name for name, p in network.named_parameters() if id(p) in groups[0]}
    assert {"encoder.merge.weight", "decoder.split.weight", "encoder.frame_blocks.blocks.0.expand.weight"} <= names
    assert not any("conv" in name or "head" in name or "embed" in name for name in names)


def test_the_rate_warms_up_stays_and_falls_to_zero(tiny_config):
    config = config_of(tiny_config, steps=100, optimizer={"warmup_steps": 10, "decay_fraction": 0.4})
    factors = [learning_rate_factor(step, config) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:60] == [1.0] * 50
    assert factors[80] == pytest.approx(0.5)
    assert factors[100] == 0.0


def test_perplexity_counts_what_is_used():
    codes = torch.tensor([[0, 1, 2, 3], [5, 5, 5, 5], [0, 0, 1, -1]])
    assert perplexity(codes, 8) == pytest.approx([4.0, 1.0, 1.8899], abs=1e-4)


def test_the_command_reports_a_config_mistake_in_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("out: run\nsteps: 5\nbatch_sise: 3\n")
    command = [sys.executable, str(ROOT / "training/train.py"), "--config", str(path), f"data={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "error: config has an unknown field 'batch_sise'; did you mean 'batch_size'?"
    )
