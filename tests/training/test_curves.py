import pytest
from torch.utils.tensorboard import SummaryWriter

from training.curves import main, panels, read_curves, smooth


@pytest.fixture
def run(tmp_path):
    with SummaryWriter(str(tmp_path / "run" / "tensorboard")) as writer:
        for step in range(1, 6):
            writer.add_scalar("train/mel", 1 / step, step)
        writer.add_scalar("validation/pesq_wb", 1.5, 5)
    return tmp_path / "run"


def test_curves_hold_all_logged_values(run):
    curves = read_curves(run)
    assert curves["train/mel"] == ([1, 2, 3, 4, 5], pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]))
    assert curves["validation/pesq_wb"] == ([5], [1.5])


def test_a_panel_shows_the_curves_of_each_run_that_has_them(run):
    curves = read_curves(run)
    shown = panels({"a": curves, "b": {}})
    assert list(shown.values()) == [[("a", "train/mel", curves["train/mel"])]]


def test_curves_of_one_and_of_several_runs_are_plotted(run, tmp_path):
    for count in (1, 2):
        out = tmp_path / f"{count}.png"
        assert main([*[str(run)] * count, "--out", str(out)]) == 0
        assert out.read_bytes()[:4] == b"\x89PNG"


def test_a_folder_without_tensorboard_files_is_named(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "x.png")]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_smoothing_keeps_constants_and_follows_changes():
    assert smooth([2.0, 2.0, 2.0]) == [2.0, 2.0, 2.0]
    assert smooth([0.0, 1.0, 1.0], 0.5) == [0.0, 0.5, 0.75]
    assert smooth([]) == []
