"""Models of fairseq2 as teachers: wav2vec 2.0 and w2v-BERT."""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from speechtok.errors import CheckpointError, MissingFileError
from speechtok.extras import install_hint
from training.teachers.teacher import AVERAGE, Layer, Teacher
from training.teachers.wav2vec2 import receptive_field, standardize


class Fairseq2Teacher(Teacher):
    """wav2vec 2.0 or w2v-BERT.

    Args:
        model: the model.
        layer: see :class:`Teacher`.
    """

    SAMPLE_RATE = 16_000
    FBANK_WINDOW, FBANK_HOP = 400, 160  # samples; the filter banks of Kaldi, which w2v-BERT takes as input

    def __init__(self, model: Any, layer: Layer = AVERAGE) -> None:
        model = getattr(model, "w2v2_model", model)
        extractor = model.encoder_frontend.feature_extractor
        takes_fbank = not hasattr(extractor, "layer_descs")
        if takes_fbank:
            width = self.FBANK_WINDOW + (extractor.stride - 1) * self.FBANK_HOP
            hop = extractor.stride * self.FBANK_HOP
        else:
            width, hop = receptive_field([(kernel, stride) for _, kernel, stride in extractor.layer_descs])
        rate = self.SAMPLE_RATE
        super().__init__(
            rate, model.model_dim, rate / hop, width / 2 / rate, len(model.encoder.layers), layer, min_samples=width
        )
        self.model, self.fbank_channels = model, extractor.num_fbank_channels if takes_fbank else 0

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        from fairseq2.nn import BatchLayout

        signal = self._fbank(waveform) if self.fbank_channels else standardize(waveform)
        layout = BatchLayout.of(signal)
        features, layout, _ = self.model.encoder_frontend.extract_features(signal, layout)
        features, _ = self.model.encoder_frontend.process_features(features, layout)
        outputs: list[Tensor] = []

        def keep(_index: int, output: Tensor, _layout: BatchLayout, _layers: int) -> bool:
            outputs.append(output)
            return True

        handle = self.model.encoder.register_layer_hook(keep)
        try:
            self.model.encoder(features, layout)
        finally:
            handle.remove()
        return outputs

    def _fbank(self, waveform: Tensor) -> Tensor:
        """Normalized filter banks of ``(B, S)``, ``(B, T, C)``, with ``T`` a multiple of the stride."""
        from torchaudio.compliance import kaldi

        rows = []
        for row in waveform:
            fbank = kaldi.fbank(row[None] * 2**15, num_mel_bins=self.fbank_channels, sample_frequency=self.SAMPLE_RATE)
            rows.append((fbank - fbank.mean(0)) / (fbank.std(0) + 1e-5))
        fbank = torch.stack(rows)
        stride = self.model.encoder_frontend.feature_extractor.stride
        return fbank[:, : fbank.shape[1] // stride * stride]


def load(name: str, layer: Layer) -> Teacher:
    """Load the model of a fairseq2 asset card.

    Raises:
        MissingFileError: fairseq2 is not installed, does not have the card, or cannot download the checkpoint.
        CheckpointError: the model is neither wav2vec 2.0 nor w2v-BERT.
        InputError: the model does not have the layer.
    """
    try:
        from fairseq2 import init_fairseq2
    except ImportError as error:
        raise MissingFileError(f"fairseq2:{name} needs fairseq2: {install_hint('fairseq2')}") from error
    from fairseq2.assets import AssetDownloadError
    from fairseq2.error import InvalidOperationError
    from fairseq2.models import ModelNotKnownError, load_model

    with contextlib.suppress(InvalidOperationError):  # already initialized
        init_fairseq2()
    try:
        model = load_model(name, device=torch.device("cpu"), dtype=torch.float32)
    except (ModelNotKnownError, AssetDownloadError, OSError) as error:
        raise MissingFileError(
            f"fairseq2:{name} is not a card that fairseq2 knows, or its checkpoint cannot be downloaded ({error}); "
            "expected a card of wav2vec 2.0 or w2v-BERT"
        ) from error
    if not hasattr(getattr(model, "w2v2_model", model), "encoder_frontend"):
        raise CheckpointError(f"fairseq2:{name} is a {type(model).__name__}; expected wav2vec 2.0 or w2v-BERT")
    return Fairseq2Teacher(model, layer)
