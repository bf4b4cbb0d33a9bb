"""The codecs of transformers behind our interface, with small random weights; and the table of what each can do."""

import copy
import json
import pickle
import re
import resource
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import (
    DacConfig,
    DacFeatureExtractor,
    DacModel,
    EncodecConfig,
    EncodecModel,
    MimiConfig,
    MimiModel,
)

from benchmarks.seanet_reference import BASE, Reference, write_published
from speechtok import AudioVocabulary, Tokenizer, load
from speechtok.codecs import CODECS
from speechtok.errors import CheckpointError, InputError, MissingFileError, OutputError, StreamError, TokensError

PAGE = (Path(__file__).parent.parent / "docs" / "codecs.md").read_text(encoding="utf-8")

MODELS = {
    "encodec": lambda: EncodecModel(
        EncodecConfig(num_filters=4, hidden_size=16, codebook_size=1024, target_bandwidths=[1.5, 3.0, 6.0])
    ),
    "dac": lambda: DacModel(
        DacConfig(
            encoder_hidden_size=4, decoder_hidden_size=32, hidden_size=64, n_codebooks=5, codebook_size=64,
            downsampling_ratios=[2, 4, 5, 8], upsampling_ratios=[8, 5, 4, 2], sampling_rate=16_000,
        )
    ),
    "mimi": lambda: MimiModel(
        MimiConfig(
            num_filters=4, hidden_size=16, codebook_size=64, codebook_dim=8, vector_quantization_hidden_dimension=8,
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8, intermediate_size=16,
            num_quantizers=6, upsample_groups=16,
        )
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def models() -> dict:
    torch.manual_seed(0)
    made = {name: make().eval() for name, make in MODELS.items()}
    for codebook in (m for model in made.values() for m in model.modules() if hasattr(m, "embed_sum")):
        codebook.embed_sum.normal_()
    for layer in made["encodec"].quantizer.layers:
        layer.codebook.embed.normal_(std=0.1)
    return made


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("codecs")
    for name, model in models.items():
        model.save_pretrained(root / name)
    return {name: root / name for name in models}


@pytest.fixture(scope="module")
def tokenizers(folders, tiny, tmp_path_factory) -> dict[str, Tokenizer]:
    small = {**BASE, "n_filters": 2, "dimension": 8, "semantic_dimension": 4, "codebook_size": 16, "n_q": 3}
    published = tmp_path_factory.mktemp("published")
    write_published(Reference(small), small, published)
    wrapped = {name: load(f"{name}:{folder}") for name, folder in folders.items()}
    return {"speechtok": tiny, "published": load(published), **wrapped}


def theirs(name: str, model, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if name == "encodec":
            return model.encode(x[None, None], bandwidth=6.0).audio_codes[0]
        return model.encode(x[None, None]).audio_codes


# --- what transformers gives


@pytest.mark.parametrize("name", CODECS)
def test_codes_of_an_utterance_are_those_of_transformers(name, models, tokenizers, speech):
    tok = tokenizers[name]
    x = torch.from_numpy(speech(1.0, sample_rate=tok.sample_rate))[: 12 * tok.hop_length]
    expected = theirs(name, models[name], x)
    assert expected.unique().numel() > 10
    assert torch.equal(tok.encode(x, tok.sample_rate).codes, expected)
    assert torch.equal(tok.encode(x, tok.sample_rate, num_codebooks=2).codes, expected[:, :2])


@pytest.mark.parametrize("name", ["encodec", "mimi"])
def test_codes_of_any_length_are_those_of_transformers(name, models, tokenizers, speech):
    tok = tokenizers[name]
    x = torch.from_numpy(speech(0.7, sample_rate=tok.sample_rate))[:-123]
    assert torch.equal(tok.encode(x, tok.sample_rate).codes, theirs(name, models[name], x))


def test_dac_completes_the_last_frame_as_its_feature_extractor(models, tokenizers, speech):
    x = speech(0.51)
    whole = DacFeatureExtractor(sampling_rate=16_000, hop_length=320)(x, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        expected = models["dac"].encode(whole["input_values"]).audio_codes
    assert torch.equal(tokenizers["dac"].encode(x, 16_000).codes, expected)


@pytest.mark.parametrize("name", CODECS)
def test_audio_is_that_of_transformers(name, models, tokenizers, speech):
    tok, model = tokenizers[name], models[name]
    codes = tok.encode(speech(0.5, sample_rate=tok.sample_rate), tok.sample_rate).codes
    with torch.no_grad():
        if name == "encodec":
            expected = model.decode(codes[None], [None]).audio_values
        elif name == "dac":
            expected = model.decode(audio_codes=codes).audio_values
        else:
            expected = model.decode(codes).audio_values
    expected = expected.flatten()
    audio = tok.decode(codes)[0]
    assert audio.shape == (codes.shape[2] * tok.hop_length,)
    assert torch.equal(audio[: len(expected)], expected[: len(audio)])


@pytest.mark.slow
@pytest.mark.parametrize("name", CODECS)
def test_saved_as_transformers_does_it_is_the_same_tokenizer(name, tokenizers, tmp_path):
    tok = tokenizers[name]
    tok.save(tmp_path)
    assert load(tmp_path).fingerprint == tok.fingerprint
    assert MODELS[name]().__class__.from_pretrained(tmp_path).config.model_type == name


def test_a_full_disk_is_an_output_error(tokenizers, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write to .*File too large"):
            tokenizers["encodec"].save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- other processes and contexts


@pytest.mark.parametrize("name", CODECS)
def test_copies_pickles_and_contexts_of_pytorch_change_no_code(name, tokenizers, speech):
    tok = tokenizers[name]
    audio = speech(0.3, sample_rate=tok.sample_rate)
    tokens = tok.encode(audio, tok.sample_rate)
    decoded = tok.decode(tokens)

    def check(other: Tokenizer) -> None:
        assert other.fingerprint == tok.fingerprint
        assert torch.equal(other.encode(audio, tok.sample_rate).codes, tokens.codes)
        assert torch.equal(other.decode(tokens), decoded)

    check(pickle.loads(pickle.dumps(tok)))
    copied = copy.deepcopy(tok)
    with torch.autocast("cpu", torch.bfloat16):
        check(copied)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.warns(UserWarning, match="keeps its weights in torch.float32"):
            check(copied.to(dtype))


def test_a_codec_that_was_saved_in_half_precision_computes_in_float32(models, tmp_path, speech):
    model = copy.deepcopy(models["dac"]).half()
    model.save_pretrained(tmp_path)
    tok = load(tmp_path)
    assert {weight.dtype for weight in tok.parameters()} == {torch.float32}
    x = torch.from_numpy(speech(0.3))[:4800]
    assert torch.equal(tok.encode(x, 16_000).codes, theirs("dac", model.float(), x))


# --- the table of docs/codecs.md


def matrix() -> dict[str, dict[str, str]]:
    """Rows and columns of the table of the section "Features of each codec"."""
    section = PAGE.split("## Features of each codec")[1].split("\n## ")[0]
    lines = [line.strip("| ").split("|") for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {row[0].strip("`"): dict(zip(head[1:], row[1:], strict=True)) for row in rows}


NAMES = {"speechtok": "speechtok", "SpeechTokenizer": "published", "EnCodec": "encodec", "DAC": "dac", "Mimi": "mimi"}


def can(tok: Tokenizer, what: str, speech) -> bool:
    rate = tok.sample_rate
    if what == "load":
        return isinstance(tok, Tokenizer) and len(tok.fingerprint) == 16
    if what == "encode":
        tokens = tok.encode(speech(0.4), 16_000)
        return tokens.codes.shape == (1, tok.num_codebooks, -(-int(tokens.num_samples) // tok.hop_length))
    if what == "decode":
        tokens = tok.encode(speech(0.4), 16_000)
        return tok.decode(tokens).shape == (1, int(tokens.num_samples))
    if what == "batch with lengths":
        rows = [torch.from_numpy(speech(seconds, seed, rate)) for seed, seconds in enumerate((0.4, 0.15, 0.3))]
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        tokens = tok.encode(batch, rate, lengths=[len(row) for row in rows])
        audio = tok.decode(tokens)
        alone = [tok.encode(row, rate) for row in rows]
        return all(
            torch.equal(tokens[i].codes, alone[i].codes) and torch.equal(audio[i, : len(row)], tok.decode(alone[i])[0])
            for i, row in enumerate(rows)
        )
    if what == "streaming":
        try:
            tok.stream().close()
        except StreamError:
            return False
        return True
    assert what == "vocabulary"
    vocabulary = AudioVocabulary(tok)
    tokens = tok.encode(speech(0.2), 16_000)
    return torch.equal(vocabulary.to_codes(vocabulary.to_ids(tokens)).codes, tokens.codes)


@pytest.mark.parametrize("what", ["load", "encode", "decode", "batch with lengths", "streaming", "vocabulary"])
@pytest.mark.parametrize("row", NAMES)
def test_the_table_in_the_readme_is_what_codecs_can(row, what, tokenizers, speech):
    assert matrix()[row][what] == ("yes" if can(tokenizers[NAMES[row]], what, speech) else "no")


def test_the_table_has_every_codec():
    assert set(matrix()) == set(NAMES)


# --- mistakes


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("encodecs:a", "'encodec'"),
        ("MIMI:a", "'mimi'"),
        ("dacc:a", "'dac'"),
        ("zzz:a", "expected encodec, dac, mimi"),
    ],
)
def test_a_codec_that_does_not_exist_suggests_the_nearest(name, hint):
    with pytest.raises(InputError, match=f"codec is .*{hint}"):
        load(name)


def test_a_codec_without_a_model_names_an_example():
    with pytest.raises(InputError, match="expected a directory or a repository, as in encodec:facebook/encodec_24khz"):
        load("encodec:")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name, folders, tmp_path):
    shutil.copytree(folders["dac"], tmp_path / "dac")
    (tmp_path / "dac" / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        load(f"dac:{tmp_path / 'dac'}")


def test_half_a_download_is_refused(folders, tmp_path):
    shutil.copytree(folders["mimi"], tmp_path / "mimi")
    data = (tmp_path / "mimi" / "model.safetensors").read_bytes()
    (tmp_path / "mimi" / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        load(tmp_path / "mimi")


def test_weights_of_another_codec_are_refused(folders, tmp_path):
    shutil.copytree(folders["dac"], tmp_path / "dac")
    shutil.copy(folders["mimi"] / "model.safetensors", tmp_path / "dac")
    with pytest.raises(CheckpointError, match=r"lacks .*, which its config asks for"):
        load(tmp_path / "dac")


def test_an_encodec_that_fits_no_grid_is_refused(tmp_path):
    EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, audio_channels=2)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"has 2 channels.*try encodec:facebook/encodec_24khz"):
        load(tmp_path)


def test_codes_out_of_range_are_refused(tokenizers):
    tok = tokenizers["dac"]
    with pytest.raises(TokensError):
        tok.decode(torch.full((1, 2, 3), tok.codebook_size))


# --- hostile configs


def change_config(folder: Path, target: Path, **changed: object) -> Path:
    shutil.copytree(folder, target)
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **changed}))
    return target


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("mimi", {"hidden_size": 2**20}),
        ("mimi", {"num_quantizers": 1_000}),
        ("mimi", {"num_hidden_layers": 10**9}),
        ("mimi", {"codebook_size": 2**24}),
        ("mimi", {"upsampling_ratios": [2] * 10_000}),
        ("encodec", {"num_filters": 2**24}),
        ("encodec", {"target_bandwidths": [1e300]}),
        ("dac", {"n_codebooks": 10**30}),
        ("dac", {"decoder_hidden_size": 2**22}),
    ],
)
def test_a_config_cannot_ask_for_more_memory_than_its_weights_have(name, changed, folders, tmp_path, monkeypatch):
    model_class = type(MODELS[name]())
    monkeypatch.setattr(model_class, "from_pretrained", lambda *_, **__: pytest.fail("a model was made"))
    with pytest.raises(CheckpointError, match=r"lacks|expected at most|are missing|describe a codec"):
        load(f"{name}:{change_config(folders[name], tmp_path / name, **changed)}")


@pytest.mark.parametrize(
    ("name", "changed"),
    [("mimi", {"sampling_rate": 0}), ("encodec", {"target_bandwidths": []}), ("dac", {"sampling_rate": "x"})],
)
def test_a_config_without_rates_is_refused(name, changed, folders, tmp_path):
    with pytest.raises(CheckpointError, match=r"codec|sample rate|cannot be loaded|its config asks for"):
        load(f"{name}:{change_config(folders[name], tmp_path / name, **changed)}")


def test_a_config_cannot_choose_code_from_the_hub(folders, tmp_path, tokenizers):
    changed = {"attn_implementation": "someone/kernels", "_attn_implementation": "someone/kernels"}
    folder = change_config(folders["mimi"], tmp_path / "mimi", **changed, auto_map={"AutoModel": "evil.Model"})
    assert load(f"mimi:{folder}").fingerprint == tokenizers["mimi"].fingerprint


def test_weights_of_a_codec_that_are_not_finite_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders["dac"], tmp_path / "dac")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    name = next(iter(weights))
    weights[name] = torch.full_like(weights[name], float("nan"))
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights, {"format": "pt"}))
    with pytest.raises(CheckpointError, match="not finite"):
        load(f"dac:{folder}")
