import json

import pytest
import torch

from speechtok.errors import CheckpointError, ConfigError, MissingFileError
from tests.training.teachers.helpers import assert_keeps_promises
from training.teachers import load_teacher
from training.teachers.hubert import HubertTeacher, load_hubert


def test_it_gives_layers_their_average_and_phone_logits(own):
    waveform = torch.randn(2, 8_000) * 0.1
    single = [load_teacher(f"own:{own}", layer)(waveform) for layer in (1, 2, 3)]
    average = load_teacher(f"own:{own}")
    assert_keeps_promises(average, waveform)
    assert torch.equal(average(waveform), torch.stack(single).mean(0))
    phones = load_teacher(f"own:{own}", "phones")
    assert (phones.dim, phones.phones) == (3, ("SIL", "AH", "T"))
    assert torch.equal(phones(waveform), average.phone_logits(waveform))


def test_a_saved_teacher_is_loaded_with_equal_weights(own, tmp_path):
    network = load_hubert(own)
    network.save(tmp_path)
    waveform = torch.randn(1, 4_000)
    assert torch.equal(HubertTeacher(load_hubert(tmp_path))(waveform), HubertTeacher(network)(waveform))


def test_features_do_not_depend_on_loudness(own):
    waveform = torch.randn(1, 8_000) * 0.1
    teacher = load_teacher(f"own:{own}")
    torch.testing.assert_close(teacher(waveform), teacher(waveform * 0.5), atol=1e-3, rtol=1e-3)


def test_marked_padding_changes_nothing(own):
    network = load_hubert(own)
    short = torch.randn(1, 3_200) * 0.1
    padded = torch.nn.functional.pad(short, (0, 3_200))
    valid = torch.arange(20)[None] < 10
    alone = network(network.spectra(short), torch.ones(1, 10, dtype=torch.bool))
    batched = network(network.spectra(padded, valid), valid)
    for x, y in zip(alone, batched, strict=True):
        # the last frame's window reaches into the padding
        torch.testing.assert_close(y[:, :9], x[:, :9], atol=1e-4, rtol=1e-4)


def test_a_folder_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"train one with python -m training\.teachers\.pretrain"):
        load_hubert(tmp_path)


def test_damaged_files_are_refused(own, tmp_path):
    (tmp_path / "config.json").write_text((own / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((own / "model.safetensors").read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="does not fit"):
        load_hubert(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="does not describe a teacher"):
        load_hubert(tmp_path)
    description = json.loads((own / "config.json").read_text())
    description["teacher"]["heads"] = 5
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(ConfigError, match="heads"):
        load_hubert(tmp_path)
