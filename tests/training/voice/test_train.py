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
from speechtok.voice.style import QUANTITIES
from training.command import field_docs
from training.dataset import Corpus
from training.voice.__main__ import main
from training.voice.batches import SequenceSampler
from training.voice.config import VoiceTrainingConfig, load_config
from training.voice.encoding import EncodedVoices, encode_voices
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
        "balance": 6.0,
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
        ("balance=30", "balance is 30"),
        ("prompt_seconds_high=9", "in this order"),
        ("stpes=3", "did you mean 'steps'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(str(CONFIG), ["data=x", override])


def make_voices(lengths, speeds=None, changed=None):
    """Utterances whose code is their number, and whose pitch rises."""
    codes = np.concatenate([np.full((4, n), i, np.int16) for i, n in enumerate(lengths)], axis=1)
    pitch = np.concatenate([np.linspace(100, 200, n, dtype=np.float16) for n in lengths])
    prosody = np.array([[i, 2.0, np.nan, 0.0] for i in range(len(lengths))], np.float32)
    offsets = np.cumsum([0, *lengths])
    speeds = np.zeros(len(lengths), np.int64) if speeds is None else np.array(speeds)
    changed = np.full(len(lengths), -1) if changed is None else np.array(changed)
    return EncodedVoices(codes, offsets, pitch, prosody, np.arange(len(lengths)) % 5, speeds, changed)


def make_sampler(
    speakers=("a", "a", "b", "b", None), speeds=None, lengths=(90, 200, 120, 130, 80), changed=None, **fields
):
    config = load_config(str(CONFIG), ["data=x"])
    config = dataclasses.replace(config, batch_size=64, **fields)
    return SequenceSampler(config, make_voices(lengths, speeds, changed), list(speakers), 50.0)


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
    batch = make_sampler(speakers, speeds, contrast_share=0.0)(0)
    for codes, kinds in zip(batch.codes, batch.kinds, strict=True):
        heard = {speeds[i] for i in codes[0][kinds != PADDING].tolist()}
        assert len(heard) == 1


def test_a_prompt_at_another_speed_leaves_the_pitch_to_the_style():
    speeds = (0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
    lengths = (90, 100, 110, 120, 130) * 2
    batch = make_sampler("aaaaa", speeds, lengths, contrast_share=1.0, style_share=0.0)(0)
    for codes, kinds, style in zip(batch.codes, batch.kinds, batch.style, strict=True):
        (heard,), (said,) = (set(codes[0][kinds == kind].tolist()) for kind in (PROMPT, TARGET))
        assert speeds[heard] != speeds[said]
        assert heard % 5 != said % 5  # another utterance
        assert style[0] > 0
        assert not style[1:].any()


def test_a_changed_balance_is_told_by_the_style_and_never_heard_in_a_prompt():
    changed = (-1,) * 5 + (2, 3) * 2 + (2,)
    sampler = make_sampler("aaaaa", None, (90, 100, 110, 120, 130) * 2, changed, style_share=0.0)
    sampler.steps[:, 2:] = 5
    batch, seen = sampler(0), set()
    for codes, kinds, style in zip(batch.codes, batch.kinds, batch.style, strict=True):
        (heard,), (said,) = (set(codes[0][kinds == kind].tolist()) for kind in (PROMPT, TARGET))
        assert heard < 5
        assert heard != said % 5
        assert style.tolist() == [5 if i == changed[said] else 0 for i in range(4)]
        seen.add(changed[said])
    assert seen == {-1, 2, 3}


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


def test_utterances_are_encoded_at_all_speeds_and_with_another_balance(tiny, speech, tmp_path):
    samples = [(speech(1.5, seed) * 32_768).clip(-32_768, 32_767).astype(np.int16) for seed in range(4)]
    corpus = Corpus(np.concatenate(samples), np.cumsum([0, *map(len, samples)]), ())
    voices = encode_voices(tiny, corpus, (1.0, 0.8), 12.0, tmp_path, "test")
    energy, brightness = (QUANTITIES.index(name) for name in ("energy", "brightness"))
    assert voices.utterances.tolist() == [0, 1, 2, 3] * 3
    assert voices.speeds.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert voices.changed.tolist() == [-1] * 8 + [energy, brightness] * 2
    slower = voices.prosody[4:8, 0] - voices.prosody[:4, 0]
    assert np.median(slower) == pytest.approx(12 * np.log2(0.8), abs=0.5)
    moved = voices.prosody[8:] - voices.prosody[:4]
    assert np.abs(moved[0::2, energy]).max() > 1
    assert np.abs(moved[1::2, brightness]).max() > 1
    assert moved[1::2, energy] == pytest.approx(0, abs=0.5)
    assert moved[:, 0] == pytest.approx(0, abs=0.3)  # not the pitch
    again = encode_voices(tiny, corpus, (1.0, 0.8), 0.0, tmp_path, "test")
    assert np.array_equal(again.codes, voices.codes[:, : again.codes.shape[1]])
