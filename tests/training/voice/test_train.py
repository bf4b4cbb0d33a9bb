import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from speechtok.errors import ConfigError
from speechtok.voice.model import VoiceModel
from speechtok.voice.network import PADDING, PROMPT, TARGET
from training.command import field_docs
from training.voice.__main__ import main
from training.voice.batches import SequenceSampler
from training.voice.config import VoiceTrainingConfig, load_config
from training.voice.encoding import EncodedVoices
from training.voice.trainer import VoiceTrainer

CONFIG = Path(__file__).parents[3] / "training" / "configs" / "voice.yaml"


@pytest.fixture(scope="module")
def tokenizer(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.save(folder)
    return folder


@pytest.fixture
def arguments(voices_folder, tokenizer, tmp_path):
    """A training that takes a second."""
    values = {
        "data": voices_folder,
        "out": tmp_path / "run",
        "tokenizer": tokenizer,
        "model.dim": 16,
        "model.depth": 1,
        "model.heads": 2,
        "model.head_depth": 1,
        "model.window": 20,
        "model.embedding_dim": 4,
        "speeds": "[1.0, 0.9]",
        "prompt_seconds_low": 0.3,
        "prompt_seconds_high": 0.6,
        "sequence_seconds": 1.2,
        "steps": 6,
        "batch_size": 4,
        "warmup_steps": 2,
        "checkpoint_every": 3,
        "validate_every": 100,
    }
    return ["--config", str(CONFIG), *(f"{name}={value}" for name, value in values.items())]


@pytest.mark.slow
def test_the_command_trains_a_voice_model_for_the_tokenizer(arguments, tiny, speech, tmp_path, capsys):
    assert main(arguments) == 0
    path = tmp_path / "run" / "voice.safetensors"
    assert str(path) in capsys.readouterr().out
    model = VoiceModel(tiny, path)
    assert (model.config.codebook_size, model.config.num_codebooks, model.config.latent_dim) == (32, 4, 8)
    tokens = tiny.encode(speech(0.6), 16_000)
    assert model.complete(tokens, tokens).codes.shape == tokens.codes.shape


@pytest.mark.slow
def test_a_run_that_was_killed_reaches_the_weights_of_one_that_was_not(arguments, tmp_path, monkeypatch):
    assert main(arguments) == 0
    straight = load_file(tmp_path / "run" / "voice.safetensors")
    shutil.rmtree(tmp_path / "run")
    run_step = VoiceTrainer.run_step

    def killed(self, batch):
        if self.step == 4:
            raise KeyboardInterrupt
        return run_step(self, batch)

    monkeypatch.setattr(VoiceTrainer, "run_step", killed)
    assert main(arguments) == 130
    monkeypatch.undo()
    assert main(arguments) == 0
    resumed = load_file(tmp_path / "run" / "voice.safetensors")
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


@pytest.mark.slow
def test_resuming_with_another_tokenizer_or_network_is_refused(arguments, tmp_path, new_tokenizer, capsys):
    assert main(arguments) == 0
    assert main([*arguments, "model.dim=32"]) == 1
    assert "trained with model.dim 16" in capsys.readouterr().err
    new_tokenizer(seed=3).save(tmp_path / "other")
    assert main([*arguments, f"tokenizer={tmp_path / 'other'}"]) == 1
    assert "trained with tokenizer" in capsys.readouterr().err


def test_every_field_is_documented_and_bad_ones_are_refused():
    assert set(VoiceTrainingConfig.__dataclass_fields__) == set(field_docs(VoiceTrainingConfig))
    for override, message in (
        ("steps=0", "steps is 0"),
        ("model.dim=321", "multiple of heads"),
        ("speeds=[3.0]", "speeds is"),
        ("prompt_seconds_high=9", "in this order"),
        ("stpes=3", "did you mean 'steps'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(str(CONFIG), ["data=x", override])


def make_voices(lengths, speeds=None):
    """Utterances whose code is their number, and whose pitch rises."""
    codes = np.concatenate([np.full((4, n), i, np.int16) for i, n in enumerate(lengths)], axis=1)
    pitch = np.concatenate([np.linspace(100, 200, n, dtype=np.float16) for n in lengths])
    prosody = np.array([[i, 2.0, np.nan, 0.0] for i in range(len(lengths))], np.float32)
    offsets = np.cumsum([0, *lengths])
    speeds = np.zeros(len(lengths), np.int64) if speeds is None else np.array(speeds)
    return EncodedVoices(codes, offsets, pitch, prosody, np.arange(len(lengths)) % 5, speeds)


def make_sampler(speakers=("a", "a", "b", "b", None), speeds=None, lengths=(90, 200, 120, 130, 80), **fields):
    config = load_config(str(CONFIG), ["data=x"])
    config = dataclasses.replace(config, batch_size=64, **fields)
    return SequenceSampler(config, make_voices(lengths, speeds), list(speakers), 50.0)


def test_a_prompt_is_another_utterance_of_the_voice():
    batch = make_sampler()(0)
    same = {0: 1, 1: 0, 2: 3, 3: 2}
    seen = set()
    for codes, kinds in zip(batch.codes, batch.kinds, strict=True):
        prompt, target = (set(codes[0][kinds == kind].tolist()) for kind in (PROMPT, TARGET))
        assert (kinds[:-1] == PADDING).long().diff().min() >= 0  # padding comes last
        if target:
            (said,), (heard,) = target, prompt
            assert same[said] == heard
            seen.add(said)
        else:
            assert prompt == {4}  # its speaker is not named
            seen.add(4)
    assert seen == {0, 1, 2, 3, 4}


def test_a_voice_at_another_speed_is_another_voice():
    speakers, speeds = ("a", "a", "a", "a", "a"), (0, 0, 1, 1, 2)
    batch = make_sampler(speakers, speeds)(0)
    for codes, kinds in zip(batch.codes, batch.kinds, strict=True):
        heard = {speeds[i] for i in codes[0][kinds != PADDING].tolist()}
        assert len(heard) == 1


def test_styles_and_contours_are_those_of_the_target():
    batch = make_sampler(style_share=1.0, contour_share=1.0)(0)
    plain = make_sampler(style_share=0.0, contour_share=0.0)(0)
    assert not plain.style.any()
    assert not plain.contour.any()
    for kinds, style, contour in zip(batch.kinds, batch.style, batch.contour, strict=True):
        target = kinds == TARGET
        assert not contour[~target].any()
        assert not style[2]  # it could not be measured
        if target.any():
            assert (contour[target][:, 1:] == 1).all()  # voiced, and given
            assert (contour[target][:, 0].diff() > 0).all()
        else:
            assert not style.any()
    assert batch.style.any(0)[[0, 1, 3]].all()
    assert not batch.style.all(1).any()


def test_a_batch_depends_on_seed_and_step_alone():
    sampler = make_sampler()
    for a, b in zip(sampler(3), make_sampler()(3), strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    assert not torch.equal(sampler(3).codes[..., :50], sampler(4).codes[..., :50])
