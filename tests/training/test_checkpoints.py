import resource

import pytest
import torch

from speechtok.errors import CheckpointError, OutputError
from training.checkpoints import check_fixed_values, make_folder, read_checkpoint, save_checkpoint

STATE = {"step": 7, "config": {"seed": 0}, "weights": torch.zeros(20_000)}


def test_a_state_is_read_as_it_was_saved(tmp_path):
    save_checkpoint(STATE, tmp_path / "c.pt")
    state = read_checkpoint(tmp_path / "c.pt")
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {"step": 7, "config": {"seed": 0}}
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path):
    """A limit on the size of files stands in for a full disk, so that torch itself meets the error."""
    save_checkpoint(STATE, tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"the checkpoint of step 7 .*the previous checkpoint is kept"):
            save_checkpoint(STATE, tmp_path / "c.pt")
        with pytest.raises(CheckpointError, match="there is no previous one: free 1 MB at"):
            save_checkpoint(STATE, tmp_path / "d.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "c.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    save_checkpoint(STATE, tmp_path / "c.pt")
    damaged = (tmp_path / "c.pt").read_bytes()[:1000] if content is None else content
    (tmp_path / "c.pt").write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"c\.pt is damaged.*delete it to start again"):
        read_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("state", [3, [], {"step": 1}, {"config": {}}, {"step": 1, "config": 3}])
def test_a_file_that_is_not_a_checkpoint_is_named(tmp_path, state):
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="is not a checkpoint of a training"):
        read_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_trained_on(tmp_path, value):
    state = {**STATE, "optimizer": {"state": [{"average": torch.tensor([0.0, value])}]}}
    with pytest.raises(
        CheckpointError, match=r"step 7: 'optimizer\.state\.0\.average' holds values that are not finite"
    ):
        save_checkpoint(state, tmp_path / "c.pt")
    assert not list(tmp_path.iterdir())
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"c\.pt: 'optimizer\.state\.0\.average' holds values"):
        read_checkpoint(tmp_path / "c.pt")


def test_a_config_that_is_nested_without_end_is_refused(tmp_path):
    nested = [0]
    for _ in range(100):
        nested = [nested]
    torch.save({**STATE, "config": {"model": nested}}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"has a damaged config .*levels deep"):
        read_checkpoint(tmp_path / "c.pt")


def test_a_field_that_differs_is_named_with_both_values(tmp_path):
    check_fixed_values(tmp_path, {"a": 1, "b": 2}, {"b": 2, "a": 1})
    with pytest.raises(CheckpointError, match="was trained with b 2, but the config has 3; choose another out="):
        check_fixed_values(tmp_path, {"a": 1, "b": 2}, {"a": 1, "b": 3})
    with pytest.raises(CheckpointError, match=r"trained with a\.c 2, but the config has 3;"):
        check_fixed_values(tmp_path, {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    with pytest.raises(CheckpointError, match="c None"):
        check_fixed_values(tmp_path, {}, {"c": 3})
    with pytest.raises(CheckpointError, match="has None"):
        check_fixed_values(tmp_path, {"c": 3}, {})


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    for name in ("file", "file/below", "a\0b"):
        with pytest.raises(OutputError, match="which cannot be written"):
            make_folder(tmp_path / name)
