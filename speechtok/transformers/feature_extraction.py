"""Feature extractor: waveforms to padded model inputs, as EnCodec's and Mimi's."""

from typing import Any

from transformers import EncodecFeatureExtractor


class SpeechtokFeatureExtractor(EncodecFeatureExtractor):
    """Pads waveforms to ``input_values``, ``(B, 1, S)``, and ``padding_mask``, ``(B, S)``.

    Args:
        sampling_rate: sample rate of the model, in hertz. Waveforms of another rate are refused.
        **values: options of the feature extractor of EnCodec.
    """

    def __init__(self, sampling_rate: int = 16_000, **values: Any) -> None:
        super().__init__(**{"feature_size": 1, "sampling_rate": sampling_rate, "padding_value": 0.0, **values})
