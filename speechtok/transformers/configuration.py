"""Config of a tokenizer for transformers: the contents of its ``config.json``."""

from collections.abc import Mapping
from typing import Any

from transformers.configuration_utils import PretrainedConfig

from speechtok.auto_classes import MODEL_TYPE
from speechtok.config import ModelConfig, model_config


class SpeechtokConfig(PretrainedConfig):
    """Config that ``AutoConfig.from_pretrained`` reads from the folder of a tokenizer.

    Args:
        config: architecture, as plain values; by default, that of the embedded default.
        **values: the other fields of ``config.json``.

    Raises:
        ConfigError: the architecture does not describe a tokenizer.
    """

    model_type = MODEL_TYPE

    def __init__(self, config: Mapping[str, Any] | None = None, **values: Any) -> None:
        self.config = architecture(config).to_dict()
        super().__init__(**values)

    @property
    def sampling_rate(self) -> int:
        """Sample rate, in hertz."""
        return int(self.config["sample_rate"])

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return int(self.config["hop_length"])

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.hop_length

    @property
    def num_quantizers(self) -> int:
        """Number of codebooks ``Q``."""
        return int(self.config["num_codebooks"])

    @property
    def codebook_size(self) -> int:
        """Entries ``N`` of each codebook."""
        return int(self.config["codebook_size"])


def architecture(values: Mapping[str, Any] | None) -> ModelConfig:
    """The config of speechtok that plain values describe."""
    return model_config({"family": "convnext"} if values is None else values)
