import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from speechtok.errors import ConfigError
from speechtok.nn.turns import OUTPUTS, probabilities
from speechtok.turn_detector import TurnConfig, TurnDetector
from training.command import field_docs
from training.events.__main__ import main
from training.events.config import EventsConfig, load_config
from training.events.float_network import fast_length, float_scores
from training.events.trainer import EventsTrainer, cross_entropies, latents

CONFIG = Path(__file__).parents[3] / "training" / "configs" / "events.yaml"


@pytest.fixture(scope="module")
def tokenizer(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.save(folder)
    return folder


@pytest.fixture
def arguments(aligned_folder, tokenizer, tmp_path):
    """A training that takes a second."""
    values = {
        "data": aligned_folder,
        "noise": aligned_folder / "noise.jsonl",
        "out": tmp_path / "run",
        "tokenizer": tokenizer,
        "scene.seconds": 2.0,
        "scenes": 6,
        "dev_scenes": 3,
        "dim": 8,
        "depth": 1,
        "kernel_size": 5,
        "steps": 6,
        "batch_size": 2,
        "warmup_steps": 2,
        "checkpoint_every": 3,
        "validate_every": 100,
    }
    return ["--config", str(CONFIG), *(f"{name}={value}" for name, value in values.items())]


@pytest.mark.slow
def test_the_command_trains_a_detector_for_the_tokenizer(arguments, tiny, tmp_path, capsys):
    assert main(arguments) == 0
    path = tmp_path / "run" / "turns.safetensors"
    assert str(path) in capsys.readouterr().out
    detector = TurnDetector(tiny, path)
    assert (detector.config.latent_dim, detector.config.dim, detector.config.depth) == (8, 8, 1)
    assert detector.detect(torch.zeros(1, 4, 5, dtype=torch.int64)).speech.shape == (1, 5)


@pytest.mark.slow
def test_a_run_that_was_killed_reaches_the_weights_of_one_that_was_not(arguments, tmp_path, monkeypatch):
    assert main(arguments) == 0
    straight = load_file(tmp_path / "run" / "turns.safetensors")
    shutil.rmtree(tmp_path / "run")
    run_step = EventsTrainer.run_step

    def killed(self, batch):
        if self.step == 4:
            raise KeyboardInterrupt
        return run_step(self, batch)

    monkeypatch.setattr(EventsTrainer, "run_step", killed)
    assert main(arguments) == 130
    monkeypatch.undo()
    assert main(arguments) == 0
    resumed = load_file(tmp_path / "run" / "turns.safetensors")
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


@pytest.mark.slow
def test_resuming_with_another_tokenizer_or_network_is_refused(arguments, tmp_path, new_tokenizer, capsys):
    assert main(arguments) == 0
    assert main([*arguments, "dim=16"]) == 1
    assert "trained with dim 8" in capsys.readouterr().err
    new_tokenizer(seed=3).save(tmp_path / "other")
    assert main([*arguments, f"tokenizer={tmp_path / 'other'}"]) == 1
    assert "trained with tokenizer" in capsys.readouterr().err


def test_data_without_phones_is_refused(arguments, speech_folder, capsys):
    assert main([*arguments, f"data={speech_folder}"]) == 1
    assert "none has phones" in capsys.readouterr().err


def test_every_field_is_documented_and_bad_ones_are_refused():
    assert set(EventsConfig.__dataclass_fields__) == set(field_docs(EventsConfig))
    for override, message in (("steps=0", "steps is 0"), ("dim=0", "dim is 0"), ("depht=3", "did you mean 'depth'")):
        with pytest.raises(ConfigError, match=message):
            load_config(str(CONFIG), ["data=x", override])


def test_latents_of_fewer_codebooks_are_those_of_the_quantizer(tiny):
    codes = torch.randint(0, 32, (2, 4, 7), generator=torch.Generator().manual_seed(0))
    found = latents(tiny.quantizer.codebooks, codes.short(), torch.tensor([4, 2]))
    assert torch.equal(found[0], tiny.quantizer.decode(codes)[0])
    assert torch.equal(found[1], tiny.quantizer.decode(codes[:, :2])[1])


def test_the_network_in_floating_point_is_the_exact_one_up_to_rounding():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, latent = TurnConfig(8, 16, 2, 7).make(), torch.randn(2, 40, 8)
    exact, _ = network(latent, network.initial_state(2))
    found = float_scores(network, latent)
    assert (found - exact).abs().max() < 0.05 * exact.std()
    assert [fast_length(n) for n in (1, 7, 524, 541)] == [1, 8, 540, 576]


def test_the_loss_is_the_mean_over_the_frames_with_a_label():
    scores = torch.randn(1, 4, OUTPUTS, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[[1, 0, -1, -1], [-1, -1, -1, -1], [0, 0, 1, 1]]])
    p = probabilities(scores)[0]
    losses = cross_entropies(scores, labels)
    assert losses[0] == pytest.approx(-float(p[0, 0].log() + (1 - p[1, 0]).log()) / 2, abs=1e-6)
    assert losses[1] == 0
    assert np.isfinite(losses.numpy()).all()
