from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.seanet_reference import BASE
from speechtok.errors import ConfigError, MissingFileError
from speechtok.interop import convert_config
from speechtok.loaders import build
from training.config import OLD_NAMES, config_from_dict, load_config

OTHER_KINDS = "teacher", "ablation", "events", "voice"
CONFIGS = sorted((Path(__file__).resolve().parents[2] / "training/configs").glob("*.yaml"))
CONFIGS = [path for path in CONFIGS if path.stem not in OTHER_KINDS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_the_repository_makes_a_tokenizer(path):
    config = load_config(str(path), ["data=somewhere"])
    if config.model.family == "seanet":  # 104 M parameters are too many for a test
        smaller = ["model.filters=4", "model.latent_dim=16", "model.codebook_size=16"]
        config = load_config(str(path), ["data=somewhere", *smaller])
    tokenizer = build(config.model)
    tokens = tokenizer.encode([0.0] * tokenizer.sample_rate, tokenizer.sample_rate)
    assert tokens.codes.shape[2] == -(-tokenizer.sample_rate // tokenizer.hop_length)
    assert tokenizer.decode(tokens).shape == (1, tokenizer.sample_rate)


def test_overrides_change_the_config(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("out: run\nsteps: 500\n")
    changes = ["data=speech", "optimizer.muon_lr=1e-3", "model.encoder.frame_depth=3", "compile=false"]
    config = load_config(str(path), changes)
    assert config.data == "speech"
    assert config.optimizer.muon_lr == 1e-3
    assert config.model.encoder.frame_depth == 3
    assert config.model.decoder.frame_depth == 4
    assert config.compile is False
    assert config.out == "run"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("stepz=3", "did you mean 'steps'"),
        ("steps=many", "steps is 'many'; expected a value of type int"),
        ("steps=0", "steps is 0"),
        ("steps", "expected name=value"),
        ("model.hop_length=321", "multiple of patch_length"),
        ("model.encoder=5", "model.encoder is 5"),
        ("quantizer.start_step=500", "only 500 steps; pass an earlier one, such as quantizer.start_step=100"),
        ("steps=30", "start_step is 200, but the training has only 30 steps; .* quantizer.start_step=6"),
        ("steps=1", "such as quantizer.start_step=0"),
        ("crop_seconds=0.01", "crop_seconds is 0.01"),
        ("crop_seconds=0.03", "crop_seconds is 0.03; expected at least 0.04, and two frames"),
        ("optimizer.decay_fraction=0.0", "optimizer.decay_fraction is 0.0; expected above 0 and at most 1"),
        ("optimizer.muon_lr=0", "optimizer.muon_lr is 0.0; expected above 0"),
        ("optimizer.adamw_lr=.nan", "optimizer.adamw_lr is nan"),
        ("optimizer.clip_norm=-1", "optimizer.clip_norm is -1.0"),
        ("optimizer.ema_decay=1", "optimizer.ema_decay is 1.0"),
        ("optimizer.warmup_steps=-1", "optimizer.warmup_steps is -1; expected at least 0"),
        ("quantizer.decay=1.5", "quantizer.decay is 1.5"),
        ("quantizer.dropout=2", "quantizer.dropout is 2.0; expected at least 0 and at most 1"),
        ("quantizer.commitment=-0.1", "quantizer.commitment is -0.1"),
        ("loss.mel=-1", "loss.mel is -1.0; expected at least 0"),
        ("gain_high_db=-20", "gain_high_db is -20.0; expected at least -12"),
        ("seed=-1", "seed is -1"),
        ("accumulate=3", r"batch_size is 16; expected a multiple of accumulate \(3\)"),
        ("accumulate=0", "accumulate is 0"),
        ("steps.x=3", "steps is 500, which has no fields"),
        ("data=[", "a value that is not YAML"),
        ("data=" + "[" * 20_000, "a value that is not YAML .*levels deep"),
        ("steps=!!int x", "a value that is not YAML .*invalid literal"),
        ("steps=!!int ''", "a value that is not YAML"),
        ("steps=!!bool x", "a value that is not YAML"),
        ("data=2020-13-45", "a value that is not YAML"),
        ("data=&a [*a]", r"a value that is not YAML .*alias \*a is inside"),
        ("steps=" + "9" * 5_000, "a value that is not YAML"),
        ("steps=0x" + "f" * 5_000, "steps is an integer too long to print; expected at least 1"),
        ("batch_size=1" + "0" * 400, "batch_size is 1000"),
        ("optimizer.muon_lr=1" + "0" * 400, "optimizer.muon_lr is 1000.*expected a value of type float"),
        ("optimizer.muon_lr=1e400", "optimizer.muon_lr is inf"),
        ("=3", "unknown field ''"),
        ("a..b=3", "unknown field 'a'"),
        ("data=\x1b[2J", "a value that is not YAML"),
        ("x" * 10_000 + "=3", "unknown field 'xxx"),
        ("out=''", "out is empty"),
    ],
)
def test_a_mistake_is_named_before_the_first_step(tmp_path, argument, message):
    path = tmp_path / "c.yaml"
    path.write_text("out: run\nsteps: 500\n")
    with pytest.raises(ConfigError, match=message):
        load_config(str(path), ["data=speech", argument])


def test_losses_without_any_weight_are_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("out: run\nsteps: 500\n")
    with pytest.raises(ConfigError, match="nothing would be learned"):
        load_config(str(path), ["data=speech", "loss.mel=0", "loss.waveform=0", "loss.spectrum=0"])


def test_missing_data_is_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("out: run\nsteps: 500\n")
    with pytest.raises(ConfigError, match="lacks the field 'data'"):
        load_config(str(path))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.yaml"):
        load_config(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(str(tmp_path / "bad.yaml"))


def test_the_seanet_config_is_the_published_architecture_and_the_other_one_its_causal_form():
    names = "seanet", "seanet-causal"
    published, causal = (load_config(str(CONFIGS[0].with_stem(name)), ["data=x", "out=x"]) for name in names)
    assert published.model == convert_config(BASE)
    assert causal == replace(published, model=replace(published.model, causal=True, bidirectional=False))


OLD = {
    "start_from": "x",
    "only": "decoder",
    "adversary": {"weight": 0.5, "features": 1.5},
    "distillation": {"teacher": "mfcc"},
}
NEW = {
    "start_from": "x",
    "train_only": "decoder",
    "adversary": {"weight": 0.5, "feature_matching": 1.5},
    "distillation": {"perceptual_teacher": "mfcc"},
}


def test_former_names_of_fields_are_accepted_in_files_overrides_and_checkpoints(tmp_path):
    base = {"data": "speech", "out": "run", "steps": 500}
    for name, values in (("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(base | values))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    expected = load_config(str(tmp_path / "new.yaml"))
    assert (expected.train_only, expected.adversary.feature_matching) == ("decoder", 1.5)
    overrides = ["start_from=x", "only=decoder", "adversary.weight=0.5", "adversary.features=1.5"]
    assert load_config(str(tmp_path / "old.yaml")) == expected
    assert load_config(str(tmp_path / "base.yaml"), [*overrides, "distillation.teacher=mfcc"]) == expected
    assert load_config(str(tmp_path / "old.yaml"), ["only=encoder", "train_only=decoder"]) == expected
    assert config_from_dict(base | OLD) == config_from_dict(base | NEW) == expected


def test_former_names_are_no_longer_fields():
    fields = load_config(str(CONFIGS[0]), ["data=x"]).to_dict()
    for name in OLD_NAMES:
        table, _, leaf = name.rpartition(".")
        assert leaf not in (fields[table] if table else fields)
