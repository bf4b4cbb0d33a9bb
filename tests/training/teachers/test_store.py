import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechtok.errors import CheckpointError, MissingFileError
from training.dataset import pack
from training.manifest import find_utterances
from training.teachers import FeatureStore, Teacher, extract, load_teacher
from training.teachers.extraction import hash_weights
from training.teachers.frames import frame_centres, interpolate


def training_files(data: Path) -> list[Path]:
    return [utterance.audio for utterance in find_utterances(data)[0]]


@pytest.fixture
def stored(own: Path, speech_folder: Path, tmp_path: Path) -> tuple[Teacher, Path]:
    teacher = load_teacher(f"own:{own}", 2)
    assert extract(teacher, "own", str(speech_folder), tmp_path / "features") == (12, ["broken.flac"])
    return teacher, tmp_path / "features"


@pytest.mark.parametrize("sample_rate", [16_000, 24_000])
def test_a_crop_has_the_features_at_the_centre_of_each_frame(stored, speech_folder, tmp_path, sample_rate):
    teacher, directory = stored
    files = training_files(speech_folder)
    corpus = pack(files, sample_rate, tmp_path / "audio")
    store = FeatureStore(directory, str(speech_folder), files, corpus, sample_rate)
    assert len(store) == len(corpus)
    kept = [file for file in files if str(file) not in corpus.skipped]
    usual = sample_rate // 50
    crops = (0, 0, 20, usual, 0), (3, 1234, 10, usual, 1), (7, 5_000, 20, 1.1 * usual, 0), (0, 0, 20, usual, 2)
    for index, start, frames, hop, delay in crops:
        waveform = torch.from_numpy(soundfile.read(kept[index], dtype="float32")[0])
        features = teacher(waveform[None]).half().float()
        expected = interpolate(features, 50.0, 0.01, frame_centres(frames, hop, sample_rate, start - delay * hop))[0]
        found = store.crop(index, start, frames, hop, delay)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


def test_a_store_holds_few_files_open_however_many_it_has(own, speech_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("training.teachers.extraction.SHARD_UTTERANCES", 1)
    monkeypatch.setattr("training.teachers.store.MAX_OPEN_SHARDS", 3)
    extract(load_teacher(f"own:{own}", 2), "own", str(speech_folder), tmp_path / "features")
    files = training_files(speech_folder)
    corpus = pack(files, 16_000, tmp_path / "audio")
    store = FeatureStore(tmp_path / "features", str(speech_folder), files, corpus, 16_000)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    first = [store.crop(index, 0, 10, 320) for index in range(len(store))]
    assert len(first) > 6
    assert all(torch.equal(x, store.crop(index, 0, 10, 320)) for index, x in enumerate(first))
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_a_manifest_may_name_audio_in_another_folder(stored, speech_folder, tmp_path):
    teacher, directory = stored
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for split in ("train", "dev"):
        rows = [json.loads(line) for line in (speech_folder / f"{split}.jsonl").read_text().splitlines()]
        rows = [json.dumps({"audio": str(speech_folder / row["audio"])}) for row in rows]
        (manifests / f"{split}.jsonl").write_text("\n".join(rows))
    count, skipped = extract(teacher, "own", str(manifests), tmp_path / "elsewhere")
    assert (count, skipped) == (12, [(speech_folder / "broken.flac").as_posix()])
    files = training_files(manifests)
    corpus = pack(files, 16_000, tmp_path / "audio")
    here = FeatureStore(directory, str(speech_folder), files, corpus, 16_000)
    elsewhere = FeatureStore(tmp_path / "elsewhere", str(manifests), files, corpus, 16_000)
    assert torch.equal(here.crop(3, 1234, 10, 320), elsewhere.crop(3, 1234, 10, 320))


def test_a_store_names_the_weights_that_made_it(stored, own, speech_folder, tmp_path):
    teacher, directory = stored
    files = training_files(speech_folder)
    corpus = pack(files, 16_000, tmp_path / "audio")
    description = FeatureStore(directory, str(speech_folder), files, corpus, 16_000).description
    assert description.weights == hash_weights(load_teacher(f"own:{own}"))
    with torch.no_grad():
        teacher.network.blocks[1].expand.bias[0] += 1e-3
    assert description.weights != hash_weights(teacher)


EARLY_FEATURES = {  # features.json as the first version wrote it
    "teacher": "own:DIR",
    "layer": "average",
    "sample_rate": 16000,
    "dim": 2,
    "frame_rate": 50.0,
    "offset": 0.01,
    "phones": [],
    "aligned": 0.0,
}


def test_a_store_of_the_first_version_is_read(tmp_path, speech_folder):
    files = training_files(speech_folder)
    corpus = pack(files, 16_000, tmp_path / "audio")
    kept = [file for file in files if str(file) not in corpus.skipped]
    lengths = np.diff(corpus.offsets)
    frames = -(-lengths // 320)
    firsts = np.cumsum(frames) - frames
    features = np.arange(2 * frames.sum(), dtype=np.float16).reshape(-1, 2)
    (tmp_path / "features.json").write_text(json.dumps(EARLY_FEATURES))
    np.save(tmp_path / "000000.npy", features)
    utterances = {
        file.name: {"first": int(first), "frames": int(count), "samples": int(samples)}
        for file, first, count, samples in zip(kept, firsts, frames, lengths, strict=True)
    }
    (tmp_path / "000000.json").write_text(json.dumps({"utterances": utterances, "skipped": ["broken.flac"]}))
    store = FeatureStore(tmp_path, str(speech_folder), files, corpus, 16_000)
    assert np.array_equal(np.concatenate([store[index] for index in range(len(store))]), features)
    assert dataclasses.asdict(store.description) == EARLY_FEATURES | {"weights": ""}


def test_features_of_other_audio_are_refused(stored, speech_folder, tmp_path):
    _, directory = stored
    files = training_files(speech_folder)
    corpus = pack(files, 16_000, tmp_path / "audio")
    with pytest.raises(CheckpointError, match="which now has"):
        FeatureStore(directory, str(speech_folder), [files[1], files[0], *files[2:]], corpus, 16_000)
    with pytest.raises(CheckpointError, match="utterances of the corpus"):
        FeatureStore(directory, str(speech_folder), files[:-1], corpus, 16_000)
    (directory / "000000.json").write_text('{"utterances": {}, "skipped": []}')
    with pytest.raises(MissingFileError, match=r"no features of 0\.flac"):
        FeatureStore(directory, str(speech_folder), files, corpus, 16_000)


def test_a_folder_that_is_not_a_store_is_refused(speech_folder, tmp_path):
    files = training_files(speech_folder)
    corpus = pack(files, 16_000, tmp_path / "audio")
    with pytest.raises(MissingFileError, match="extract the features again"):
        FeatureStore(tmp_path, str(speech_folder), files, corpus, 16_000)
    (tmp_path / "features.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        FeatureStore(tmp_path, str(speech_folder), files, corpus, 16_000)
