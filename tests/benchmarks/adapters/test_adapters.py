"""The adapters with small stand-ins of the interfaces that they serve."""

import sys
import types
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile
import torch

import speechtok
from benchmarks.adapters import audio_codecs, codec_superb, versa
from speechtok.errors import InputError
from tests.conftest import make_speech, make_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("model")
    make_tokenizer().save(directory)
    return str(directory)


@pytest.fixture
def speech() -> torch.Tensor:
    return torch.from_numpy(make_speech(1.0, seed=1)).float()


def install(monkeypatch, name: str, **content: object) -> None:
    parts = name.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(parts[end - 1]))
    module = types.ModuleType(name)
    for key, value in content.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


def test_codec_superb_extracts_and_decodes_units(monkeypatch, model, speech):
    @dataclass
    class ExtractedUnit:
        unit: object
        stuff_for_synth: object

    class BaseCodec:
        def __init__(self) -> None:
            self.device = "cpu"
            self.config()

        def synth(self, data):  # as the original, without resampling
            return self.decode_unit(self.extract_unit(data).stuff_for_synth)

    install(monkeypatch, "SoundCodec.base_codec.general", BaseCodec=BaseCodec, ExtractedUnit=ExtractedUnit)
    codec = codec_superb.make_codec(2, model)()
    tokenizer = speechtok.load(model)
    assert codec.sampling_rate == 16_000
    assert codec.setting == f"speechtok_{tokenizer.fingerprint}_2"
    data = {"audio": {"array": speech.double().numpy(), "sampling_rate": 16_000}}
    tokens = tokenizer.encode(speech, 16_000, num_codebooks=2)
    assert torch.equal(codec.extract_unit(data).unit, tokens.codes[0])
    audio = codec.synth(data)
    assert isinstance(audio, np.ndarray)
    assert np.array_equal(audio, tokenizer.decode(tokens).numpy())


def test_audiocodecs_reads_lengths_as_shares_and_frames_first(monkeypatch, model, speech):
    class Codec(torch.nn.Module):
        def __init__(self, sample_rate, orig_sample_rate, mode="reconstruct") -> None:
            super().__init__()
            self.sample_rate, self.orig_sample_rate, self.mode = sample_rate, orig_sample_rate, mode

    install(monkeypatch, "audiocodecs.codec", Codec=Codec)
    codec = audio_codecs.make_codec()(16_000, num_codebooks=3, model=model)
    tokenizer = speechtok.load(model)
    batch = torch.stack([speech, torch.cat([speech[:8_000], torch.zeros(8_000)])])
    toks = codec._sig_to_toks(batch, torch.tensor([1.0, 0.5]))
    tokens = tokenizer.encode(batch, 16_000, [16_000, 8_000], num_codebooks=3)
    assert toks.shape == (2, 50, 3)
    assert torch.equal(toks.movedim(1, 2), tokens.codes)
    assert torch.equal(codec._toks_to_sig(toks, torch.ones(2)), tokenizer.decode(tokens.codes))
    vectors = codec.embs()
    assert vectors.shape[:2] == (3, tokenizer.codebook_size)
    summed = sum(vectors[q][toks[..., q]] for q in range(3))
    assert torch.allclose(summed, codec._toks_to_qfeats(toks, torch.ones(2)), atol=1e-5)
    assert torch.equal(codec._sig_to_qfeats(batch, torch.tensor([1.0, 0.5])), codec._toks_to_qfeats(toks, None))


@pytest.mark.parametrize("module", [codec_superb, audio_codecs])
def test_a_missing_benchmark_is_named(module, monkeypatch):
    for name in ("SoundCodec", "audiocodecs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"cannot be imported .*; expected"):
        module.make_codec()


def test_versa_gets_pairs_of_files_lists_and_a_configuration(tmp_path, capsys):
    import yaml

    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name in ("a", "b c"):
        soundfile.write(data / f"{name}.wav", make_speech(1.0), 16_000)
    (data / "test.jsonl").write_text('{"audio": "a.wav", "text": "one  two"}\n{"audio": "b c.wav", "text": "three"}')
    assert versa.main(["--data", str(data), "--codec", "lowpass", "--out", str(out)]) == 0
    lists = [[line.split(" ", 1) for line in (out / f"{n}.scp").read_text().splitlines()] for n in ("gt", "pred")]
    assert [key for key, _ in lists[0]] == [key for key, _ in lists[1]] == ["000000-a.wav", "000001-b_c.wav"]
    original, _ = soundfile.read(lists[0][0][1])
    decoded, rate = soundfile.read(lists[1][0][1])
    assert (len(original), rate) == (len(decoded), 16_000)
    assert not np.allclose(original, decoded, atol=1e-3)
    assert (out / "text").read_text() == "000000-a.wav one two\n000001-b_c.wav three\n"
    names = [entry["name"] for entry in yaml.safe_load((out / "versa.yaml").read_text())]
    assert "pesq" in names
    assert "whisper_wer" in names
    (data / "a.wav").write_text("no audio")
    assert versa.main(["--data", str(data), "--codec", "identity", "--out", str(out)]) == 1
    assert "failed" in capsys.readouterr().err
