import json
from pathlib import Path

import numpy as np
import pytest
import torch

from speechtok.errors import InputError
from training.dataset import pack
from training.manifest import find_utterances
from training.teachers import FeatureStore, extract, load_teacher
from training.teachers.phone_probe import CONTEXT, fit_probe, main, window_indices
from training.teachers.store import read_description


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.teachers.phone_probe.HIDDEN", 32)
    monkeypatch.setattr("training.teachers.phone_probe.BATCH_FRAMES", 64)
    monkeypatch.setattr("training.teachers.phone_probe.LEARNING_RATE", 1e-2)


def test_windows_stay_inside_their_utterance():
    first, end = np.array([0, 0, 10]), np.array([10, 10, 30])
    found = window_indices(np.array([0, 8, 10]), first, end)
    assert found.shape == (3, 2 * CONTEXT + 1)
    assert found[0].tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert found[1].tolist() == [5, 6, 7, 8, 9, 9, 9]
    assert found[2].tolist() == [10, 10, 10, 10, 11, 12, 13]


def test_a_probe_learns_phones_from_frames_and_their_neighbours():
    rng = np.random.default_rng(0)
    features = [(rng.standard_normal((200, 3)) * 10 + 5).astype(np.float16) for _ in range(10)]
    labels = [np.roll(x[:, 2] > 5, 2).astype(np.int64) for x in features]  # decided two frames before
    labels[0][:] = -1
    probe = fit_probe(features[:8], labels[:8], 2, epochs=8)
    right = probe.label(features[9]).argmax(1).numpy() == labels[9]
    assert right[CONTEXT:-CONTEXT].mean() > 0.85
    again = fit_probe(features[:8], labels[:8], 2, epochs=8)
    assert torch.equal(probe.label(features[9]), again.label(features[9]))
    with pytest.raises(InputError, match="no frame has a phone"):
        fit_probe(features[:1], labels[:1], 2, epochs=1)


@pytest.fixture
def data(speech_folder: Path, tmp_path: Path) -> Path:
    """A manifest whose second phone begins at 0.2 s; the last utterances are not aligned."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, numbers in (("train", range(10)), ("dev", range(10, 12))):
        rows = [
            {"audio": str(speech_folder / f"{n}.flac"), "phones": [["AA", 0, 0.2], ["B", 0.2, 1]] if n != 9 else None}
            for n in numbers
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    extract(load_teacher("mfcc"), "mfcc", str(folder), folder / "features")
    return folder


def test_the_labels_of_a_probe_lie_between_the_features(data, tmp_path, capsys):
    out = tmp_path / "labels"
    arguments = ["--features", str(data / "features"), "--data", str(data), "--out", str(out), "--epochs", "5"]
    assert main([*arguments, "--aligned", "1"]) == 0
    assert "accuracy on held-out frames" in capsys.readouterr().out
    features, labels = read_description(data / "features"), read_description(out)
    assert labels.phones == ["AA", "B"]
    assert labels.offset == pytest.approx(features.offset - 0.5 / features.frame_rate)
    files = [u.audio for u in find_utterances(data)[0]]
    store = FeatureStore(out, str(data), files, pack(files, 16_000, tmp_path / "audio"), 16_000)
    times = labels.offset + np.arange(len(store[8])) / labels.frame_rate
    assert np.array_equal(store[8].argmax(1), times >= 0.2)  # all of it aligned
    assert np.isfinite(store[9].astype(np.float32)).all()
    assert len(store[9])
    assert main([*arguments, "--aligned", "1"]) == 0  # the same labels again
    assert main([*arguments, "--aligned", "0"]) == 1
    assert "choose another folder, or delete this one" in capsys.readouterr().err


def test_data_without_phones_is_named(data, speech_folder, tmp_path, capsys):
    arguments = ["--features", str(data / "features"), "--out", str(tmp_path / "labels"), "--data"]
    assert main([*arguments, str(speech_folder)]) == 1
    assert "where no training utterance has phones" in capsys.readouterr().err
    assert main([*arguments, str(data), "--aligned", "2"]) == 1
    assert "aligned is 2.0" in capsys.readouterr().err


def test_features_of_other_data_are_named(data, tmp_path, capsys):
    for array in (data / "features").glob("*.json"):
        if array.name != "features.json":
            array.unlink()
    assert main(["--features", str(data / "features"), "--data", str(data), "--out", str(tmp_path / "labels")]) == 1
    assert "none of the aligned utterances" in capsys.readouterr().err
    (data / "features" / "features.json").write_text("{")
    assert main(["--features", str(data / "features"), "--data", str(data), "--out", str(tmp_path / "labels")]) == 1
    assert "damaged" in capsys.readouterr().err
