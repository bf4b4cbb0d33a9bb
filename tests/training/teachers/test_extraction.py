import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechtok.errors import CheckpointError, InputError, MissingFileError
from training.dataset import pack
from training.manifest import find_utterances
from training.teachers import FeatureStore, extract, load_teacher
from training.teachers.hubert import HubertTeacher, load_hubert


class CountingTeacher(HubertTeacher):
    """Counts its utterances."""

    count = 0

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return super().forward(waveform)


def counting(own: Path) -> CountingTeacher:
    return CountingTeacher(load_hubert(own), 2).eval().requires_grad_(False)


def make_early(directory: Path) -> None:
    """Make a store look as the first version wrote it, without sizes and without a hash of the weights."""
    for path in directory.glob("[0-9]*.json"):
        shard = json.loads(path.read_text())
        for entry in shard["utterances"].values():
            del entry["bytes"]
        path.write_text(json.dumps(shard))
    set_weights(directory, None)


def set_weights(directory: Path, weights: str | None) -> None:
    description = json.loads((directory / "features.json").read_text())
    del description["weights"]
    if weights is not None:
        description["weights"] = weights
    (directory / "features.json").write_text(json.dumps(description))


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_an_interrupted_extraction_continues_and_writes_the_same_files(own, speech_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("training.teachers.extraction.SHARD_UTTERANCES", 5)
    teacher = load_teacher(f"own:{own}", 2)
    extract(teacher, "own", str(speech_folder), tmp_path / "whole")
    calls = []

    class Interrupted(HubertTeacher):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            if len(calls) == 8:
                raise KeyboardInterrupt
            return super().forward(waveform)

    with pytest.raises(KeyboardInterrupt):
        extract(Interrupted(load_hubert(own), 2).eval(), "own", str(speech_folder), tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.npy"))) == 1
    extract(teacher, "own", str(speech_folder), tmp_path / "parts")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize("early_store", [False, True])
def test_only_files_that_changed_or_became_readable_are_extracted_again(own, speech_folder, tmp_path, early_store):
    data, out = tmp_path / "data", tmp_path / "features"
    shutil.copytree(speech_folder, data)
    extract(counting(own), "own", str(data), out)
    if early_store:
        make_early(out)
    shutil.copy(speech_folder / "9.flac", data / "2.flac")
    shutil.copy(speech_folder / "5.flac", data / "broken.flac")
    files = [utterance.audio for utterance in find_utterances(data)[0]]
    corpus = pack(files, 16_000, tmp_path / "audio")
    with pytest.raises((CheckpointError, MissingFileError), match="extract the features again"):
        FeatureStore(out, str(data), files, corpus, 16_000)
    teacher = counting(own)
    assert extract(teacher, "own", str(data), out) == (13, [])
    assert teacher.count == 2
    store = FeatureStore(out, str(data), files, corpus, 16_000)
    for name in ("2.flac", "broken.flac", "7.flac"):
        waveform = torch.from_numpy(soundfile.read(data / name, dtype="float32")[0])
        assert np.array_equal(store[files.index(data / name)], teacher(waveform[None])[0].half().numpy())


def test_a_complete_extraction_computes_and_writes_nothing(own, speech_folder, tmp_path):
    extract(counting(own), "own", str(speech_folder), tmp_path)
    before = contents(tmp_path)
    teacher = counting(own)
    assert extract(teacher, "own", str(speech_folder), tmp_path) == (12, ["broken.flac"])
    assert teacher.count == 0
    assert contents(tmp_path) == before


def test_a_file_that_became_unreadable_is_not_counted_until_it_is_back(own, speech_folder, tmp_path):
    data, out = tmp_path / "data", tmp_path / "features"
    shutil.copytree(speech_folder, data)
    extract(counting(own), "own", str(data), out)
    (data / "2.flac").write_text("damaged")
    for _ in range(2):
        count, skipped = extract(counting(own), "own", str(data), out)
        assert (count, sorted(skipped)) == (11, ["2.flac", "broken.flac"])
    assert len(list(out.glob("*.npy"))) == 2
    files = [utterance.audio for utterance in find_utterances(data)[0]]
    assert len(FeatureStore(out, str(data), files, pack(files, 16_000, tmp_path / "audio"), 16_000)) == 9
    shutil.copy(speech_folder / "2.flac", data)
    assert extract(counting(own), "own", str(data), out) == (12, ["broken.flac"])


@pytest.mark.slow
def test_worker_processes_extract_the_same_features(own, speech_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("training.teachers.extraction.SHARD_UTTERANCES", 5)
    teacher = load_teacher(f"own:{own}", 2)
    for name, workers in (("one", 0), ("two", 2)):
        found = extract(teacher, f"own:{own}", str(speech_folder), tmp_path / name, workers=workers)
        assert found == (12, ["broken.flac"])
    for path in sorted((tmp_path / "one").iterdir()):
        other = tmp_path / "two" / path.name
        if path.suffix == ".npy":  # a worker may use another number of threads, which round sums differently
            np.testing.assert_allclose(np.load(path), np.load(other), rtol=1e-2, atol=1e-3)
        else:
            assert path.read_text() == other.read_text()
    with pytest.raises(InputError, match="workers is -1"):
        extract(teacher, f"own:{own}", str(speech_folder), tmp_path / "three", workers=-1)


def test_features_of_another_teacher_or_layer_are_not_mixed(own, speech_folder, tmp_path):
    teacher = load_teacher(f"own:{own}", 2)
    extract(teacher, "own", str(speech_folder), tmp_path)
    with pytest.raises(CheckpointError, match=r"with layer 2, and own has layer 1; choose another folder"):
        extract(load_teacher(f"own:{own}", 1), "own", str(speech_folder), tmp_path)
    with torch.no_grad():
        teacher.network.blocks[1].expand.bias[0] += 1e-3
    with pytest.raises(CheckpointError, match="other weights"):
        extract(teacher, "own", str(speech_folder), tmp_path)


@pytest.mark.parametrize("weights", [None, "ca373a783da29344"])
def test_a_store_with_the_hash_of_an_early_version_is_continued(speech_folder, tmp_path, weights):
    torch.manual_seed(0)
    teacher = load_teacher("mfcc")
    teacher.register_buffer("weight", torch.arange(6.0).view(2, 3))
    extract(teacher, "mfcc", str(speech_folder), tmp_path)
    set_weights(tmp_path, weights)
    before = contents(tmp_path)
    extract(teacher, "mfcc", str(speech_folder), tmp_path)
    assert contents(tmp_path) == before
    teacher.weight[0, 0] = 1
    if weights is not None:
        with pytest.raises(CheckpointError, match="other weights"):
            extract(teacher, "mfcc", str(speech_folder), tmp_path)


def test_phones_of_the_manifest_have_their_share_of_the_labels(own, speech_folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for index in range(4):
        shutil.copy(speech_folder / f"{index + 4}.flac", data)
        phones = [["SIL", 0.0, 0.2], ["T", 0.2, 0.3], ["XX", 0.3, 0.4], ["+NOISE+", 0.4, 0.5]] if index == 1 else None
        rows.append(json.dumps({"audio": f"{index + 4}.flac", "phones": phones}))
    (data / "train.jsonl").write_text("\n".join(rows[:3]) + "\n")
    (data / "dev.jsonl").write_text(rows[3] + "\n")
    teacher = load_teacher(f"own:{own}", "phones")
    for name, share in (("alone", 0.0), ("mixed", 0.75)):
        extract(teacher, "own", str(data), tmp_path / name, aligned=share)
    stores = [np.load(tmp_path / name / "000000.npy").astype(np.float32) for name in ("alone", "mixed")]
    alone, mixed = (torch.from_numpy(store).softmax(-1) for store in stores)
    first = json.loads((tmp_path / "mixed" / "000000.json").read_text())["utterances"]["5.flac"]["first"]
    expected = alone.clone()
    for frame in range(25):  # of 20 ms
        phone = 0 if frame < 10 else 2 if frame < 15 else None if frame < 20 else 0
        if phone is not None:
            expected[first + frame] *= 0.25
            expected[first + frame, phone] += 0.75
    torch.testing.assert_close(mixed, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("layer", "share"), [("phones", 1.5), ("phones", -0.1), (1, 0.5)])
def test_a_share_out_of_range_or_without_phone_logits_is_refused(own, speech_folder, tmp_path, layer, share):
    with pytest.raises(InputError, match="aligned"):
        extract(load_teacher(f"own:{own}", layer), "own", str(speech_folder), tmp_path, aligned=share)
