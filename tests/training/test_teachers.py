import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from speechtok.errors import CheckpointError, ConfigError, InputError, MissingFileError
from training import teachers
from training.dataset import find_utterances, pack
from training.features import align, frame_centres
from training.hubert import Hubert, HubertConfig, hash_weights, load_hubert
from training.teachers import FeatureStore, OwnTeacher, Teacher, TorchaudioTeacher, extract, load_teacher, main

TINY = HubertConfig(dim=16, depth=3, heads=2, kernel_size=3, bands=20)
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8, 8],
    "conv_kernel": [10, 8, 4],
    "conv_stride": [5, 8, 8],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 3,
}
CONVOLUTIONS = [(10, 5), (8, 8), (4, 8)]  # 10 + 7 * 5 + 3 * 40 = 165 samples, a frame every 320


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("own")
    Hubert(TINY, ("SIL", "AH", "T")).save(directory)
    return directory


def transformers_model(kind: str, **changes: object) -> torch.nn.Module:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES | changes)
    return getattr(transformers, f"{kind}Model")(config).eval()


def torchaudio_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torchaudio.models.wav2vec2_model(
        extractor_mode="group_norm",
        extractor_conv_layer_config=[(8, kernel, stride) for kernel, stride in CONVOLUTIONS],
        extractor_conv_bias=False,
        encoder_embed_dim=16,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=2,
        encoder_num_layers=3,
        encoder_num_heads=2,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=32,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    ).eval()


def fairseq2_model() -> torch.nn.Module:
    from fairseq2.models.wav2vec2 import Wav2Vec2Config, Wav2Vec2EncoderConfig, create_wav2vec2_model

    torch.manual_seed(0)
    encoder = Wav2Vec2EncoderConfig(
        model_dim=16,
        feature_dim=8,
        feature_extractor_layer_descs=[(8, kernel, stride) for kernel, stride in CONVOLUTIONS],
        pos_conv_kernel_size=16,
        num_pos_conv_groups=2,
        num_encoder_layers=3,
        num_encoder_attn_heads=2,
        ffn_inner_dim=32,
    )
    return create_wav2vec2_model(Wav2Vec2Config(encoder_config=encoder, final_dim=8, quantized_dim=8)).eval()


def check(teacher: Teacher, waveform: torch.Tensor) -> None:
    """What every teacher promises, whatever its library."""
    features = teacher(waveform)
    assert features.dtype == torch.float32
    assert features.shape == (len(waveform), features.shape[1], teacher.dim)
    assert torch.isfinite(features).all()
    seconds = waveform.shape[1] / teacher.sample_rate
    last = teacher.offset + (features.shape[1] - 1) / teacher.frame_rate
    assert 0 < seconds - last <= 1.1 / teacher.frame_rate + teacher.offset
    assert teacher(waveform[:, :3]).shape[1] == 1  # shorter than one frame


def test_mfcc_need_no_model():
    teacher = load_teacher("mfcc")
    check(teacher, torch.randn(2, 16_000) * 0.1)
    assert (teacher.dim, teacher.frame_rate, teacher.offset) == (39, 100.0, 0.005)


def test_own_teacher_gives_layers_their_average_and_phones(own):
    waveform = torch.randn(2, 8_000) * 0.1
    single = [load_teacher(f"own:{own}", layer)(waveform) for layer in (1, 2, 3)]
    average = load_teacher(f"own:{own}")
    check(average, waveform)
    torch.testing.assert_close(average(waveform), torch.stack(single).mean(0))
    phones = load_teacher(f"own:{own}", "phones")
    assert (phones.dim, phones.phones) == (3, ("SIL", "AH", "T"))
    torch.testing.assert_close(phones(waveform), average.phone_logits(waveform))


def test_own_teacher_is_the_same_after_saving(own, tmp_path):
    network = load_hubert(own)
    network.save(tmp_path)
    waveform = torch.randn(1, 4_000)
    assert torch.equal(OwnTeacher(load_hubert(tmp_path))(waveform), OwnTeacher(network)(waveform))


def test_own_teacher_does_not_hear_how_loud_it_is(own):
    waveform = torch.randn(1, 8_000) * 0.1
    teacher = load_teacher(f"own:{own}")
    torch.testing.assert_close(teacher(waveform), teacher(waveform * 0.5), atol=1e-3, rtol=1e-3)


def test_padding_that_is_marked_changes_nothing(own):
    network = load_hubert(own)
    short = torch.randn(1, 3_200) * 0.1
    padded = torch.nn.functional.pad(short, (0, 3_200))
    valid = torch.arange(20)[None] < 10
    alone = network(network.spectra(short), torch.ones(1, 10, dtype=torch.bool))
    batched = network(network.spectra(padded, valid), valid)
    for x, y in zip(alone, batched, strict=True):
        torch.testing.assert_close(y[:, :9], x[:, :9], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["Hubert", "WavLM", "Wav2Vec2"])
def test_a_transformers_directory_is_a_teacher(kind, tmp_path):
    model = transformers_model(kind)
    model.save_pretrained(tmp_path)
    waveform = torch.randn(2, 8_000) * 0.1
    teacher = load_teacher(f"transformers:{tmp_path}", 2)
    check(teacher, waveform)
    assert (teacher.frame_rate, teacher.offset) == (50.0, 165 / 2 / 16_000)
    with torch.no_grad():
        expected = model(waveform, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(teacher(waveform), expected)


def test_a_transformers_model_hears_what_its_preprocessor_says(tmp_path):
    from transformers import Wav2Vec2FeatureExtractor

    model = transformers_model("Hubert")
    model.save_pretrained(tmp_path)
    waveform = torch.randn(1, 8_000) * 0.1 + 0.05
    Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=8_000).save_pretrained(tmp_path)
    teacher = load_teacher(f"transformers:{tmp_path}", 3)
    assert (teacher.sample_rate, teacher.frame_rate) == (8_000, 25.0)
    normalised = (waveform - waveform.mean()) / waveform.std(unbiased=False)
    with torch.no_grad():
        torch.testing.assert_close(teacher(waveform), model(normalised).last_hidden_state, atol=1e-4, rtol=1e-4)
    assert not load_teacher(f"transformers:{tmp_path}").training


def test_models_with_layer_norm_in_front_hear_normalised_audio_without_being_told(tmp_path):
    transformers_model("Wav2Vec2", feat_extract_norm="layer").save_pretrained(tmp_path)
    assert load_teacher(f"transformers:{tmp_path}").normalise


def test_a_torchaudio_bundle_is_a_teacher(monkeypatch):
    model = torchaudio_model()
    bundle = type(torchaudio.pipelines.HUBERT_BASE)
    monkeypatch.setattr(bundle, "get_model", lambda self: model)
    waveform = torch.randn(2, 8_000) * 0.1
    teacher = load_teacher("torchaudio:HUBERT_BASE", 2)
    check(teacher, waveform)
    assert (teacher.sample_rate, teacher.dim, teacher.num_layers) == (16_000, 16, 3)
    torch.testing.assert_close(teacher(waveform), model.extract_features(waveform)[0][1])


def test_a_torchaudio_model_that_normalises_its_input_is_unwrapped():
    class Wrapped(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def extract_features(self, waveform: torch.Tensor) -> tuple[list[torch.Tensor], None]:
            return self.model.extract_features(torch.nn.functional.layer_norm(waveform, waveform.shape))

    teacher = TorchaudioTeacher(Wrapped(torchaudio_model()), 16_000, 16, 3).eval()
    waveform = torch.randn(1, 8_000)
    torch.testing.assert_close(teacher(waveform), teacher(waveform * 0.1), atol=1e-3, rtol=1e-3)


def test_fairseq2_wav2vec2_is_a_teacher(monkeypatch):
    import fairseq2.models

    model = fairseq2_model()
    monkeypatch.setattr(fairseq2.models, "load_model", lambda *_, **__: model)
    waveform = torch.randn(2, 8_000) * 0.1
    teacher = load_teacher("fairseq2:wav2vec2_base")
    check(teacher, waveform)
    single = [load_teacher("fairseq2:wav2vec2_base", layer)(waveform) for layer in (1, 2, 3)]
    torch.testing.assert_close(teacher(waveform), torch.stack(single).mean(0))
    assert not torch.allclose(single[0], single[2])


def test_fairseq2_w2v_bert_is_a_teacher():
    from fairseq2.models.w2vbert import W2VBertConfig, create_w2vbert_model

    config = W2VBertConfig()
    encoder = config.w2v2_config.encoder_config
    encoder.model_dim, encoder.num_encoder_layers, encoder.num_encoder_attn_heads = 16, 2, 2
    encoder.ffn_inner_dim = 32
    config.num_bert_encoder_layers = 1
    config.w2v2_config.final_dim = config.w2v2_config.quantized_dim = 8
    config.w2v2_config.num_codebook_entries = 8
    torch.manual_seed(0)
    teacher = teachers.Fairseq2Teacher(create_w2vbert_model(config)).eval()
    check(teacher, torch.randn(2, 16_000) * 0.1)
    assert (teacher.dim, teacher.frame_rate, teacher.offset) == (16, 50.0, 0.0175)


@pytest.mark.parametrize("layer", [0, 4, -1, "last"])
def test_a_layer_out_of_range_is_named_with_the_range(own, layer):
    with pytest.raises(InputError, match=r"1 to 3, 'average'"):
        load_teacher(f"own:{own}", layer)


def test_a_teacher_without_phones_says_so():
    with pytest.raises(InputError, match="no phone classifier"):
        load_teacher("mfcc", "phones")
    with pytest.raises(InputError, match="no phone classifier"):
        load_teacher("mfcc").phone_logits(torch.zeros(1, 1600))


@pytest.mark.parametrize("spec", ["", "own", "nemo:x", "mfcc:x", "torchaudio:HUBERT_TINY", "torchaudio:TACOTRON2"])
def test_an_unknown_teacher_is_refused_with_the_kinds_there_are(spec):
    with pytest.raises(InputError, match="expected"):
        load_teacher(spec)


def test_teachers_that_are_not_there_are_named(tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match="pretrain_teacher"):
        load_teacher(f"own:{tmp_path}")
    with pytest.raises(MissingFileError, match="save_pretrained"):
        load_teacher(f"transformers:{tmp_path}")
    with pytest.raises(MissingFileError, match="neither a directory"):
        load_teacher(f"transformers:{tmp_path / 'none'}")
    with pytest.raises(MissingFileError, match="no card"):
        load_teacher("fairseq2:no_such_card")

    def unreachable(_bundle: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(type(torchaudio.pipelines.HUBERT_BASE), "get_model", unreachable)
    with pytest.raises(MissingFileError, match="service not known"):
        load_teacher("torchaudio:HUBERT_BASE")


def test_other_and_damaged_models_are_refused(own, tmp_path):
    from transformers import BertConfig, BertModel

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(**size, vocab_size=10)).save_pretrained(tmp_path / "bert")
    with pytest.raises(CheckpointError, match="BertModel"):
        load_teacher(f"transformers:{tmp_path / 'bert'}")
    (tmp_path / "config.json").write_text((own / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((own / "model.safetensors").read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="does not fit"):
        load_teacher(f"own:{tmp_path}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no teacher's description"):
        load_teacher(f"own:{tmp_path}")
    description = json.loads((own / "config.json").read_text())
    description["teacher"]["heads"] = 5
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(ConfigError, match="heads"):
        load_teacher(f"own:{tmp_path}")


@pytest.fixture
def stored(own: Path, speech_folder: Path, tmp_path: Path) -> tuple[Teacher, Path]:
    teacher = load_teacher(f"own:{own}", 2)
    count, skipped = extract(teacher, "own", str(speech_folder), tmp_path / "features")
    assert (count, skipped) == (12, ["broken.flac"])
    return teacher, tmp_path / "features"


@pytest.mark.parametrize("sample_rate", [16_000, 24_000])
def test_a_crop_of_the_store_is_the_teacher_at_the_middle_of_each_frame(stored, speech_folder, tmp_path, sample_rate):
    teacher, directory = stored
    files, _ = find_utterances(str(speech_folder))
    corpus = pack(files, sample_rate, tmp_path / "audio")
    store = FeatureStore(directory, str(speech_folder), files, corpus, sample_rate)
    assert len(store) == len(corpus)
    kept = [file for file in files if str(file) not in corpus.skipped]
    usual = sample_rate // 50
    places = (0, 0, 20, usual, 0), (3, 1234, 10, usual, 1), (7, 5_000, 20, 1.1 * usual, 0), (0, 0, 20, usual, 2)
    for index, start, frames, hop, delay in places:
        waveform = torch.from_numpy(soundfile.read(kept[index], dtype="float32")[0])
        features = teacher(waveform[None]).half().float()
        expected = align(features, 50.0, 0.01, frame_centres(frames, hop, sample_rate, start - delay * hop))[0]
        found = store.crop(index, start, frames, hop, delay)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


def test_a_store_holds_few_files_open_however_many_it_has(own, speech_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "SHARD_UTTERANCES", 1)
    monkeypatch.setattr(teachers, "MOST_OPEN", 3)
    extract(load_teacher(f"own:{own}", 2), "own", str(speech_folder), tmp_path / "features")
    files, _ = find_utterances(str(speech_folder))
    corpus = pack(files, 16_000, tmp_path / "audio")
    store = FeatureStore(tmp_path / "features", str(speech_folder), files, corpus, 16_000)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    first = [store.crop(index, 0, 10, 320) for index in range(len(store))]
    assert len(first) > 6
    assert all(torch.equal(x, store.crop(index, 0, 10, 320)) for index, x in enumerate(first))
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_a_manifest_may_name_audio_from_elsewhere(stored, speech_folder, tmp_path):
    teacher, directory = stored
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    for split in ("train", "dev"):
        rows = [json.loads(line) for line in (speech_folder / f"{split}.jsonl").read_text().splitlines()]
        rows = [json.dumps({"audio": str(speech_folder / row["audio"])}) for row in rows]
        (manifests / f"{split}.jsonl").write_text("\n".join(rows))
    count, skipped = extract(teacher, "own", str(manifests), tmp_path / "elsewhere")
    assert (count, skipped) == (12, [(speech_folder / "broken.flac").as_posix()])
    files, _ = find_utterances(str(manifests))
    corpus = pack(files, 16_000, tmp_path / "audio")
    here = FeatureStore(directory, str(speech_folder), files, corpus, 16_000)
    elsewhere = FeatureStore(tmp_path / "elsewhere", str(manifests), files, corpus, 16_000)
    assert torch.equal(here.crop(3, 1234, 10, 320), elsewhere.crop(3, 1234, 10, 320))


def test_an_interrupted_extraction_goes_on_and_ends_the_same(own, speech_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "SHARD_UTTERANCES", 5)
    teacher = load_teacher(f"own:{own}", 2)
    extract(teacher, "own", str(speech_folder), tmp_path / "whole")
    calls = []

    class Interrupted(OwnTeacher):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            if len(calls) == 8:
                raise KeyboardInterrupt
            return super().forward(waveform)

    with pytest.raises(KeyboardInterrupt):
        extract(Interrupted(load_hubert(own), 2).eval(), "own", str(speech_folder), tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.npy"))) == 1
    extract(teacher, "own", str(speech_folder), tmp_path / "parts")
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes() for name in names)


class Counting(OwnTeacher):
    """Knows how many utterances it has heard."""

    heard = 0

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        self.heard += 1
        return super().forward(waveform)


def counting(own: Path) -> Counting:
    return Counting(load_hubert(own), 2).eval().requires_grad_(False)


def without_sizes(directory: Path) -> None:
    """Make a store look as it did before sizes and weights were kept."""
    for path in directory.glob("[0-9]*.json"):
        shard = json.loads(path.read_text())
        for place in shard["utterances"].values():
            del place["bytes"]
        path.write_text(json.dumps(shard))
    description = json.loads((directory / "features.json").read_text())
    del description["weights"]
    (directory / "features.json").write_text(json.dumps(description))


@pytest.mark.parametrize("old_store", [False, True])
def test_files_that_changed_or_became_readable_are_extracted_again(own, speech_folder, tmp_path, old_store):
    data, out = tmp_path / "data", tmp_path / "features"
    shutil.copytree(speech_folder, data)
    extract(counting(own), "own", str(data), out)
    if old_store:
        without_sizes(out)
    shutil.copy(speech_folder / "9.flac", data / "2.flac")
    shutil.copy(speech_folder / "5.flac", data / "broken.flac")
    files, _ = find_utterances(str(data))
    corpus = pack(files, 16_000, tmp_path / "audio")
    with pytest.raises((CheckpointError, MissingFileError), match="extract the features again"):
        FeatureStore(out, str(data), files, corpus, 16_000)
    teacher = counting(own)
    assert extract(teacher, "own", str(data), out) == (13, [])
    assert teacher.heard == 2
    store = FeatureStore(out, str(data), files, corpus, 16_000)
    for name in ("2.flac", "broken.flac", "7.flac"):
        waveform = torch.from_numpy(soundfile.read(data / name, dtype="float32")[0])
        assert np.array_equal(store[files.index(data / name)], teacher(waveform[None])[0].half().numpy())


def test_processes_extract_what_one_extracts(own, speech_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("training.teachers.SHARD_UTTERANCES", 5)
    teacher = load_teacher(f"own:{own}", 2)
    for name, workers in (("one", 0), ("two", 2)):
        found = extract(teacher, f"own:{own}", str(speech_folder), tmp_path / name, workers=workers)
        assert found == (12, ["broken.flac"])
    for path in sorted((tmp_path / "one").iterdir()):
        again = tmp_path / "two" / path.name
        if path.suffix == ".npy":
            np.testing.assert_allclose(np.load(path), np.load(again), rtol=1e-2, atol=1e-3)
        else:
            assert path.read_text() == again.read_text()
    with pytest.raises(InputError, match="workers is -1"):
        extract(teacher, f"own:{own}", str(speech_folder), tmp_path / "three", workers=-1)


def test_a_device_or_a_folder_that_cannot_be_used_is_named(own, speech_folder, tmp_path, capsys):
    arguments = ["--teacher", f"own:{own}", "--data", str(speech_folder), "--out"]
    assert main([*arguments, str(tmp_path / "features"), "--device", "gpu"]) == 1
    assert "device is 'gpu', which this machine cannot use" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([*arguments, str(tmp_path / "file")]) == 1
    assert "which cannot be written" in capsys.readouterr().err


def test_a_finished_extraction_computes_and_writes_nothing(own, speech_folder, tmp_path):
    extract(counting(own), "own", str(speech_folder), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    teacher = counting(own)
    assert extract(teacher, "own", str(speech_folder), tmp_path) == (12, ["broken.flac"])
    assert teacher.heard == 0
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_file_that_can_no_longer_be_read_is_not_in_the_store_until_it_is_back(own, speech_folder, tmp_path):
    data, out = tmp_path / "data", tmp_path / "features"
    shutil.copytree(speech_folder, data)
    extract(counting(own), "own", str(data), out)
    (data / "2.flac").write_text("damaged")
    for _ in range(2):
        count, skipped = extract(counting(own), "own", str(data), out)
        assert (count, sorted(skipped)) == (11, ["2.flac", "broken.flac"])
    assert len(list(out.glob("*.npy"))) == 2
    files, _ = find_utterances(str(data))
    assert len(FeatureStore(out, str(data), files, pack(files, 16_000, tmp_path / "audio"), 16_000)) == 9
    shutil.copy(speech_folder / "2.flac", data)
    assert extract(counting(own), "own", str(data), out) == (12, ["broken.flac"])


def test_features_of_a_teacher_trained_anew_do_not_mix_with_those_before(own, speech_folder, tmp_path):
    teacher = load_teacher(f"own:{own}", 2)
    extract(teacher, "own", str(speech_folder), tmp_path)
    with torch.no_grad():
        teacher.network.blocks[1].expand.bias[0] += 1e-3
    with pytest.raises(CheckpointError, match="other weights"):
        extract(teacher, "own", str(speech_folder), tmp_path)


def test_a_store_says_which_weights_made_it_and_one_from_before_is_read_without(stored, own, speech_folder, tmp_path):
    teacher, directory = stored
    files, _ = find_utterances(str(speech_folder))
    corpus = pack(files, 16_000, tmp_path / "audio")
    description = FeatureStore(directory, str(speech_folder), files, corpus, 16_000).description
    assert description.weights == hash_weights(teacher)
    assert description.weights == hash_weights(load_teacher(f"own:{own}"))
    assert description.weights != hash_weights(torchaudio_model())
    without_sizes(directory)
    old = FeatureStore(directory, str(speech_folder), files, corpus, 16_000)
    assert old.description == dataclasses.replace(description, weights="")
    extract(teacher, "own", str(speech_folder), directory)


def test_features_of_another_teacher_or_of_other_audio_are_refused(stored, own, speech_folder, tmp_path):
    _, directory = stored
    with pytest.raises(CheckpointError, match="choose another folder"):
        extract(load_teacher(f"own:{own}", 1), "own", str(speech_folder), directory)
    files, _ = find_utterances(str(speech_folder))
    corpus = pack(files, 16_000, tmp_path / "audio")
    with pytest.raises(CheckpointError, match="which now is"):
        FeatureStore(directory, str(speech_folder), [files[1], files[0], *files[2:]], corpus, 16_000)
    with pytest.raises(CheckpointError, match="utterances of the corpus"):
        FeatureStore(directory, str(speech_folder), files[:-1], corpus, 16_000)
    with pytest.raises(MissingFileError, match="extract the features again"):
        FeatureStore(tmp_path, str(speech_folder), files, corpus, 16_000)
    (directory / "000000.json").write_text('{"utterances": {}, "skipped": []}')
    with pytest.raises(MissingFileError, match=r"no features of 0\.flac"):
        FeatureStore(directory, str(speech_folder), files, corpus, 16_000)


def test_the_command_writes_a_store_and_reports_errors(own, speech_folder, tmp_path, capsys):
    arguments = ["--data", str(speech_folder), "--out", str(tmp_path / "features")]
    assert main(["--teacher", f"own:{own}", "--layer", "phones", *arguments]) == 0
    assert "12 utterances" in capsys.readouterr().out
    description = json.loads((tmp_path / "features" / "features.json").read_text())
    assert description["phones"] == ["SIL", "AH", "T"]
    assert np.load(tmp_path / "features" / "000000.npy").dtype == np.float16
    assert main(["--teacher", f"own:{own}", "--layer", "9", *arguments]) == 1
    assert "layer is 9" in capsys.readouterr().err


def test_phones_of_the_manifest_take_their_share_where_there_are_any(own, speech_folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for index in range(4):
        shutil.copy(speech_folder / f"{index + 4}.flac", data)
        phones = [["SIL", 0.0, 0.2], ["T", 0.2, 0.3], ["XX", 0.3, 0.4], ["+NOISE+", 0.4, 0.5]] if index == 1 else None
        rows.append(json.dumps({"audio": f"{index + 4}.flac", "phones": phones}))
    (data / "train.jsonl").write_text("\n".join(rows[:3]) + "\n")
    (data / "dev.jsonl").write_text(rows[3] + "\n")
    teacher = load_teacher(f"own:{own}", "phones")
    for name, share in (("alone", 0.0), ("mixed", 0.75)):
        extract(teacher, "own", str(data), tmp_path / name, aligned=share)
    stores = [np.load(tmp_path / name / "000000.npy").astype(np.float32) for name in ("alone", "mixed")]
    alone, mixed = (torch.from_numpy(store).softmax(-1) for store in stores)
    place = json.loads((tmp_path / "mixed" / "000000.json").read_text())["utterances"]["5.flac"]["first"]
    expected = alone.clone()
    for frame in range(25):  # of 20 ms
        phone = 0 if frame < 10 else 2 if frame < 15 else None if frame < 20 else 0
        if phone is not None:
            expected[place + frame] *= 0.25
            expected[place + frame, phone] += 0.75
    torch.testing.assert_close(mixed, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("layer", "share"), [("phones", 1.5), ("phones", -0.1), (1, 0.5)])
def test_a_share_that_is_none_or_of_no_phones(own, speech_folder, tmp_path, layer, share):
    with pytest.raises(InputError, match="aligned"):
        extract(load_teacher(f"own:{own}", layer), "own", str(speech_folder), tmp_path, aligned=share)
