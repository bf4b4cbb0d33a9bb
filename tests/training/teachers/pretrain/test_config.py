from pathlib import Path

import pytest
import yaml

import training
from speechtok.errors import ConfigError, MissingFileError
from tests.training.teachers.pretrain.helpers import config_of
from training.teachers.pretrain.config import load_config


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
def test_a_bad_config_is_refused(values, change, message):
    with pytest.raises(ConfigError, match=message):
        config_of(values | change)


def test_a_file_is_read_with_overrides(values, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(str(path), ["second.steps=9", "second.muon_lr=1e-3", "compile=true"])
    assert (config.second.steps, config.second.muon_lr, config.compile) == (9, 1e-3, True)
    with pytest.raises(MissingFileError, match="does not exist"):
        load_config(str(tmp_path / "none.yaml"))
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(str(path))


def test_the_config_in_the_repository_is_complete():
    path = Path(training.__file__).parent / "configs" / "teacher.yaml"
    assert load_config(str(path), ["data=somewhere"]).second.phone_weight > 0
