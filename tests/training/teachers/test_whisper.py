import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperModel

from speechtok.audio import read_audio
from speechtok.errors import CheckpointError, InputError
from tests.training.teachers.helpers import assert_keeps_promises
from training.teachers import extract, load_teacher
from training.teachers.transformers import load_whisper_log_mel
from training.teachers.whisper import windows

RATE = 16_000


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Whisper with random weights, for windows of 30 s."""
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=8,
        d_model=16,
        encoder_layers=3,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=8,
        num_mel_bins=80,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    folder = tmp_path_factory.mktemp("whisper")
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


def speech(seconds: float, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Noise whose loudness changes, ``(batch, S)``."""
    generator = torch.Generator().manual_seed(seed)
    samples = round(seconds * RATE)
    envelope = torch.sin(torch.arange(samples) / RATE * 9).abs() + 0.1
    return 0.1 * envelope * torch.randn(batch, samples, generator=generator)


def library_layers(folder: Path, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Outputs of the layers as the library computes them, for one waveform ``(S,)`` of up to 30 s."""
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    log_mel = extractor(waveform.numpy(), sampling_rate=RATE, return_tensors="pt").input_features
    encoder = WhisperModel.from_pretrained(folder, dtype=torch.float32).encoder.eval()
    with torch.no_grad():
        return encoder(log_mel, output_hidden_states=True).hidden_states[1:]


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_it_computes_the_layers_of_the_library(whisper, layer):
    waveform = speech(2.345)
    expected = library_layers(whisper, waveform[0])[layer - 1][:, :118]
    assert torch.equal(load_teacher(f"transformers:{whisper}", layer)(waveform), expected)


@pytest.mark.parametrize("feature_size", [80, 128])
def test_the_log_mel_is_that_of_the_feature_extractor(tmp_path, feature_size):
    extractor = WhisperFeatureExtractor(feature_size=feature_size)
    waveform = torch.nn.functional.pad(speech(3, batch=2), (0, 27 * RATE))
    expected = extractor(list(waveform.numpy()), sampling_rate=RATE, return_tensors="pt").input_features
    extractor.save_pretrained(tmp_path)
    assert torch.equal(load_whisper_log_mel(str(tmp_path), feature_size)(waveform), expected)


def test_a_folder_is_a_teacher_with_all_layers_and_their_average(whisper):
    waveform = speech(1.5, batch=2)
    single = [load_teacher(f"transformers:{whisper}", layer)(waveform) for layer in (1, 2, 3)]
    average = load_teacher(f"transformers:{whisper}")
    assert_keeps_promises(average, waveform)
    assert torch.equal(average(waveform), torch.stack(single).mean(0))
    assert (average.sample_rate, average.frame_rate, average.offset, average.dim) == (RATE, 50.0, 0.0, 16)
    with pytest.raises(InputError, match="layer is 4; expected 1 to 3"):
        load_teacher(f"transformers:{whisper}", 4)


def test_only_the_encoder_is_loaded(whisper):
    names = load_teacher(f"transformers:{whisper}").state_dict()
    assert names
    assert not [name for name in names if "decoder" in name]


def test_without_a_feature_extractor_the_log_mel_has_the_bands_of_the_model(whisper, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((whisper / name).read_bytes())
    waveform = speech(1)
    found = load_teacher(f"transformers:{tmp_path}", 1)(waveform)
    assert torch.equal(found, load_teacher(f"transformers:{whisper}", 1)(waveform))


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 16_000])
def test_every_started_frame_of_the_waveform_is_returned_and_padding_is_not(whisper, samples):
    teacher = load_teacher(f"transformers:{whisper}", 1)
    assert teacher(speech(1)[:, :samples]).shape == (1, -(-samples // 320), 16)


@pytest.mark.parametrize("seconds", [0.31, 0.5, 0.637, 1.2])
def test_a_click_changes_most_the_frame_at_its_time(whisper, seconds):
    teacher = load_teacher(f"transformers:{whisper}", 2)
    waveform = speech(2)
    clicked = waveform.clone()
    clicked[0, round(seconds * RATE)] += 0.5
    change = (teacher(clicked) - teacher(waveform))[0].norm(dim=1)
    assert abs(int(change.argmax()) - seconds * teacher.frame_rate) <= 1


def test_features_do_not_depend_on_other_rows_of_the_batch(whisper):
    teacher = load_teacher(f"transformers:{whisper}", 2)
    waveform = speech(1.7, batch=3)
    alone = torch.cat([teacher(row[None]) for row in waveform])
    torch.testing.assert_close(teacher(waveform), alone, atol=1e-5, rtol=1e-5)


def test_a_long_waveform_is_cut_into_windows_whose_middles_are_kept(whisper):
    teacher = load_teacher(f"transformers:{whisper}", 2)
    waveform = speech(70)
    features = teacher(waveform)
    assert features.shape[1] == 3500
    # kept frames: 0 to 1400 of the first window, then 100 to 1400 of the second, which starts at frame 1300, …
    assert torch.equal(features[:, :1400], teacher(waveform[:, : 30 * RATE])[:, :1400])
    second = teacher(waveform[:, 1300 * 320 : 2800 * 320])
    assert torch.equal(features[:, 1400:2700], second[:, 100:1400])
    last = teacher(waveform[:, 2000 * 320 :])
    assert torch.equal(features[:, 2700:], last[:, 700:])


@pytest.mark.parametrize("frames", [1, 9, 10, 11, 16, 17, 100, 1234])
def test_windows_keep_every_frame_once_with_context_on_both_sides(frames):
    length, context = 10, 2
    kept = []
    for start, first, end in windows(frames, length, context):
        assert 0 <= start <= first < end <= min(start + length, frames)
        assert first == 0 or first - start >= context
        assert end == frames or start + length - end >= context
        kept += range(first, end)
    assert kept == list(range(frames))


def test_waveforms_are_packed_into_windows_with_a_second_of_silence_between(whisper, monkeypatch):
    teacher = load_teacher(f"transformers:{whisper}", 2)
    lengths = [2.345, 11, 0.5, 13.2, 20, 0.01]  # the first three fill 15.9 s with two gaps; the next needs 13.2 s more
    waveforms = [speech(seconds, seed=seed)[0] for seed, seconds in enumerate(lengths)]
    inputs = []
    encode = teacher._encode
    monkeypatch.setattr(teacher, "_encode", lambda log_mel: inputs.append(log_mel) or encode(log_mel))
    features = list(teacher.extract_features(waveforms))
    assert [len(x) for x in features] == [118, 550, 25, 660, 1000, 1]
    assert [log_mel.shape for log_mel in inputs] == [(1, 80, 3000)] * 3
    silence = inputs[0][0, :, 2 * (118 + 5) : 2 * (118 + 50) - 5]
    assert torch.equal(silence, inputs[0].new_full((), float(silence.min())).expand_as(silence))


def test_a_packed_waveform_has_its_own_log_mel(whisper, monkeypatch):
    teacher = load_teacher(f"transformers:{whisper}", 2)
    quiet, loud = 0.01 * speech(3)[0], speech(4, seed=1)[0]
    inputs = []
    encode = teacher._encode
    monkeypatch.setattr(teacher, "_encode", lambda log_mel: inputs.append(log_mel) or encode(log_mel))
    for waveforms in ([quiet, loud], [quiet], [loud]):
        list(teacher.extract_features(waveforms))
    packed, quiet_alone, loud_alone = inputs
    assert torch.equal(packed[..., :300], quiet_alone[..., :300])
    assert torch.equal(packed[..., 400:800], loud_alone[..., :400])


@pytest.mark.parametrize("seconds", [0.31, 0.637])
def test_a_click_in_a_packed_waveform_changes_most_its_own_frame(whisper, seconds):
    teacher = load_teacher(f"transformers:{whisper}", 2)
    waveforms = [speech(2, seed=seed)[0] for seed in range(3)]
    before = list(teacher.extract_features(waveforms))
    waveforms[1] = waveforms[1].clone()
    waveforms[1][round(seconds * RATE)] += 0.5
    changes = [(x - y).norm(dim=1) for x, y in zip(teacher.extract_features(waveforms), before, strict=True)]
    assert abs(int(changes[1].argmax()) - seconds * teacher.frame_rate) <= 1
    assert all(changes[1].max() > 2 * changes[other].max() for other in (0, 2))


def test_a_waveform_alone_in_its_window_has_the_features_of_forward(whisper):
    teacher = load_teacher(f"transformers:{whisper}", 2)
    waveforms = [speech(1)[0], speech(40)[0], speech(29.5)[0], speech(2)[0]]
    for waveform, features in zip(waveforms, teacher.extract_features(waveforms), strict=True):
        assert torch.equal(features, teacher(waveform[None])[0])


def test_an_extraction_has_the_features_of_each_file(whisper, speech_folder, tmp_path):
    teacher = load_teacher(f"transformers:{whisper}", 2)
    spec = f"transformers:{whisper}"
    assert extract(teacher, spec, str(speech_folder), tmp_path) == (12, ["broken.flac"])
    index = json.loads((tmp_path / "000000.json").read_text())["utterances"]
    waveforms = [read_audio(speech_folder / name)[0] for name in index]
    expected = torch.cat(list(teacher.extract_features(waveforms)))
    assert np.array_equal(np.load(tmp_path / "000000.npy"), expected.half().numpy())
    assert [entry["frames"] for entry in index.values()] == [-(-len(waveform) // 320) for waveform in waveforms]


def test_gradients_reach_the_waveform(whisper):
    waveform = speech(1).requires_grad_()
    load_teacher(f"transformers:{whisper}", 2)(waveform).square().mean().backward()
    assert torch.isfinite(waveform.grad).all()
    assert waveform.grad.abs().max() > 0


def test_a_damaged_model_is_refused(whisper, tmp_path):
    (tmp_path / "config.json").write_bytes((whisper / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_teacher(f"transformers:{tmp_path}")
