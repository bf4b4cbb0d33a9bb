import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from speechtok import ConvNeXtTokenizer, load
from speechtok.errors import CheckpointError, ConfigError, InputError, MissingFileError, OutputError, SpeechtokError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
EMBED = "encoder.embed.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny) -> Path:
    """A directory that nobody changes."""
    directory = tmp_path_factory.mktemp("saved") / "model"
    tiny.save(directory)
    return directory


@pytest.fixture
def model(saved, tmp_path) -> Path:
    """A copy of it for one test to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit(model: Path, change: Callable[[dict], object]) -> None:
    description = json.loads((model / CONFIG).read_text())
    change(description)
    (model / CONFIG).write_text(json.dumps(description))


def edit_weights(model: Path, **changed: torch.Tensor | None) -> None:
    weights = safetensors.torch.load_file(model / WEIGHTS)
    weights.update({name.replace("__", "."): tensor for name, tensor in changed.items()})
    weights = {name: tensor for name, tensor in weights.items() if tensor is not None}
    (model / WEIGHTS).write_bytes(safetensors.torch.save(weights))  # load_file maps the file that stands there


# --- what is saved is what is loaded


def test_a_saved_tokenizer_is_loaded_the_same(saved, tiny, speech):
    loaded = load(saved)
    assert loaded.fingerprint == tiny.fingerprint
    assert loaded.config == tiny.config
    tokens = loaded.encode(speech(0.5), 16_000)
    assert torch.equal(tokens.codes, tiny.encode(speech(0.5), 16_000).codes)
    assert torch.equal(loaded.decode(tokens), tiny.decode(tokens))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_path_may_be_text_and_a_folder_is_made_with_its_parents(tmp_path, tiny):
    tiny.save(str(tmp_path / "a" / "b"))
    assert load(str(tmp_path / "a" / "b")).fingerprint == tiny.fingerprint
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [CONFIG, WEIGHTS]


def test_saving_over_a_tokenizer_replaces_it(model, new_tokenizer):
    other = new_tokenizer(seed=1)
    other.save(model)
    assert load(model).fingerprint == other.fingerprint


def test_loading_leaves_the_random_state_as_it_was(saved):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load(saved)
    assert torch.equal(torch.rand(3), expected)


def test_weights_that_fit_float16_are_saved_in_half_the_size_and_no_others_are(tmp_path, tiny, new_tokenizer):
    rounded = new_tokenizer().round_weights()
    rounded.save(tmp_path / "half")
    tiny.save(tmp_path / "full")
    half, full = (safetensors.torch.load_file(tmp_path / name / WEIGHTS) for name in ("half", "full"))
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    assert full[EMBED].dtype == torch.float32
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.6 * (tmp_path / "full" / WEIGHTS).stat().st_size
    assert load(tmp_path / "half").fingerprint == rounded.fingerprint != tiny.fingerprint
    assert load(tmp_path / "half").encoder.embed.weight.dtype == torch.float32


@pytest.mark.parametrize("value", [1e-8, 65_504.5, 1e30, 2**-24 * 1.5, 1 + 2**-12])
def test_a_weight_that_float16_cannot_hold_is_saved_exactly(tmp_path, new_tokenizer, value):
    tokenizer = new_tokenizer().round_weights()
    with torch.no_grad():
        tokenizer.encoder.embed.weight[0, 0] = value
    tokenizer.save(tmp_path)
    assert load(tmp_path).encoder.embed.weight[0, 0] == torch.tensor(value)
    assert load(tmp_path).fingerprint == tokenizer.fingerprint


def test_a_negative_zero_stays_negative(tmp_path, new_tokenizer):
    tokenizer = new_tokenizer()
    with torch.no_grad():
        tokenizer.encoder.embed.weight.fill_(-0.0)
    tokenizer.save(tmp_path)
    assert load(tmp_path).fingerprint == tokenizer.fingerprint


# --- damage


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, 5_000, 50_000, -1])
def test_truncated_weights_are_refused(model, size):
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(data[:size])
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} is damaged"):
        load(model)


def test_a_flipped_bit_in_the_weights_is_refused(model):
    data = bytearray((model / WEIGHTS).read_bytes())
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for position in [*range(0, header, 37), *range(header, len(data), 4_999), len(data) - 1]:
        data[position] ^= 1 << position % 8
        (model / WEIGHTS).write_bytes(data)
        with pytest.raises(CheckpointError):
            load(model)
        data[position] ^= 1 << position % 8
    (model / WEIGHTS).write_bytes(data)
    load(model)


def test_every_truncation_of_the_config_is_refused(model):
    text = (model / CONFIG).read_text().rstrip()
    for size in range(0, len(text), 9):
        (model / CONFIG).write_text(text[:size])
        with pytest.raises(
            CheckpointError, match=f"{CONFIG} (cannot be read as JSON|holds a|does not describe a tokenizer)"
        ):
            load(model)


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"5", b'"config"', b"{}", b'{"config": {}}', b"\xff\xfe\x00", b"[" * 100_000, b"PK\x03\x04"],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_description_is_refused(model, data):
    (model / CONFIG).write_bytes(data)
    with pytest.raises(
        CheckpointError, match=f"{CONFIG} (cannot be read as JSON|holds a|does not describe a tokenizer)"
    ):
        load(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sample_rate", 8_000), ("window_length", 240), ("patch_length", 160), ("hop_length", 640), ("codebook_size", 64),
     ("num_codebooks", 3), ("latent_dim", 9)],
)  # fmt: skip
def test_an_edited_config_no_longer_fits_its_weights(model, name, value):
    edit(model, lambda d: d["config"].update({name: value}))
    with pytest.raises(CheckpointError, match=r"its config asks for|one of them was changed"):
        load(model)


def test_an_edited_fingerprint_is_refused_with_both(model, tiny):
    edit(model, lambda d: d.update(fingerprint="f" * 16))
    with pytest.raises(CheckpointError, match=f"hash to {tiny.fingerprint} and .*, and config.json says {'f' * 16}"):
        load(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(num_codebook=4), "unknown field 'num_codebook'; did you mean 'num_codebooks'"),
        (lambda c: c["encoder"].update(depth=4), "config.encoder has an unknown field 'depth'"),
        (lambda c: c.update(sample_rate="16000"), "config.sample_rate is '16000'; expected a value of type int"),
        (lambda c: c.update(encoder=[1]), r"config.encoder is \[1\]; expected a table"),
        (lambda c: c.update(family="sea"), "family is 'sea'; expected 'convnext' or 'seanet'"),
        (lambda c: c.update(latent_dim=2**62), "latent_dim is 4611686018427387904; expected"),
        (lambda c: c["decoder"].update(frame_depth=10**9), "frame_depth is 1000000000; expected"),
    ],
)
def test_a_config_that_describes_no_tokenizer_is_refused(model, change, message):
    edit(model, lambda d: change(d["config"]))
    with pytest.raises(ConfigError, match=message):
        load(model)


def test_a_config_of_another_type_is_refused(model):
    edit(model, lambda d: d.update(config="tiny"))
    with pytest.raises(ConfigError, match="config is 'tiny'; expected a table"):
        load(model)


NAN = torch.full((16, 320), float("nan"))
CHANGED = {
    "NaN": (NAN, "encoder.embed.weight holds values that are not finite"),
    "infinite": (-torch.inf * torch.ones(16, 320), "encoder.embed.weight holds values that are not finite"),
    "transposed": (torch.zeros(320, 16), r"encoder.embed.weight has shape \(320, 16\).*\(16, 320\)"),
    "flat": (torch.zeros(16 * 320), r"encoder.embed.weight has shape \(5120,\).*\(16, 320\)"),
    "missing": (None, "lacks encoder.embed.weight"),
    "int32": (torch.zeros(16, 320, dtype=torch.int32), "encoder.embed.weight is of type torch.int32; expected float"),
    "bool": (torch.zeros(16, 320, dtype=torch.bool), "encoder.embed.weight is of type torch.bool; expected float"),
    "complex": (torch.zeros(16, 320, dtype=torch.complex64), "encoder.embed.weight is of type torch.complex64"),
    "float8": (torch.zeros(16, 320).to(torch.float8_e4m3fn), "encoder.embed.weight is of type torch.float8_e4m3fn"),
    "other values": (torch.zeros(16, 320), "one of them was changed"),
    "other values in float64": (torch.zeros(16, 320, dtype=torch.float64), "one of them was changed"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_weights_that_do_not_belong_to_the_config_are_refused_by_name(model, name):
    tensor, message = CHANGED[name]
    edit_weights(model, encoder__embed__weight=tensor)
    with pytest.raises(CheckpointError, match=message):
        load(model)


def test_a_weight_that_the_config_does_not_know_is_refused(model):
    edit_weights(model, teacher__weight=torch.zeros(3))
    with pytest.raises(CheckpointError, match=r"holds 'teacher.weight', which its config does not know"):
        load(model)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("put_folder", [False, True])
def test_a_missing_file_or_a_folder_in_its_place_is_refused(model, name, put_folder):
    (model / name).unlink()
    if put_folder:
        (model / name).mkdir()
    with pytest.raises(MissingFileError, match=f"there is no file .*{name}; a tokenizer needs"):
        load(model)


@pytest.mark.parametrize("name", ["missing", "org/name", "x" * 300])
def test_a_missing_directory_is_a_value_error_and_a_file_not_found_error(tmp_path, name):
    with pytest.raises(MissingFileError, match=f"{name} does not exist; expected a directory") as caught:
        load(tmp_path / name)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FileNotFoundError)


def test_an_empty_directory_is_no_tokenizer(tmp_path):
    with pytest.raises(MissingFileError, match=f"there is no file .*{CONFIG}"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_saving_where_no_folder_can_be_is_an_output_error(tmp_path, tiny, name):
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError, match="cannot make the folder"):
        tiny.save(tmp_path / name)
    assert (tmp_path / "file").read_text() == "old"


def test_saving_onto_a_folder_named_like_a_file_is_an_output_error(model, tiny):
    (model / CONFIG).unlink()
    (model / CONFIG).mkdir()
    before = (model / WEIGHTS).read_bytes()
    with pytest.raises(OutputError, match=CONFIG):
        tiny.save(model)
    assert (model / WEIGHTS).read_bytes() == before
    assert sorted(os.listdir(model)) == [CONFIG, WEIGHTS]


# --- hostile folders


def test_a_small_file_of_weights_cannot_ask_for_thousands_of_layers(model, tiny, monkeypatch):
    values = json.loads((model / CONFIG).read_text())
    values["config"]["encoder"].update(patch_depth=1024, frame_depth=1024)
    (model / CONFIG).write_text(json.dumps(values))
    monkeypatch.setattr("speechtok.loaders.build", lambda config: pytest.fail("a model was made"))
    with pytest.raises(CheckpointError, match=r"holds \d+ tensors and lacks others.* at least 12"):
        load(model)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"format": ' + "9" * 5_000 + "}", '{"a": "\\ud800"}']
)
def test_a_config_that_breaks_readers_of_json_is_refused_with_the_reason(model, text):
    (model / CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot be read as JSON \(.*(levels deep|digits|surrogate)"):
        load(model)


def test_a_config_with_a_byte_order_mark_loads(model, tiny):
    (model / CONFIG).write_bytes(b"\xef\xbb\xbf" + (model / CONFIG).read_bytes())
    assert load(model).fingerprint == tiny.fingerprint


def test_a_shape_that_no_tensor_can_have_is_refused(model):
    data = (model / WEIGHTS).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    end = len(data) - 8 - size
    header["x"] = {"dtype": "F32", "shape": [0, 2**62, 2], "data_offsets": [end, end]}
    text = json.dumps(header).encode()
    (model / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    with pytest.raises(CheckpointError, match="is damaged"):
        load(model)


@pytest.mark.parametrize("kind", [["mimi"], {"a": 1}, 5])
def test_a_model_type_that_is_not_a_name_is_refused(model, kind):
    (model / CONFIG).write_text(json.dumps({"model_type": kind}))
    with pytest.raises(CheckpointError, match="does not describe a tokenizer"):
        load(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, new_tokenizer, value):
    tokenizer = new_tokenizer()
    tokenizer.decoder.head.bias[3] = value
    with pytest.raises(CheckpointError, match=r"decoder\.head\.bias holds values that are not finite"):
        tokenizer.save(tmp_path / "model")
    assert not (tmp_path / "model" / WEIGHTS).exists()


# --- promise 3: loading runs no code


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_the_malicious_pickle_would_work_if_it_were_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Malicious(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("where", ["alone", "in config", "in weights", "beside"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path, tiny, kind, where):
    evil = Malicious(tmp_path / "marker")
    checkpoint = {"config": {"model": tiny.config.to_dict()}, "tokenizer": dict(tiny.state_dict())}
    content = {
        "alone": evil,
        "in config": {**checkpoint, "config": evil},
        "in weights": {**checkpoint, "tokenizer": {**checkpoint["tokenizer"], EMBED: evil}},
        "beside": {**checkpoint, "step": evil},
    }[where]
    path = tmp_path / "checkpoint.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(CheckpointError, match="would run code when read") as caught:
        load(path)
    assert not (tmp_path / "marker").exists()
    assert "weights_only" not in str(caught.value)  # torch's advice on how to run it after all
    assert "safe_globals" not in str(caught.value)


def test_a_call_of_the_system_is_refused_by_name_and_without_advice_to_run_it(tmp_path):
    class Call:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'marker'}",)

    torch.save({"config": Call()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"would run code when read .*posix\.system") as caught:
        load(tmp_path / "a.pt")
    assert not (tmp_path / "marker").exists()
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_pickle_in_place_of_a_file_of_the_directory_runs_no_code(model, name):
    (model / name).write_bytes(pickle.dumps(Malicious(model / "marker")))
    with pytest.raises(CheckpointError):
        load(model)
    assert not (model / "marker").exists()


# --- checkpoints of a training


def training_checkpoint(tiny: ConvNeXtTokenizer, **changed) -> dict:
    return {"config": {"model": tiny.config.to_dict()}, "tokenizer": dict(tiny.state_dict()), **changed}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_is_loaded_as_its_tokenizer(tmp_path, tiny, zipped):
    torch.save(training_checkpoint(tiny, step=5), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert load(tmp_path / "a.pt").fingerprint == tiny.fingerprint


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_training_checkpoint_is_refused(tmp_path, tiny, zipped):
    path = tmp_path / "a.pt"
    torch.save(training_checkpoint(tiny), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for size in (0, 1, 2, 5, 10, 100, 1_000, 5_000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match=r"a\.pt is damaged, or would run code"):
            load(path)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_damaged_anywhere_is_refused_or_read_never_a_crash(tmp_path, tiny, zipped):
    path = tmp_path / "a.pt"
    torch.save(training_checkpoint(tiny), path, _use_new_zipfile_serialization=zipped)
    data = bytearray(path.read_bytes())
    refused = 0
    for position in range(0, 9_000, 89):
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        data[position] ^= 1 << position % 8
        try:
            load(path)  # a flipped bit of a weight is not seen here: these files have no fingerprint
        except SpeechtokError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("data", [b"", b".", b"words", b"\x80\x02.", b"RIFF" + b"\0" * 100, b"{}"])
def test_what_is_no_checkpoint_is_refused(tmp_path, data):
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"a\.pt is damaged, or would run code"):
        load(tmp_path / "a.pt")


def doubled_tuples(depth: int) -> tuple:
    nested = (1,)
    for _ in range(depth):
        nested = (nested, nested)
    return nested


NO_CHECKPOINTS = {
    "a tensor": lambda c: torch.zeros(3),
    "a list": lambda c: [1, 2],
    "a number": lambda c: 5,
    "nothing": lambda c: None,
    "only weights": lambda c: c["tokenizer"],
    "no config": lambda c: {"tokenizer": c["tokenizer"]},
    "config of text": lambda c: {**c, "config": "tiny"},
    "weights of a list": lambda c: {**c, "tokenizer": [1, 2]},
    "weights of nothing": lambda c: {**c, "tokenizer": None},
    "weights of tuples that take for ever to hash": lambda c: {**c, "tokenizer": doubled_tuples(60)},
    "weights of text": lambda c: {**c, "tokenizer": "abc"},
    "weights of a tensor": lambda c: {**c, "tokenizer": torch.zeros(3)},
}


@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_a_file_of_other_things_is_no_checkpoint(tmp_path, tiny, name):
    torch.save(NO_CHECKPOINTS[name](training_checkpoint(tiny)), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt is not a checkpoint of training\.train"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (EMBED, 5, "is of type int; expected floating-point"),
        (EMBED, [0.1], "is of type list; expected floating-point"),
        (EMBED, torch.zeros(16, 320).to_sparse(), "is sparse, nested or holds no values"),
        (EMBED, torch.zeros(16, 320, device="meta"), "is sparse, nested or holds no values"),
        (EMBED, NAN, "not finite"),
        (5, torch.zeros(3), "holds 5, which its config does not know"),
    ],
)
def test_a_checkpoint_with_a_weight_of_another_kind_is_refused_by_name(tmp_path, tiny, key, value, message):
    weights = {**tiny.state_dict(), key: value}
    torch.save(training_checkpoint(tiny, tokenizer=weights), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_what_tensors_are_made_of_by_default_does_not_matter(new_tokenizer, tmp_path, dtype):
    tok = new_tokenizer()
    tok.decoder.head.bias.add_(1e-6)  # which half precision does not hold
    tok.save(tmp_path)
    torch.set_default_dtype(dtype)
    try:
        loaded = load(tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
    assert loaded.fingerprint == tok.fingerprint
    assert {x.dtype for x in loaded.state_dict().values()} == {torch.float32}
    with torch.device("meta"):
        loaded = load(tmp_path)
    assert loaded.fingerprint == tok.fingerprint
    assert not any(x.requires_grad for x in loaded.parameters())
    assert not loaded.training


def test_it_loads_where_other_libraries_skip_the_drawing_of_weights(saved, tiny, monkeypatch):
    for name in ("normal_", "uniform_", "kaiming_uniform_"):  # transformers, while it makes a model
        monkeypatch.setattr(torch.nn.init, name, lambda *args, **kwargs: None)
    assert load(saved).fingerprint == tiny.fingerprint
    assert ConvNeXtTokenizer(tiny.config).quantizer.codebooks.shape == tiny.quantizer.codebooks.shape


def test_where_weights_are_kept_from_being_made_it_says_so(saved, monkeypatch):
    register = torch.nn.Module.register_parameter

    def keep_empty(module, name, parameter):  # as accelerate.init_empty_weights
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", keep_empty)
    with pytest.raises(CheckpointError, match="load it outside of that"):
        load(saved)


def test_a_loaded_tokenizer_does_not_lie_in_its_file(saved, new_tokenizer, tmp_path):
    new_tokenizer(1).save(tmp_path / "other")
    shutil.copytree(saved, tmp_path / "model")
    loaded = load(tmp_path / "model")
    weight = loaded.state_dict()[EMBED].clone()
    (tmp_path / "model" / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    assert torch.equal(loaded.state_dict()[EMBED], weight)


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:99", "hpu", 1.5])
def test_a_device_that_is_not_here_is_named(saved, device):
    with pytest.raises(InputError, match=f"device is {device!r}, which .*; expected a device of this machine"):
        load(saved, device=device)


@pytest.mark.parametrize("name", [0, True, ["a"], 1.5])
def test_what_is_no_name_is_named(name):
    with pytest.raises(InputError, match=r"name is .*; expected a directory, org/name on the hub, or None"):
        load(name)


def test_a_named_pipe_in_place_of_a_file_does_not_block(tmp_path):
    for name in ("checkpoint.pt", "config.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is not a file; expected"):
        load(tmp_path / "checkpoint.pt")
    with pytest.raises(MissingFileError, match=r"there is no file \S*config\.json"):
        load(tmp_path)
