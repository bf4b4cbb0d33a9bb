"""Architectures of tokenizers as frozen dataclasses: the field ``config`` of ``config.json``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from speechtok.errors import ConfigError, quoted
from speechtok.limits import MAX_CODEBOOK_SIZE, MAX_CODEBOOKS, MAX_HOP_LENGTH, MAX_SAMPLE_RATE
from speechtok.mapping import choose_family, from_mapping, to_mapping

MAX_HOLD = 2**24
"""Largest ``hold``: float32 holds all whole numbers up to here."""
_MAX_NOISE = 32_768
"""Largest product of ``noise_bands`` and ``patch_length``: the decoder keeps 800 times as many values."""

_MAX_DILATION = 65_536
"""Most samples that a dilated convolution may see."""


def _check_whole(name: str, value: int, minimum: int, maximum: int) -> None:
    """Check a field. The maxima keep a damaged or hostile config from asking for more memory than any machine has."""
    if type(value) is not int or not minimum <= value <= maximum:
        raise ConfigError(f"{name} is {quoted(value)}; expected a whole number from {minimum} to {maximum}")


@dataclass(frozen=True)
class ConvNeXtStackConfig:
    """Widths and depths of an encoder or decoder of the ``convnext`` family.

    Attributes:
        patch_dim: width at the patch rate.
        patch_depth: blocks at the patch rate.
        frame_dim: width at the frame rate.
        frame_depth: blocks at the frame rate.
        kernel_size: frames (or patches) that one block sees, including its own.
        expansion: hidden width of a block, in multiples of its width.
    """

    patch_dim: int = 192
    patch_depth: int = 2
    frame_dim: int = 384
    frame_depth: int = 4
    kernel_size: int = 7
    expansion: int = 3

    def __post_init__(self) -> None:
        for name in ("patch_dim", "frame_dim", "kernel_size", "expansion"):
            _check_whole(name, getattr(self, name), 1, 65_536)
        for name in ("patch_depth", "frame_depth"):
            _check_whole(name, getattr(self, name), 1, 1_024)


@dataclass(frozen=True)
class ConvNeXtConfig:
    """Architecture of a tokenizer of the ``convnext`` family.

    Attributes:
        family: ``"convnext"``.
        sample_rate: in hertz.
        hop_length: samples per frame; ``sample_rate / hop_length`` is the frame rate, in hertz.
        patch_length: samples per patch, the finer step inside a frame; divides ``hop_length``.
        window_length: samples that one patch sees, its own last; a multiple of ``patch_length``.
        latent_dim: width ``D`` of the latent and of every codebook vector.
        semantic_dim: dimensions of the latent, from the first, that decide the code of codebook 0. The other codebooks
            quantize the rest. If 0, all codebooks quantize all dimensions.
        num_codebooks: residual-VQ stages ``Q``.
        codebook_size: entries ``N`` of each codebook.
        noise_bands: frequency bands in which the decoder adds noise, from 2 kHz up; 0 for none.
        hold: codebook 0 keeps the code of the frame before unless another vector is nearer to the latent by more than
            this squared distance; 0 to take the nearest vector. Its unit is the squared level: codebook 0 is rounded to
            whole levels, 127 of which are its largest value (see :class:`speechtok.nn.quantizer.ResidualQuantizer`).
        encoder: widths and depths of the encoder.
        decoder: widths and depths of the decoder.
    """

    family: str = "convnext"
    sample_rate: int = 16_000
    hop_length: int = 320
    patch_length: int = 80
    window_length: int = 320
    latent_dim: int = 64
    semantic_dim: int = field(default=0, metadata={"absent": 0})
    num_codebooks: int = 8
    codebook_size: int = 1024
    noise_bands: int = field(default=0, metadata={"absent": 0})
    hold: int = field(default=0, metadata={"absent": 0})
    encoder: ConvNeXtStackConfig = field(default_factory=ConvNeXtStackConfig)
    decoder: ConvNeXtStackConfig = field(default_factory=ConvNeXtStackConfig)

    def __post_init__(self) -> None:
        if self.family != "convnext":
            raise ConfigError(f"family is {quoted(self.family)}; expected 'convnext'")
        _check_whole("sample_rate", self.sample_rate, 4_000, MAX_SAMPLE_RATE)
        for name in ("hop_length", "patch_length", "window_length", "latent_dim"):
            _check_whole(name, getattr(self, name), 1, 65_536)
        _check_whole("semantic_dim", self.semantic_dim, 0, self.latent_dim - 1)
        _check_whole("num_codebooks", self.num_codebooks, 1, MAX_CODEBOOKS)
        _check_whole("codebook_size", self.codebook_size, 2, MAX_CODEBOOK_SIZE)
        _check_whole("noise_bands", self.noise_bands, 0, 256)
        _check_whole("hold", self.hold, 0, MAX_HOLD)
        for name in ("encoder", "decoder"):
            if not isinstance(getattr(self, name), ConvNeXtStackConfig):
                raise ConfigError(f"{name} is {quoted(getattr(self, name))}; expected a ConvNeXtStackConfig")
        if self.noise_bands * self.patch_length > _MAX_NOISE:
            raise ConfigError(
                f"noise_bands is {self.noise_bands} and patch_length is {self.patch_length}; expected a product of at "
                f"most {_MAX_NOISE}"
            )
        if self.patch_length % 2:
            raise ConfigError(f"patch_length is {self.patch_length}; expected an even number of samples")
        for name in ("hop_length", "window_length"):
            if getattr(self, name) % self.patch_length:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; expected a multiple of patch_length ({self.patch_length})"
                )

    @property
    def frame_rate(self) -> float:
        """Frames per second, in hertz."""
        return self.sample_rate / self.hop_length

    @property
    def min_tensors(self) -> int:
        """A lower bound of the number of tensors in a file of weights, known without making the tokenizer."""
        return 6 * sum(stack.patch_depth + stack.frame_depth for stack in (self.encoder, self.decoder))

    def codes_dict(self) -> dict[str, Any]:
        """The part that decides codes, for the fingerprint. Its keys stay as they are, whatever the fields' names."""
        return {
            "family": "convnext",
            "sample_rate": self.sample_rate,
            "hop_length": self.hop_length,
            "patch_length": self.patch_length,
            "window_length": self.window_length,
            "latent_dim": self.latent_dim,
            "semantic_dim": self.semantic_dim,
            "num_codebooks": self.num_codebooks,
            "codebook_size": self.codebook_size,
            **({"hold": self.hold} if self.hold else {}),
            "encoder": _stack_dict(self.encoder),
        }

    def decoder_dict(self) -> dict[str, Any]:
        """The part that decides decoded audio, for the decoder's fingerprint; its keys stay as they are."""
        return {
            "family": "convnext",
            "sample_rate": self.sample_rate,
            "hop_length": self.hop_length,
            "patch_length": self.patch_length,
            "latent_dim": self.latent_dim,
            "noise_bands": self.noise_bands,
            "decoder": _stack_dict(self.decoder),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ConvNeXtConfig":
        """Inverse of :meth:`to_dict`. Raises :class:`~speechtok.errors.ConfigError`; see :func:`from_mapping`."""
        return from_mapping(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON.

        A field that was added in a later version is left out if its value stands for the behaviour before.
        """
        return to_mapping(self)


def _stack_dict(stack: ConvNeXtStackConfig) -> dict[str, Any]:
    return {
        "patch_dim": stack.patch_dim,
        "patch_depth": stack.patch_depth,
        "frame_dim": stack.frame_dim,
        "frame_depth": stack.frame_depth,
        "kernel_size": stack.kernel_size,
        "expansion": stack.expansion,
    }


@dataclass(frozen=True)
class SEANetConfig:
    """Architecture of a tokenizer of the ``seanet`` family, that of the published SpeechTokenizer.

    Attributes:
        family: ``"seanet"``.
        sample_rate: in hertz.
        strides: strides of the decoder, in its order; their product is :attr:`hop_length`.
        filters: width at the sample rate; every stride doubles it.
        residual_layers: residual blocks at each rate.
        residual_kernel_size: kernel size of their convolutions.
        dilation_base: ratio of the dilations of consecutive blocks.
        lstm_layers: layers of the LSTM at the frame rate; 0 for none.
        bidirectional: whether the encoder's LSTM also runs backwards.
        causal: whether convolutions see only the past. The published ones see as much of the future.
        activation: ``"elu"`` or ``"snake"``.
        latent_dim: width ``D`` of the latent and of every codebook vector.
        num_codebooks: residual-VQ stages ``Q``.
        codebook_size: entries ``N`` of each codebook.
    """

    family: str = "seanet"
    sample_rate: int = 16_000
    strides: tuple[int, ...] = (8, 5, 4, 2)
    filters: int = 64
    residual_layers: int = 1
    residual_kernel_size: int = 3
    dilation_base: int = 2
    lstm_layers: int = 2
    bidirectional: bool = True
    causal: bool = field(default=False, metadata={"absent": False})
    activation: str = "elu"
    latent_dim: int = 1024
    num_codebooks: int = 8
    codebook_size: int = 1024

    def __post_init__(self) -> None:
        if self.family != "seanet":
            raise ConfigError(f"family is {quoted(self.family)}; expected 'seanet'")
        if not isinstance(self.strides, (list, tuple)) or not 1 <= len(self.strides) <= 8:
            raise ConfigError(f"strides is {quoted(self.strides)}; expected 1 to 8 whole numbers")
        object.__setattr__(self, "strides", tuple(self.strides))  # a list where it was read from JSON
        for stride in self.strides:
            _check_whole("strides", stride, 2, 64)
        _check_whole("sample_rate", self.sample_rate, 4_000, MAX_SAMPLE_RATE)
        _check_whole("filters", self.filters, 2, 1_024)
        _check_whole("residual_layers", self.residual_layers, 0, 16)
        _check_whole("residual_kernel_size", self.residual_kernel_size, 1, 64)
        _check_whole("dilation_base", self.dilation_base, 1, 8)
        _check_whole("lstm_layers", self.lstm_layers, 0, 16)
        _check_whole("latent_dim", self.latent_dim, 1, 65_536)
        _check_whole("num_codebooks", self.num_codebooks, 1, MAX_CODEBOOKS)
        _check_whole("codebook_size", self.codebook_size, 2, MAX_CODEBOOK_SIZE)
        for name in ("bidirectional", "causal"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"{name} is {quoted(getattr(self, name))}; expected true or false")
        if self.causal and self.bidirectional and self.lstm_layers:
            raise ConfigError(
                "causal is true and bidirectional is true; expected bidirectional false: such an LSTM starts at the end"
            )
        if self.hop_length > MAX_HOP_LENGTH:
            raise ConfigError(f"strides is {self.strides}; expected a product of at most {MAX_HOP_LENGTH}")
        if self.residual_kernel_size * self.dilation_base ** max(0, self.residual_layers - 1) > _MAX_DILATION:
            raise ConfigError(
                f"dilation_base is {self.dilation_base} with residual_layers {self.residual_layers} and "
                f"residual_kernel_size {self.residual_kernel_size}; expected convolutions over at most {_MAX_DILATION} "
                "samples"
            )
        if self.activation not in ("elu", "snake"):
            raise ConfigError(f"activation is {quoted(self.activation)}; expected 'elu' or 'snake'")

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)

    @property
    def frame_rate(self) -> float:
        """Frames per second, in hertz."""
        return self.sample_rate / self.hop_length

    @property
    def min_tensors(self) -> int:
        """A lower bound of the number of tensors in a file of weights; see :class:`ConvNeXtConfig`."""
        return 2 * len(self.strides) * (1 + self.residual_layers)

    @property
    def semantic_dim(self) -> int:
        """0: all codebooks quantize all dimensions of the latent; see :class:`ConvNeXtConfig`."""
        return 0

    def codes_dict(self) -> dict[str, Any]:
        """The part that decides codes, for the fingerprint. Its keys stay as they are, whatever the fields' names."""
        return {
            "family": "seanet",
            "sample_rate": self.sample_rate,
            "strides": list(self.strides),
            "filters": self.filters,
            "residual_layers": self.residual_layers,
            "residual_kernel_size": self.residual_kernel_size,
            "dilation_base": self.dilation_base,
            "lstm_layers": self.lstm_layers,
            "bidirectional": self.bidirectional,
            "causal": self.causal,
            "activation": self.activation,
            "latent_dim": self.latent_dim,
            "num_codebooks": self.num_codebooks,
            "codebook_size": self.codebook_size,
        }

    def decoder_dict(self) -> dict[str, Any]:
        """The part that decides decoded audio: all of it, as the decoder mirrors the encoder."""
        return self.codes_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SEANetConfig":
        """Inverse of :meth:`to_dict`. Raises :class:`~speechtok.errors.ConfigError`; see :func:`from_mapping`."""
        return from_mapping(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; see :meth:`ConvNeXtConfig.to_dict`."""
        return {**to_mapping(self), "strides": list(self.strides)}


ModelConfig = ConvNeXtConfig | SEANetConfig
"""Architecture of either family; :func:`from_mapping` chooses by the field ``family``."""


def model_config(values: Any) -> ModelConfig:
    """Inverse of ``to_dict`` for either family. Raises ConfigError; see :func:`from_mapping`."""
    kind: type[ModelConfig] = choose_family(get_args(ModelConfig), values, "config")
    return kind.from_dict(values)
