"""Tiny teachers, and the promises that every teacher keeps."""

import torch
import torchaudio

from training.teachers.hubert import HubertConfig
from training.teachers.teacher import Teacher

TINY = HubertConfig(dim=16, depth=3, heads=2, kernel_size=3, bands=20)
CONVOLUTIONS = [(10, 5), (8, 8), (4, 8)]  # receptive field 10 + 7 * 5 + 3 * 40 = 165 samples, 320 samples per frame


def transformers_model(kind: str, **changes: object) -> torch.nn.Module:
    import transformers

    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": [8, 8, 8],
        "conv_kernel": [kernel for kernel, _ in CONVOLUTIONS],
        "conv_stride": [stride for _, stride in CONVOLUTIONS],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "num_feat_extract_layers": 3,
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes | changes)
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


def assert_keeps_promises(teacher: Teacher, waveform: torch.Tensor) -> None:
    """Shape, dtype and frame grid, whatever the library."""
    features = teacher(waveform)
    assert features.dtype == torch.float32
    assert features.shape == (len(waveform), features.shape[1], teacher.dim)
    assert torch.isfinite(features).all()
    seconds = waveform.shape[1] / teacher.sample_rate
    last = teacher.offset + (features.shape[1] - 1) / teacher.frame_rate
    assert 0 < seconds - last <= 1.1 / teacher.frame_rate + teacher.offset
    assert teacher(waveform[:, :3]).shape[1] == 1  # shorter than one frame
