"""Models of transformers as teachers: HuBERT, WavLM, wav2vec 2.0, and the encoder of Whisper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from speechtok.errors import CheckpointError, MissingFileError
from training.teachers.teacher import AVERAGE, Layer, Teacher
from training.teachers.wav2vec2 import receptive_field, standardize
from training.teachers.whisper import WhisperLogMel, WhisperTeacher

EXPECTED = "expected HuBERT, WavLM, wav2vec 2.0 or Whisper"


class TransformersTeacher(Teacher):
    """HuBERT, WavLM or wav2vec 2.0.

    Args:
        model: the model, such as ``transformers.HubertModel``.
        sample_rate: in hertz.
        standardized: whether the model takes waveforms with mean 0 and variance 1.
        layer: see :class:`Teacher`.
    """

    def __init__(self, model: Any, sample_rate: int, standardized: bool, layer: Layer = AVERAGE) -> None:
        config = model.config
        width, hop = receptive_field(list(zip(config.conv_kernel, config.conv_stride, strict=True)))
        super().__init__(
            sample_rate,
            config.hidden_size,
            sample_rate / hop,
            width / 2 / sample_rate,
            config.num_hidden_layers,
            layer,
            min_samples=width,
        )
        self.model, self.standardized = model, standardized

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        if self.standardized:
            waveform = standardize(waveform)
        return self.model(waveform, output_hidden_states=True).hidden_states[1:]  # [0] is the input of the first layer


def load(name: str, layer: Layer) -> Teacher:
    """Load a model from a directory that ``save_pretrained`` wrote, or from the Hugging Face hub.

    Raises:
        MissingFileError: there is no such directory, and no such model on the hub or no network.
        CheckpointError: the model cannot be read, or is not a speech model of a supported kind.
        InputError: the model does not have the layer.
    """
    from huggingface_hub.errors import HFValidationError
    from transformers import AutoConfig, AutoModel

    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise MissingFileError(f"{Path(name) / 'config.json'} does not exist; expected what save_pretrained wrote")
    try:
        model_type = AutoConfig.from_pretrained(name, trust_remote_code=False).model_type
        model = AutoModel.from_pretrained(name, dtype=torch.float32, trust_remote_code=False)
    except (OSError, HFValidationError) as error:
        raise MissingFileError(
            f"transformers:{name} is neither a directory with a model nor a model on the hub that can be downloaded "
            f"({str(error).splitlines()[0]}); expected a directory that save_pretrained wrote, or a name on the hub"
        ) from error
    except (ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"transformers:{name} cannot be read ({str(error)[:200]}); {EXPECTED}") from error
    if model_type == "whisper":
        return WhisperTeacher(model.encoder, load_whisper_log_mel(name, model.config.num_mel_bins), layer)
    if not hasattr(model.config, "conv_kernel") or not hasattr(model.config, "conv_stride"):
        raise CheckpointError(f"transformers:{name} is a {type(model).__name__}; {EXPECTED}")
    sample_rate, standardized = _preprocessing(name, model.config)
    return TransformersTeacher(model, sample_rate, standardized, layer)


def _preprocessing(name: str, config: Any) -> tuple[int, bool]:
    """Sample rate, and whether waveforms are standardized."""
    from transformers import AutoFeatureExtractor

    try:
        extractor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
    except OSError:  # saved without one: models with layer norm in the front end were trained on standardized audio
        return 16_000, config.feat_extract_norm == "layer"
    return int(extractor.sampling_rate), bool(extractor.do_normalize)


def load_whisper_log_mel(name: str, bands: int) -> WhisperLogMel:
    """Log-mel front end of a model, with ``bands`` standard mel filters if it was saved without a feature extractor."""
    from transformers import WhisperFeatureExtractor

    try:
        extractor = WhisperFeatureExtractor.from_pretrained(name)
    except OSError:  # saved without one
        extractor = WhisperFeatureExtractor(feature_size=bands)
    filters = torch.from_numpy(extractor.mel_filters).float()
    return WhisperLogMel(filters, extractor.n_fft, extractor.hop_length, extractor.sampling_rate)
