import errno
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from speechtok.config import from_mapping
from speechtok.errors import CheckpointError, ConfigError, MissingFileError, OutputError, SpeechtokError
from training import pretrain_teacher
from training.dataset import Corpus, find_utterances, pack
from training.features import frame_centres
from training.hubert import load_hubert
from training.phones import Phone, phones_at
from training.pretrain_teacher import (
    Crops,
    FrameLabels,
    PretrainingConfig,
    cluster_corpus,
    coloured_noise,
    find_alignments,
    frame_phones,
    load_config,
    main,
    phone_accuracy,
    phone_names,
    pretrain,
)

TONES = {"AA": 300, "IY": 1200, "S": 4000}


@pytest.fixture(scope="module")
def spoken_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances whose phones are tones, so that a network learns them in seconds; one without phones."""
    folder = tmp_path_factory.mktemp("spoken")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(16):
        pieces, phones, at = [], [], 0.0
        for name in rng.choice([*TONES, "SIL"], 8):
            seconds = float(rng.uniform(0.1, 0.25))
            t = np.arange(int(seconds * 16_000)) / 16_000
            pieces.append(0.2 * np.sin(2 * np.pi * TONES.get(name, 0) * t) + 0.002 * rng.standard_normal(len(t)))
            phones.append([str(name) if name != "SIL" else "+NOISE+", at, at + len(t) / 16_000])
            at += len(t) / 16_000
        soundfile.write(folder / f"{index}.flac", np.concatenate(pieces), 16_000)
        rows.append({"audio": f"{index}.flac", "phones": phones if index else None})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows[:12])))
    (folder / "dev.jsonl").write_text("\n".join(map(json.dumps, rows[12:])))
    return folder


@pytest.fixture
def values(spoken_folder: Path, tmp_path: Path) -> dict:
    return {
        "data": str(spoken_folder),
        "out": str(tmp_path / "run"),
        "first": {"steps": 4, "clusters": 8},
        "second": {"steps": 6, "clusters": 8, "phone_weight": 1.0},
        "model": {"dim": 16, "depth": 2, "heads": 2, "kernel_size": 3, "expansion": 2, "bands": 40},
        "target_layer": 1,
        "batch_size": 4,
        "crop_seconds": 1.0,
        "warmup_steps": 2,
        "bfloat16": False,
        "compile": False,
        "checkpoint_every": 2,
        "validate_every": 100,
    }


def config_of(values: dict) -> PretrainingConfig:
    return from_mapping(PretrainingConfig, values)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_asked_to_stop_finishes_its_step_and_ends_with_the_same_weights(
    values, tmp_path, monkeypatch, number
):
    whole = load_hubert(pretrain(config_of(values))).state_dict()
    values["out"] = str(tmp_path / "again")
    original, calls = torch.optim.AdamW.step, []

    def step(self):
        calls.append(1)
        if len(calls) in (3, 4, 9):  # after Muon's: in the middle of a step, the last one of the first iteration too
            os.kill(os.getpid(), number)
        return original(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    for name, saved in (("first", 3), ("first", 4), ("second", 5)):
        with pytest.raises(KeyboardInterrupt):
            pretrain(config_of(values))
        assert torch.load(Path(values["out"]) / f"{name}.pt", weights_only=True)["step"] == saved
    resumed = load_hubert(pretrain(config_of(values))).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert len(calls) == 4 + 6


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_training_that_diverged_goes_on_with_lower_rates_as_it_is_told_to(values, monkeypatch, what):
    values["second"]["steps"] = 5
    classification, clip = pretrain_teacher.classification, torch.nn.utils.clip_grad_norm_
    calls = []

    def diverge(name: str, *arguments: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(name)
        terms = classification(name, *arguments)
        if what == "loss" and calls.count("cluster") == 8:
            terms[f"{name}_loss"] = terms[f"{name}_loss"] * torch.nan
        return terms

    def explode(*arguments: object) -> torch.Tensor:
        return clip(*arguments) * (torch.inf if what == "gradient" and calls.count("cluster") == 8 else 1)

    monkeypatch.setattr(pretrain_teacher, "classification", diverge)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", explode)
    with pytest.raises(SpeechtokError, match=r"step 3 is not finite; lower muon_lr and adamw_lr .* or clip_norm"):
        pretrain(config_of(values))
    values["second"] |= {"muon_lr": 1e-4, "adamw_lr": 1e-4}
    values["first"] = values["first"] | {"muon_lr": 1e-4}
    values["clip_norm"] = 0.5
    pretrain(config_of(values))
    saved = torch.load(Path(values["out"]) / "second.pt", weights_only=True)
    assert saved["step"] == 5
    assert all(group["lr"] <= 1e-4 for optimizer in saved["optimizers"] for group in optimizer["param_groups"])


def test_a_sharpened_teacher_learns_to_name_the_phones(values):
    values["first"]["steps"] = 1
    values["second"].update(steps=60, phone_share=0.9, mask_start=0.01, muon_lr=0.02, adamw_lr=0.01)
    values |= {"speed_low": 1.0, "speed_high": 1.0}
    config = config_of(values)
    network = load_hubert(pretrain(config))
    assert network.phones == ("SIL", "AA", "IY", "S")
    _, files = find_utterances(config.data)
    dev = pack(files, 16_000, Path(config.out) / "audio")
    labels = frame_phones(files, dev, find_alignments(config.data), network.phones, 320, 16_000)
    found = phone_accuracy(network, dev, labels)
    assert found["phone_accuracy"] > 0.8
    assert found["phone_accuracy_without_silence"] > 0.8


def test_held_out_frames_are_judged_by_the_phone_in_their_middle(values, monkeypatch):
    judged = []
    monkeypatch.setattr(pretrain_teacher, "phone_accuracy", lambda *arguments: judged.append(arguments) or {})
    config = config_of(values)
    pretrain(config)
    network, corpus, labels = judged[0]
    alignments, (_, files) = find_alignments(config.data), find_utterances(config.data)
    for index, file in enumerate(files):
        frames = -(-len(corpus[index]) // 320)
        centres = frame_centres(frames, 320, 16_000).numpy()
        expected = phones_at(alignments[file], centres, network.phones)
        assert labels.at(index, np.arange(frames) * 320 + 160).tolist() == expected.tolist()


def test_batches_follow_from_seed_iteration_and_step_alone(values):
    config = config_of(values)
    rng = np.random.default_rng(0)
    corpus = Corpus((rng.standard_normal(40_000) * 3000).astype(np.int16), np.array([0, 6_000, 40_000]), ())
    labels = FrameLabels(np.zeros(126, np.int16), np.array([0, 19, 126]), 320)

    def batch(seed: tuple[int, int], step: int) -> torch.Tensor:
        return Crops(config, corpus, labels, labels, config.first, seed)(step).waveform

    assert torch.equal(batch((0, 1), 3), batch((0, 1), 3))
    for other in (batch((0, 1), 4), batch((0, 2), 3), batch((1, 1), 3)):
        assert not torch.equal(batch((0, 1), 3), other)


def test_labels_stay_with_their_sound_at_every_speed_and_padding_has_none(values):
    values |= {"speed_low": 0.6, "speed_high": 1.7, "noise_low_db": -90.0, "noise_high_db": -90.0}
    config = config_of(values)
    # the amplitude of the sound tells which frame of the utterance it is
    frames = 90
    pcm = np.repeat(np.arange(1, frames + 1) * 100, 320).astype(np.int16)
    corpus = Corpus(pcm, np.array([0, len(pcm)]), ())
    labels = FrameLabels(np.arange(frames, dtype=np.int16), np.array([0, frames]), 320)
    crops = Crops(config, corpus, labels, labels, config.first, (0, 1))
    for step in range(5):
        batch = crops(step)
        heard = (batch.waveform[:, 160::320] * 32_768 / 100).numpy() - 1
        kept = batch.valid.numpy()
        assert np.abs(heard - batch.clusters.numpy())[kept].max() <= 1.01
        assert (batch.clusters[~batch.valid] == -1).all()
        assert (batch.phones[~batch.valid] == -1).all()
        assert not batch.masked[~batch.valid].any()


def test_the_share_of_crops_with_phones_is_the_one_asked_for(values):
    values |= {"batch_size": 400, "crop_seconds": 0.2}
    values["second"]["phone_share"] = 0.75
    config = config_of(values)
    corpus = Corpus(np.ones(100_000, np.int16), np.array([0, 10_000, 100_000]), ())
    clusters = FrameLabels(np.array([0] * 32 + [1] * 282, np.int16), np.array([0, 32, 314]), 320)
    phones = FrameLabels(np.array([3] * 63 + [-1] * 563, np.int16), np.array([0, 63, 626]), 160)
    share = (Crops(config, corpus, clusters, phones, config.second, (0, 1))(0).phones >= 0).any(1).float().mean()
    assert 0.68 < share < 0.82
    share = (Crops(config, corpus, clusters, phones, config.first, (0, 1))(0).phones >= 0).any(1).float().mean()
    assert 0.04 < share < 0.16


def test_frames_have_the_phone_in_their_middle():
    corpus = Corpus(np.zeros(1_000, np.int16), np.array([0, 600, 1_000]), ())
    alignments = {Path("a"): (Phone("AA", 0.0, 0.02), Phone("SIL", 0.02, 0.031))}
    labels = frame_phones([Path("a"), Path("b")], corpus, alignments, phone_names(alignments), 160, 16_000)
    assert labels.values.tolist() == [1, 1, 0, -1, -1, -1, -1]
    assert labels.at(0, np.array([0, 159, 400, 10_000])).tolist() == [1, 1, 0, -1]


def test_noise_has_power_one():
    for seed in range(5):
        noise = coloured_noise(np.random.default_rng(seed), 16_000)
        assert np.mean(noise**2) == pytest.approx(1, rel=1e-3)
    assert len(coloured_noise(np.random.default_rng(0), 1)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"crop_seconds": 0.1}, "crop_seconds is 0.1"),
        ({"target_layer": 3}, "target_layer is 3"),
        ({"second": {"steps": 1, "clusters": 2, "mask_start": 0.0}}, "mask_start is 0.0"),
        ({"band_mask_width": 40}, "band_mask_width 40"),
        ({"speed_low": 1.3}, "speed_low is 1.3"),
        ({"noise_low_db": 0.0}, "noise_low_db is 0.0"),
        ({"decay_fraction": 0.0}, "decay_fraction is 0.0"),
        ({"first": {"steps": 0, "clusters": 2}}, "steps is 0"),
        ({"first": {"steps": 1, "clusters": 40_000}}, "clusters is 40000"),
        ({"second": {"steps": 1, "clusters": 2, "phone_weight": -1.0}}, "phone_weight is -1.0"),
        ({"second": {"steps": 1, "clusters": 2, "phone_share": 1.5}}, "phone_share is 1.5"),
        ({"model": {"heads": 3}}, "dim is 256"),
        ({"model": {"kernel_size": 4}}, "kernel_size is 4"),
        ({"model": {"hop_length": 322}}, "hop_length is 322"),
        ({"model": {"dropout": 1.0}}, "dropout is 1.0"),
        ({"model": {"depth": 0}}, "depth is 0"),
        ({"batchsize": 3}, "did you mean 'batch_size'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_bad_config_is_refused_before_anything_starts(values, change, message):
    with pytest.raises(ConfigError, match=message):
        config_of(values | change)


def test_phones_are_asked_for_where_there_are_none(values, speech_folder):
    values["data"] = str(speech_folder)
    with pytest.raises(ConfigError, match=r"second\.phone_weight is 1\.0"):
        pretrain(config_of(values))


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_this_machine_lacks_is_named(values, device):
    with pytest.raises(ConfigError, match=f"device is '{device}', which this machine cannot use"):
        pretrain(config_of(values | {"device": device}))


def test_an_out_that_cannot_be_written_is_named(values, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="which cannot be written"):
        pretrain(config_of(values | {"out": str(tmp_path / "file" / "run")}))


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(values, monkeypatch, capsys):
    original, saved = torch.save, []

    def save(state, path):
        if isinstance(state, dict) and "step" in state:
            saved.append(state["step"])
            if len(saved) == 4 or full:
                raise OSError(errno.ENOSPC, "No space left on device")
        original(state, path)

    full = False
    monkeypatch.setattr(torch, "save", save)
    pretrain(config_of(values))
    assert saved == [2, 4, 2, 4, 6]
    printed = "".join(capsys.readouterr())
    assert "the checkpoint of step 4 cannot be written" in printed
    full = True
    with pytest.raises(CheckpointError, match=r"the checkpoint of step 8 cannot be written .*make room at"):
        pretrain(config_of(values | {"second": values["second"] | {"steps": 8}, "checkpoint_every": 100}))


def test_a_classifier_that_nothing_teaches_is_left_out(values):
    values["second"]["phone_weight"] = 0.0
    assert load_hubert(pretrain(config_of(values))).phones == ()


def test_audio_without_phones_makes_a_teacher_without_classifier(values, speech_folder):
    values["data"] = str(speech_folder)
    values["second"]["phone_weight"] = 0.0
    network = load_hubert(pretrain(config_of(values)))
    assert network.phones == ()


def test_a_checkpoint_of_another_training_is_refused(values):
    values["first"]["steps"] = values["second"]["steps"] = 2
    pretrain(config_of(values))
    values["weight_decay"] = 0.5
    with pytest.raises(CheckpointError, match="weight_decay"):
        pretrain(config_of(values))
    del values["weight_decay"]
    (Path(values["out"]) / "second.pt").write_text("damaged")
    with pytest.raises(CheckpointError, match="delete it"):
        pretrain(config_of(values))


def test_the_second_iteration_may_change_without_the_first(values):
    values["first"]["steps"] = values["second"]["steps"] = 2
    pretrain(config_of(values))
    (Path(values["out"]) / "second.pt").unlink()
    values["second"]["phone_weight"] = 0.0
    pretrain(config_of(values))


@pytest.mark.parametrize("change", [{"clusters": 4}, {"target_layer": 2}, {"phone_weight": 0.0}])
def test_clusters_are_made_anew_for_another_number_or_layer_and_kept_otherwise(values, change):
    values["first"]["steps"] = values["second"]["steps"] = 2
    pretrain(config_of(values))
    out = Path(values["out"])
    before = set(out.glob("second-clusters*"))
    (out / "second.pt").unlink()
    values |= {name: value for name, value in change.items() if name == "target_layer"}
    values["second"] |= {name: value for name, value in change.items() if name != "target_layer"}
    pretrain(config_of(values))
    new = set(out.glob("second-clusters*")) - before
    assert len(new) == ("phone_weight" not in change)
    assert all(np.load(path).max() < 4 for path in new if "clusters" in change)


def test_clusters_are_those_of_the_audio_the_features_and_the_seed(tmp_path):
    rng = np.random.default_rng(0)
    corpus = Corpus((rng.standard_normal(64_000) * 3000).astype(np.int16), np.array([0, 30_000, 64_000]), ())
    calls = []

    def labels(corpus: Corpus = corpus, clusters: int = 4, seed: int = 0, features: str = "a") -> FrameLabels:
        def extract(waveform: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            frames = -(-waveform.shape[1] // 320)
            waveform = torch.nn.functional.pad(waveform, (0, frames * 320 - waveform.shape[1]))
            return waveform.unflatten(1, (frames, 320))[..., :8]

        return cluster_corpus(extract, corpus, 320, clusters, seed, tmp_path / "c.npy", features)

    first = labels()
    others = [
        {"corpus": Corpus(corpus.samples[::-1].copy(), corpus.offsets, ())},
        {"corpus": Corpus(corpus.samples, np.array([0, 30_400, 64_000]), ())},
        {"clusters": 5},
        {"seed": 1},
        {"features": "b"},
    ]
    for changes in others:
        calls.clear()
        labels(**changes)
        assert len(calls) == 2, changes
    calls.clear()
    assert np.array_equal(labels().values, first.values)
    assert not calls


@pytest.mark.parametrize(
    ("phone", "named", "message"),
    [
        ("SIL", True, "trained with phones"),
        ("ZZ", True, "trained with phones"),
        ("SIL", False, "does not fit the network"),  # as checkpoints were before they named their phones
    ],
)
def test_a_checkpoint_of_other_phones_is_refused(values, spoken_folder, tmp_path, phone, named, message):
    values["first"]["steps"] = values["second"]["steps"] = 2
    pretrain(config_of(values))
    shutil.copytree(spoken_folder, tmp_path / "other")
    for name in ("train.jsonl", "dev.jsonl"):
        text = (spoken_folder / name).read_text().replace('"AA"', f'"{phone}"')
        (tmp_path / "other" / name).write_text(text)
    if not named:
        path = Path(values["out"]) / "first.pt"
        state = torch.load(path, weights_only=True)
        del state["phones"]
        torch.save(state, path)
    values["data"] = str(tmp_path / "other")
    with pytest.raises(CheckpointError, match=message):
        pretrain(config_of(values))


def test_a_finished_teacher_can_be_trained_for_longer(values):
    values["first"]["steps"] = values["second"]["steps"] = 2
    before = load_hubert(pretrain(config_of(values))).state_dict()
    values["second"]["steps"] = 5
    after = load_hubert(pretrain(config_of(values))).state_dict()
    assert not torch.equal(before["embed.weight"], after["embed.weight"])
    assert torch.load(Path(values["out"]) / "second.pt", weights_only=True)["step"] == 5


def test_the_command_reads_config_and_overrides(values, tmp_path, capsys, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(str(path), ["second.steps=9", "second.muon_lr=1e-3", "compile=true"])
    assert (config.second.steps, config.second.muon_lr, config.compile) == (9, 1e-3, True)
    monkeypatch.setattr(pretrain_teacher, "pretrain", lambda config: Path(config.out) / "teacher")
    assert main(["--config", str(path)]) == 0
    assert "teacher" in capsys.readouterr().out
    assert main(["--config", str(path), "steps"]) == 1
    assert "name=value" in capsys.readouterr().err
    with pytest.raises(MissingFileError, match="does not exist"):
        load_config(str(tmp_path / "none.yaml"))
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="no YAML"):
        load_config(str(path))


def test_the_config_in_the_repository_is_complete():
    path = Path(pretrain_teacher.__file__).parent / "configs" / "teacher.yaml"
    assert load_config(str(path), ["data=somewhere"]).second.phone_weight > 0
