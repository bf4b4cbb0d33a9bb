import pytest
import torch

from speechtok.errors import CheckpointError, MissingFileError
from tests.training.teachers.helpers import assert_keeps_promises, transformers_model
from training.teachers import load_teacher


@pytest.mark.parametrize("kind", ["Hubert", "WavLM", "Wav2Vec2"])
def test_a_directory_of_save_pretrained_is_a_teacher(kind, tmp_path):
    model = transformers_model(kind)
    model.save_pretrained(tmp_path)
    waveform = torch.randn(2, 8_000) * 0.1
    teacher = load_teacher(f"transformers:{tmp_path}", 2)
    assert_keeps_promises(teacher, waveform)
    assert (teacher.frame_rate, teacher.offset) == (50.0, 165 / 2 / 16_000)
    with torch.no_grad():
        expected = model(waveform, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(teacher(waveform), expected)


def test_the_feature_extractor_decides_sample_rate_and_normalization(tmp_path):
    from transformers import Wav2Vec2FeatureExtractor

    model = transformers_model("Hubert")
    model.save_pretrained(tmp_path)
    waveform = torch.randn(1, 8_000) * 0.1 + 0.05
    Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=8_000).save_pretrained(tmp_path)
    teacher = load_teacher(f"transformers:{tmp_path}", 3)
    assert (teacher.sample_rate, teacher.frame_rate) == (8_000, 25.0)
    normalized = (waveform - waveform.mean()) / waveform.std(unbiased=False)
    with torch.no_grad():
        torch.testing.assert_close(teacher(waveform), model(normalized).last_hidden_state, atol=1e-4, rtol=1e-4)
    assert not load_teacher(f"transformers:{tmp_path}").training


def test_models_with_layer_norm_in_the_front_end_get_standardized_audio(tmp_path):
    transformers_model("Wav2Vec2", feat_extract_norm="layer").save_pretrained(tmp_path)
    assert load_teacher(f"transformers:{tmp_path}").standardized


def test_weights_in_half_precision_are_loaded_in_float32(tmp_path):
    transformers_model("Hubert").half().save_pretrained(tmp_path)
    teacher = load_teacher(f"transformers:{tmp_path}")
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float32}


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="save_pretrained"):
        load_teacher(f"transformers:{tmp_path}")
    with pytest.raises(MissingFileError, match="neither a directory"):
        load_teacher(f"transformers:{tmp_path / 'none'}")


def test_a_model_that_is_not_for_speech_is_refused(tmp_path):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(**sizes, vocab_size=10)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"BertModel.*or Whisper"):
        load_teacher(f"transformers:{tmp_path}")
