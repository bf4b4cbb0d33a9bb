import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig, SEANetConfig
from speechtok.config import model_config
from speechtok.errors import ConfigError
from speechtok.mapping import from_mapping

halves = st.builds(
    ConvNeXtStackConfig,
    patch_dim=st.integers(1, 65_536),
    patch_depth=st.integers(1, 1_024),
    frame_dim=st.integers(1, 65_536),
    frame_depth=st.integers(1, 1_024),
    kernel_size=st.integers(1, 65_536),
    expansion=st.integers(1, 65_536),
)


@st.composite
def configs(draw) -> ConvNeXtConfig:
    patch = 2 * draw(st.integers(1, 100))
    return ConvNeXtConfig(
        sample_rate=draw(st.integers(4_000, 192_000)),
        patch_length=patch,
        hop_length=patch * draw(st.integers(1, 100)),
        window_length=patch * draw(st.integers(1, 100)),
        latent_dim=draw(st.integers(1, 65_536)),
        num_codebooks=draw(st.integers(1, 1_024)),
        codebook_size=draw(st.integers(2, 32_768)),
        encoder=draw(halves),
        decoder=draw(halves),
    )


@given(configs())
def test_a_config_survives_json(config):
    assert ConvNeXtConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_fields_left_out_take_their_defaults():
    assert ConvNeXtConfig.from_dict({}) == ConvNeXtConfig()
    assert ConvNeXtConfig.from_dict({"encoder": {"patch_dim": 64}}) == ConvNeXtConfig(
        encoder=ConvNeXtStackConfig(patch_dim=64)
    )


def test_the_default_has_fifty_frames_a_second():
    assert ConvNeXtConfig().frame_rate == 50.0


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ConvNeXtConfig().latent_dim = 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_codebook": 8}, "config has an unknown field 'num_codebook'; did you mean 'num_codebooks'"),
        ({"encoder": {"patch_dims": 8}}, "config.encoder has an unknown field 'patch_dims'; did you mean 'patch_dim'"),
        ({"zzz": 8}, "unknown field 'zzz'; known fields: family, sample_rate, hop_length"),
        ({5: 8}, "unknown field 5; known fields"),
    ],
)
def test_an_unknown_field_is_refused_and_the_nearest_known_one_named(values, message):
    with pytest.raises(ConfigError, match=message):
        ConvNeXtConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "config is None; expected a table of fields"),
        ([], r"config is \[\]; expected a table"),
        ("convnext", "config is 'convnext'; expected a table"),
        ({"encoder": None}, "config.encoder is None; expected a table"),
        ({"encoder": 5}, "config.encoder is 5; expected a table"),
        ({"sample_rate": "16000"}, "config.sample_rate is '16000'; expected a value of type int"),
        ({"sample_rate": 16_000.0}, r"config.sample_rate is 16000\.0; expected a value of type int"),
        ({"num_codebooks": True}, "config.num_codebooks is True; expected a value of type int"),
        ({"latent_dim": None}, "config.latent_dim is None; expected a value of type int"),
        ({"latent_dim": [8]}, r"config.latent_dim is \[8\]; expected a value of type int"),
        ({"family": 1}, "config.family is 1; expected a value of type str"),
        ({"decoder": {"expansion": 1.5}}, r"config.decoder.expansion is 1\.5; expected a value of type int"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_place(values, message):
    with pytest.raises(ConfigError, match=message):
        ConvNeXtConfig.from_dict(values)


BAD = [
    ("family", "seanet", "family is 'seanet'; expected 'convnext'"),
    ("sample_rate", 3_999, "sample_rate is 3999; expected a whole number from 4000 to 192000"),
    ("sample_rate", 192_001, "sample_rate is 192001; expected"),
    ("hop_length", 0, "hop_length is 0; expected"),
    ("hop_length", -320, "hop_length is -320; expected"),
    ("hop_length", 330, r"hop_length is 330; expected a multiple of patch_length \(80\)"),
    ("hop_length", 40, r"hop_length is 40; expected a multiple of patch_length \(80\)"),
    ("patch_length", 0, "patch_length is 0; expected"),
    ("patch_length", 5, "patch_length is 5; expected an even number"),
    ("window_length", 0, "window_length is 0; expected"),
    ("window_length", 100, r"window_length is 100; expected a multiple of patch_length \(80\)"),
    ("latent_dim", 0, "latent_dim is 0; expected"),
    ("latent_dim", 10**400, "latent_dim is 10*…0*; expected a whole number from 1 to 65536"),
    ("num_codebooks", 0, "num_codebooks is 0; expected"),
    ("num_codebooks", 2**40, "num_codebooks is 1099511627776; expected"),
    ("codebook_size", 1, "codebook_size is 1; expected a whole number from 2 to 32768"),
    ("codebook_size", 32_769, "codebook_size is 32769; expected"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD, ids=lambda value: str(value)[:20])
def test_a_value_that_describes_no_tokenizer_is_refused(name, value, message):
    with pytest.raises(ConfigError, match=message):
        ConvNeXtConfig(**{name: value})
    with pytest.raises(ConfigError, match=message):
        ConvNeXtConfig.from_dict({name: value})


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ConvNeXtStackConfig)])
@pytest.mark.parametrize("value", [0, -1, 2**62])
def test_a_size_that_no_machine_holds_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value}; expected a whole number from 1 to"):
        ConvNeXtStackConfig(**{name: value})


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConvNeXtConfig(sample_rate="16000"),
        lambda: ConvNeXtConfig(sample_rate=16_000.5),
        lambda: ConvNeXtConfig(num_codebooks=True),
        lambda: ConvNeXtConfig(encoder={"patch_dim": 16}),
        lambda: ConvNeXtConfig(decoder=None),
        lambda: ConvNeXtStackConfig(patch_dim="16"),
        lambda: ConvNeXtStackConfig(kernel_size=7.0),
    ],
)
def test_a_constructor_refuses_the_wrong_type_as_from_dict_does(make):
    with pytest.raises(ConfigError, match="expected"):
        make()


def test_a_field_without_default_must_be_given_and_an_int_serves_as_float():
    @dataclasses.dataclass
    class Example:
        rate: float
        name: str = "x"

    assert from_mapping(Example, {"rate": 2}) == Example(2.0)
    assert type(from_mapping(Example, {"rate": 2}).rate) is float
    with pytest.raises(ConfigError, match="where lacks the field 'rate'; add it"):
        from_mapping(Example, {"name": "y"}, "where")
    with pytest.raises(ConfigError, match=r"where.rate is True; expected a value of type float"):
        from_mapping(Example, {"rate": True}, "where")


def test_a_field_that_came_later_changes_no_fingerprint_where_it_means_what_was():
    assert "semantic_dim" not in ConvNeXtConfig().to_dict()
    assert ConvNeXtConfig.from_dict(ConvNeXtConfig(semantic_dim=3).to_dict()).semantic_dim == 3


def test_a_causal_seanet_is_another_one_and_the_published_keeps_its_fingerprint():
    assert "causal" not in SEANetConfig().to_dict()
    causal = SEANetConfig(causal=True, bidirectional=False)
    assert SEANetConfig.from_dict(causal.to_dict()) == causal
    with pytest.raises(ConfigError, match="causal is true and bidirectional is true"):
        SEANetConfig(causal=True)
    with pytest.raises(ConfigError, match="causal is 1; expected true or false"):
        SEANetConfig(causal=1)


def test_the_family_says_which_config_it_is():
    assert model_config({"filters": 8, "family": "seanet"}) == SEANetConfig(filters=8)
    assert model_config({"latent_dim": 8}) == ConvNeXtConfig(latent_dim=8)
    for family in ("conv", 1, None, []):
        with pytest.raises(ConfigError, match=r"family is .*; expected 'convnext' or 'seanet'"):
            model_config({"family": family})
    with pytest.raises(ConfigError, match="unknown field 'filters'"):
        model_config({"filters": 8})


@pytest.mark.parametrize("semantic_dim", [-1, 64, True, 0.5])
def test_a_semantic_dim_that_leaves_nothing_or_is_none(semantic_dim):
    with pytest.raises(ConfigError, match="semantic_dim"):
        ConvNeXtConfig(semantic_dim=semantic_dim)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ConvNeXtConfig, {"noise_bands": 256, "patch_length": 65_536, "hop_length": 65_536}, "noise_bands is 256"),
        (SEANetConfig, {"strides": [64] * 8}, "strides is"),
        (SEANetConfig, {"dilation_base": 8, "residual_layers": 16}, "dilation_base is 8"),
    ],
)
def test_sizes_that_a_small_file_could_ask_much_memory_with_are_refused(kind, values, message):
    with pytest.raises(ConfigError, match=f"{message}.*expected"):
        kind(**({"window_length": 65_536} if "hop_length" in values else {}), **values)
