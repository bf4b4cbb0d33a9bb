"""Exported files give the codes and the audio of the tokenizer, under onnxruntime with all its optimisations."""

from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from bindings.conformance.golden import audio_hashes, read_golden
from bindings.conformance.stress import stress_input
from speechtok.errors import CheckpointError, ExactnessError, InputError, MissingFileError
from speechtok.nn.exact import FINE_FACTOR, MAX_LEVEL, ExactLinear

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from speechtok import cli, export  # noqa: E402
from speechtok.export import layers  # noqa: E402
from speechtok.export import onnx as builder  # noqa: E402
from speechtok.export.graph import Graph  # noqa: E402
from speechtok.export.known_answer import AUDIO, CODES, WAVEFORM, known_signal  # noqa: E402

SUITE = Path(speechtok.__file__).parents[1] / "bindings" / "conformance"
NAMES = "encoder", "decoder", "encoder_stream", "decoder_stream"


@pytest.fixture(scope="module")
def random():
    return speechtok.load(SUITE / "random")


@pytest.fixture(scope="module")
def folder(random, tmp_path_factory):
    target = tmp_path_factory.mktemp("onnx")
    export.export_onnx(random, target)
    return target


def session(model):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    data = model if isinstance(model, (str, bytes)) else model.SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(folder, name, **inputs):
    return session(str(folder / f"{name}.onnx")).run(None, inputs)


def test_the_stress_input_gives_the_golden_file(folder):
    golden, samples = read_golden(SUITE / "random.txt"), stress_input()
    (codes,) = run(folder, "encoder", waveform=samples[None])
    (audio,) = run(folder, "decoder", codes=codes)
    assert np.array_equal(codes[0], golden.codes)
    assert audio_hashes(audio[0, : len(samples)], int(golden.fields["hop_length"])) == golden.hashes


@pytest.mark.slow
def test_the_default_gives_the_golden_file(tmp_path):
    export.export_onnx(speechtok.load(), tmp_path)
    golden, samples = read_golden(SUITE / "speechtok-v2.txt"), stress_input()
    (codes,) = run(tmp_path, "encoder", waveform=samples[None])
    (audio,) = run(tmp_path, "decoder", codes=codes)
    assert np.array_equal(codes[0], golden.codes)
    assert audio_hashes(audio[0, : len(samples)], int(golden.fields["hop_length"])) == golden.hashes


def test_rows_of_a_batch_and_fewer_codebooks_are_those_of_the_tokenizer(random, folder):
    samples = np.stack([known_signal()[start : start + 4_321] for start in (0, 50_000, 130_000)])
    (codes,) = run(folder, "encoder", waveform=samples)
    tokens = random.encode(samples, 16_000)
    assert np.array_equal(codes, tokens.codes.numpy())
    (audio,) = run(folder, "decoder", codes=codes[:, :2])
    assert np.array_equal(audio[:, :4_321], random.decode(tokens, num_codebooks=2).numpy())


def test_a_code_beyond_the_codebook_is_refused(random, folder):
    codes = np.zeros((1, random.num_codebooks, 3), dtype=np.int64)
    codes[0, 1, 1] = random.codebook_size
    with pytest.raises(Exception, match="out of data bounds"):
        run(folder, "decoder", codes=codes)


def test_the_files_say_which_tokenizer_they_are(random, folder):
    for name in NAMES:
        model = onnx.load(folder / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        properties = {entry.key: entry.value for entry in model.metadata_props}
        assert properties["fingerprint"] == random.fingerprint
        assert properties["decoder_fingerprint"] == random.decoder_fingerprint
        assert properties["hop_length"] == str(random.hop_length)


def test_weights_take_a_byte_each(folder, random):
    layers_of_encoder = sum(p.numel() for p in random.encoder.parameters() if p.ndim == 2)
    stored = {t.name: t for t in onnx.load(folder / "encoder.onnx").graph.initializer}
    small = sum(np.prod(t.dims) for t in stored.values() if t.data_type == onnx.TensorProto.INT8)
    assert small >= layers_of_encoder * 0.9


def test_optimisations_leave_the_arithmetic_as_it_is(folder, tmp_path):
    for name in NAMES:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        ort.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
        found = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
        assert found <= {node.op_type for node in onnx.load(folder / f"{name}.onnx").graph.node}


def without_minimum(monkeypatch):
    """Reciprocals without what keeps them from being joined with the product after them."""
    add = Graph.add

    def add_but_minimum(self, operation, *inputs, **attributes):
        if operation == "Min" and inputs[0].startswith("Div"):
            return inputs[0]
        return add(self, operation, *inputs, **attributes)

    monkeypatch.setattr(Graph, "add", add_but_minimum)


def with_hard_swish(monkeypatch):
    monkeypatch.setattr(layers, "hard_swish", lambda g, x: g.add("HardSwish", x))


@pytest.mark.parametrize("guard", [without_minimum, with_hard_swish])
def test_the_known_answer_notices_what_a_runtime_rewrites(guard, random, tmp_path, monkeypatch):
    guard(monkeypatch)
    with pytest.raises(ExactnessError, match="differ under onnxruntime"):
        export.export_onnx(random, tmp_path)


@pytest.mark.parametrize("guarded", [True, False])
def test_two_products_of_a_fine_layer_would_be_fused(guarded):
    inputs, outputs = 512, 64
    layer = ExactLinear(inputs, outputs, fine=True).requires_grad_(False)
    x = torch.rand(40, inputs, generator=torch.Generator().manual_seed(0))
    layer.weight.copy_(torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(1)))
    g = Graph("test")
    name = g.input("x", np.float32, [40, inputs])
    if guarded:
        result = layers.linear(g, layer, name)
    else:
        levels, scale = layers.to_levels(g, name, FINE_FACTOR * MAX_LEVEL)
        weight, weight_scale, bias = layer.levels()
        matrix = layers.weights(g, weight.t().contiguous())
        coarse = g.add("Round", g.add("Div", levels, g.scalar(FINE_FACTOR)))
        rest = g.add("Sub", levels, g.add("Mul", coarse, g.scalar(FINE_FACTOR)))
        large = g.add("Mul", g.add("MatMul", coarse, matrix), g.scalar(FINE_FACTOR))
        product = g.add("Add", large, g.add("MatMul", rest, matrix))
        scaled = g.add("Mul", g.add("Mul", product, scale), layers.weights(g, weight_scale))
        result = g.add("Add", scaled, layers.weights(g, bias))
    g.output(result, "y", np.float32, [40, outputs])
    (found,) = session(g.model({})).run(None, {"x": x.numpy()})
    assert np.array_equal(found, layer(x).numpy()) is guarded


@pytest.mark.parametrize("name", [WAVEFORM, CODES, AUDIO, "encoder.onnx", "decoder_stream.onnx"])
def test_missing_and_damaged_files_are_named(name, folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    export.check_onnx(tmp_path)
    (tmp_path / name).write_bytes((folder / name).read_bytes()[:-9])
    with pytest.raises((CheckpointError, ExactnessError)):
        export.check_onnx(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(MissingFileError, match=f"{name} does not exist"):
        export.check_onnx(tmp_path)


def test_other_families_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected one of the convnext family"):
        export.export_onnx(torch.nn.Linear(1, 1), tmp_path)


@pytest.mark.parametrize("sizes", [{"window_length": 80}, {"noise_bands": 0, "semantic_dim": 8}, {"hold": 2_000}])
def test_models_of_other_sizes_are_exact(new_tokenizer, sizes, tmp_path):
    import dataclasses

    from tests.conftest import TINY

    stack = dataclasses.replace(TINY.encoder, kernel_size=1)
    config = dataclasses.replace(TINY, latent_dim=16, encoder=stack, **sizes)
    export.export_onnx(new_tokenizer(3, config), tmp_path)


def test_the_command_writes_the_files(tmp_path, capsys):
    assert cli.main(["export", "--onnx", str(tmp_path / "out"), "--model", str(SUITE / "random")]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "out" / name) for name in (*(f"{n}.onnx" for n in NAMES), WAVEFORM, CODES, AUDIO)
    ]


def test_graphs_of_equal_tokenizers_are_equal_files(random, folder):
    model = builder.build_encoder(random, streaming=True).model({})
    assert model.graph == onnx.load(folder / "encoder_stream.onnx").graph
