from pathlib import Path

import pytest

from speechtok.errors import AudioError, CheckpointError
from tests.training.helpers import config_of, extracted
from training.distributed import World
from training.manifest import Phone
from training.splits import load_splits


def test_less_audio_than_a_batch_is_named(tiny_config):
    with pytest.raises(AudioError, match=r"s of audio to train on; expected at least one batch, 30\.0 s"):
        load_splits(config_of(tiny_config, batch_size=100), World())


def test_files_that_cannot_be_read_are_counted(tiny_config, capsys):
    load_splits(config_of(tiny_config), World())
    assert "skipped 1 of 11 files that cannot be read, such as " in capsys.readouterr().out


def test_features_in_place_of_phone_logits_are_named(tiny_config, tmp_path):
    features = extracted(tiny_config, tmp_path / "features")
    with pytest.raises(CheckpointError, match="expected phone logits"):
        load_splits(config_of(tiny_config, distillation={"labels": features}), World())


def test_a_folder_of_audio_without_a_manifest_is_split(tiny_config, speech_folder, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in speech_folder.glob("*.flac"):
        (folder / file.name).symlink_to(file)
    splits = load_splits(config_of(tiny_config, data=str(folder)), World())
    assert (len(splits.train), len(splits.dev), splits.alignments) == (11, 1, {})


def test_alignments_belong_to_the_utterances_that_could_be_read(tiny_config, speech_folder, tmp_path):
    rows = [
        f'{{"audio": "{speech_folder / name}.flac", "phones": {phones}}}'
        for name, phones in (("broken", '[["B", 0, 1]]'), ("1", "null"), ("2", '[["C", 0, 1]]'))
    ]
    Path(tmp_path, "dev.jsonl").write_text("\n".join(rows))
    Path(tmp_path, "train.jsonl").write_text("\n".join(f'{{"audio": "{speech_folder}/{i}.flac"}}' for i in range(8)))
    splits = load_splits(config_of(tiny_config, data=str(tmp_path)), World())
    assert splits.alignments == {1: (Phone("C", 0, 1),)}
