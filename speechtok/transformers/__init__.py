"""speechtok behind the auto classes of transformers: importing this package registers config, model and extractor.

>>> import speechtok.transformers
>>> model = AutoModel.from_pretrained("org/name")
>>> extractor = AutoFeatureExtractor.from_pretrained("org/name")
>>> inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
>>> audio_codes = model.encode(**inputs).audio_codes
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from speechtok.lm.processor import SpeechProcessor
from speechtok.transformers.configuration import SpeechtokConfig
from speechtok.transformers.feature_extraction import SpeechtokFeatureExtractor
from speechtok.transformers.modeling import (
    SpeechtokDecoderOutput,
    SpeechtokEncoderOutput,
    SpeechtokModel,
    SpeechtokOutput,
)

__all__ = [
    "SpeechProcessor",
    "SpeechtokConfig",
    "SpeechtokDecoderOutput",
    "SpeechtokEncoderOutput",
    "SpeechtokFeatureExtractor",
    "SpeechtokModel",
    "SpeechtokOutput",
]

AutoConfig.register(SpeechtokConfig.model_type, SpeechtokConfig, exist_ok=True)
AutoModel.register(SpeechtokConfig, SpeechtokModel, exist_ok=True)
AutoFeatureExtractor.register(SpeechtokConfig, SpeechtokFeatureExtractor, exist_ok=True)  # type: ignore[no-untyped-call]
