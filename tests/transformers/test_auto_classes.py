import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor

import speechtok
from speechtok.errors import AudioError, InputError, TokensError
from speechtok.transformers import SpeechtokConfig, SpeechtokFeatureExtractor, SpeechtokModel


@pytest.fixture
def folder(tiny, tmp_path):
    SpeechtokModel.from_tokenizer(tiny).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def model(folder):
    return AutoModel.from_pretrained(folder)


@pytest.fixture
def inputs(folder, speech):
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    waveforms = [speech(0.3, 0), speech(0.2, 1)]
    return waveforms, extractor(waveforms, sampling_rate=16_000, return_tensors="pt")


def test_a_folder_loads_by_all_auto_classes_and_by_load(folder, tiny):
    config, model = AutoConfig.from_pretrained(folder), AutoModel.from_pretrained(folder)
    assert type(config) is SpeechtokConfig
    assert type(model) is SpeechtokModel
    assert type(AutoFeatureExtractor.from_pretrained(folder)) is SpeechtokFeatureExtractor
    assert type(AutoProcessor.from_pretrained(folder)) is SpeechtokFeatureExtractor
    assert model.tokenizer.fingerprint == tiny.fingerprint == speechtok.load(folder).fingerprint
    expected = (tiny.sample_rate, tiny.hop_length, tiny.num_codebooks, tiny.codebook_size, tiny.frame_rate)
    for found in (config, model.config):
        sizes = found.sampling_rate, found.hop_length, found.num_quantizers, found.codebook_size, found.frame_rate
        assert sizes == expected


def test_a_folder_that_a_tokenizer_saved_loads_by_auto_model(tiny, tmp_path):
    tiny.save(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).tokenizer.fingerprint == tiny.fingerprint


def test_codes_and_audio_equal_those_of_the_tokenizer(model, tiny, inputs):
    waveforms, batch = inputs
    assert batch["input_values"].shape == (2, 1, 4800)
    encoded = model.encode(**batch)
    audio = model.decode(encoded.audio_codes, batch["padding_mask"]).audio_values
    for row, waveform in enumerate(waveforms):
        alone = tiny.encode(waveform, 16_000)
        frames = alone.codes.shape[2]
        assert torch.equal(encoded.audio_codes[row, :, :frames], alone.codes[0])
        assert encoded.audio_codes_mask[row].tolist() == [1] * frames + [0] * (encoded.audio_codes.shape[2] - frames)
        one = model.encode(torch.from_numpy(waveform)[None, None])
        assert torch.equal(one.audio_codes, alone.codes)
        decoded = model.decode(one.audio_codes, torch.ones(1, len(waveform))).audio_values
        assert torch.equal(decoded[0, 0], tiny.decode(alone)[0])
        assert audio[row, 0, len(waveform) :].abs().sum() == 0
    both = model(**batch)
    assert torch.equal(both.audio_codes, encoded.audio_codes)
    assert torch.equal(both.audio_values, audio)
    assert torch.equal(model(batch["input_values"], return_dict=False)[0], model.encode(batch["input_values"])[0])


def test_padding_on_the_left_gives_the_same_codes(model, inputs):
    waveforms, batch = inputs
    expected = model.encode(**batch)
    padded, mask = torch.zeros(2, 1, 4800), torch.zeros(2, 4800)
    for row, waveform in enumerate(waveforms):
        padded[row, 0, -len(waveform) :], mask[row, -len(waveform) :] = torch.from_numpy(waveform), 1
    encoded = model.encode(padded, mask)
    assert torch.equal(encoded.audio_codes, expected.audio_codes)
    audio = model.decode(encoded.audio_codes, mask).audio_values
    right = model.decode(expected.audio_codes, batch["padding_mask"]).audio_values
    for row, waveform in enumerate(waveforms):
        assert torch.equal(audio[row, 0, -len(waveform) :], right[row, 0, : len(waveform)])


def test_fewer_codebooks_are_the_first_ones(model, inputs):
    _, batch = inputs
    codes = model.encode(**batch).audio_codes
    assert torch.equal(model.encode(**batch, num_quantizers=2).audio_codes, codes[:, :2])
    assert model.decode(codes[:, :2]).audio_values.shape == (2, 1, codes.shape[2] * 320)


def test_bad_input_is_refused(model, folder, inputs):
    _, batch = inputs
    values, mask = batch["input_values"], batch["padding_mask"]
    with pytest.raises(AudioError, match=r"input_values has shape \(2, 2, 4800\); expected \(B, 1, S\)"):
        model.encode(values.expand(2, 2, -1))
    with pytest.raises(AudioError, match="padding_mask has shape"):
        model.encode(values, mask[:, :-1])
    gap = mask.clone()
    gap[0, 100] = 0
    with pytest.raises(AudioError, match="padding_mask has gaps"):
        model.encode(values, gap)
    with pytest.raises(TokensError, match="padding_mask has 1 rows; expected 2"):
        model.decode(model.encode(**batch).audio_codes, mask[:1])
    with pytest.raises(InputError, match="num_codebooks is 9"):
        model.encode(values, num_quantizers=9)
    with pytest.raises(InputError, match=r"dtype is torch.float16; expected float32"):
        AutoModel.from_pretrained(folder, dtype=torch.float16)
    with pytest.raises(ValueError, match="sampling rate of 16000"):
        AutoFeatureExtractor.from_pretrained(folder)(np.zeros(100, np.float32), sampling_rate=44_100)


def test_a_model_is_made_from_its_config(tiny):
    config = SpeechtokConfig(tiny.config.to_dict())
    model = AutoModel.from_config(config)
    assert model.tokenizer.config == tiny.config
    assert SpeechtokConfig().num_quantizers == speechtok.load().num_codebooks


def test_a_model_is_copied_to_a_device_and_saved_again(model, tmp_path, inputs):
    _, batch = inputs
    model.to("cpu").save_pretrained(tmp_path / "again")
    again = AutoModel.from_pretrained(tmp_path / "again", device_map="cpu", dtype="auto")
    assert torch.equal(again.encode(**batch).audio_codes, model.encode(**batch).audio_codes)


@pytest.mark.slow
def test_a_fresh_process_loads_it_with_trust_remote_code_or_after_the_import(folder, inputs, model, tmp_path):
    waveforms, _ = inputs
    expected = model.encode(torch.from_numpy(waveforms[0])[None, None]).audio_codes.flatten().tolist()
    np.save(tmp_path / "a.npy", waveforms[0])
    program = """
import json, sys
import numpy as np, torch
trust = {"trust_remote_code": True}
if sys.argv[1] == "import":
    import speechtok.transformers
    trust = {}
from transformers import AutoFeatureExtractor, AutoModel
model = AutoModel.from_pretrained("model", **trust)
extractor = AutoFeatureExtractor.from_pretrained("model", **trust)
inputs = extractor(np.load("a.npy"), sampling_rate=16_000, return_tensors="pt")
print(json.dumps(model.encode(**inputs).audio_codes.flatten().tolist()))
"""
    paths = [str(Path(speechtok.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(paths)}
    for how in ("import", "trust"):
        done = subprocess.run(
            [sys.executable, "-c", program, how],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == expected
