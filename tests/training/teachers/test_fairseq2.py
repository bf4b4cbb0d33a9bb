import sys

import pytest
import torch

from speechtok.errors import MissingFileError
from tests.training.teachers.helpers import CONVOLUTIONS, assert_keeps_promises
from training.teachers import load_teacher
from training.teachers.fairseq2 import Fairseq2Teacher


@pytest.mark.slow
def test_wav2vec2_is_a_teacher(monkeypatch):
    models = pytest.importorskip("fairseq2.models")
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
    config = Wav2Vec2Config(encoder_config=encoder, final_dim=8, quantized_dim=8)
    model = create_wav2vec2_model(config).eval()
    monkeypatch.setattr(models, "load_model", lambda *_, **__: model)
    waveform = torch.randn(2, 8_000) * 0.1
    teacher = load_teacher("fairseq2:wav2vec2_base")
    assert_keeps_promises(teacher, waveform)
    single = [load_teacher("fairseq2:wav2vec2_base", layer)(waveform) for layer in (1, 2, 3)]
    assert torch.equal(teacher(waveform), torch.stack(single).mean(0))
    assert not torch.allclose(single[0], single[2])


def test_w2v_bert_is_a_teacher():
    pytest.importorskip("fairseq2.models")
    from fairseq2.models.w2vbert import W2VBertConfig, create_w2vbert_model

    config = W2VBertConfig()
    encoder = config.w2v2_config.encoder_config
    encoder.model_dim, encoder.num_encoder_layers, encoder.num_encoder_attn_heads = 16, 2, 2
    encoder.ffn_inner_dim = 32
    config.num_bert_encoder_layers = 1
    config.w2v2_config.final_dim = config.w2v2_config.quantized_dim = 8
    config.w2v2_config.num_codebook_entries = 8
    torch.manual_seed(0)
    teacher = Fairseq2Teacher(create_w2vbert_model(config)).eval()
    assert_keeps_promises(teacher, torch.randn(2, 16_000) * 0.1)
    assert (teacher.dim, teacher.frame_rate, teacher.offset) == (16, 50.0, 0.0175)


def test_an_unknown_card_is_named():
    pytest.importorskip("fairseq2.models")
    with pytest.raises(MissingFileError, match="not a card that fairseq2 knows"):
        load_teacher("fairseq2:no_such_card")


def test_without_fairseq2_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fairseq2", None)
    with pytest.raises(MissingFileError, match=r"needs fairseq2: run pip install .*\[fairseq2\]"):
        load_teacher("fairseq2:wav2vec2_base")
