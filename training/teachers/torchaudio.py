"""Models of ``torchaudio.pipelines`` as teachers: wav2vec 2.0, HuBERT and WavLM."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from speechtok.errors import InputError, MissingFileError, quoted
from training.teachers.teacher import AVERAGE, Layer, Teacher
from training.teachers.wav2vec2 import receptive_field


class TorchaudioTeacher(Teacher):
    """A model of ``torchaudio.models.wav2vec2``.

    Args:
        model: the model, or the wrapper of torchaudio that normalizes waveforms for it.
        sample_rate: in hertz.
        dim: width ``D``.
        num_layers: number of transformer layers.
        layer: see :class:`Teacher`.
    """

    def __init__(self, model: nn.Module, sample_rate: int, dim: int, num_layers: int, layer: Layer = AVERAGE) -> None:
        kernels = [(c.kernel_size, c.stride) for c in _unwrap(model).feature_extractor.conv_layers]
        width, hop = receptive_field(kernels)
        super().__init__(
            sample_rate, dim, sample_rate / hop, width / 2 / sample_rate, num_layers, layer, min_samples=width
        )
        self.model = model

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        return self.model.extract_features(waveform)[0]


def load(name: str, layer: Layer) -> Teacher:
    """Load a bundle of ``torchaudio.pipelines``, for example ``HUBERT_BASE``.

    Raises:
        InputError: torchaudio does not have the bundle, or the model does not have the layer.
        MissingFileError: the weights cannot be downloaded.
    """
    from torchaudio import pipelines

    bundle = getattr(pipelines, name, None)
    if not isinstance(bundle, pipelines.Wav2Vec2Bundle):
        bundles = [n for n in dir(pipelines) if isinstance(getattr(pipelines, n), pipelines.Wav2Vec2Bundle)]
        raise InputError(f"teacher is {quoted(f'torchaudio:{name}')}; expected one of {', '.join(bundles)}")
    try:
        model = bundle.get_model()
    except OSError as error:
        raise MissingFileError(
            f"the weights of torchaudio:{name} are not on this machine and cannot be downloaded ({error}); connect to "
            "the network once, or use a teacher on disk: own:DIR, transformers:DIR"
        ) from error
    encoder = _unwrap(model).encoder
    dim = encoder.feature_projection.projection.out_features
    return TorchaudioTeacher(model, int(bundle.sample_rate), dim, len(encoder.transformer.layers), layer)


def _unwrap(model: Any) -> Any:
    return getattr(model, "model", model)
