"""Config of a training: a YAML file plus ``name=value`` overrides."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechtok.config import ConvNeXtConfig, ModelConfig
from speechtok.errors import ConfigError, MissingFileError, quoted
from speechtok.mapping import from_mapping, to_mapping
from speechtok.parsing import ParseError
from training.yaml_values import parse_yaml

MIN_CROP_SECONDS = 0.04
"""Shortest crop that holds a window of every loss."""

OLD_NAMES = {
    "only": "train_only",
    "adversary.features": "adversary.feature_matching",
    "distillation.teacher": "distillation.perceptual_teacher",
}
"""Former names of config fields. Configs and checkpoints that use them still load."""

OLD_STATE_NAMES = {"network": "autoencoder", "before": "frozen_encoder"}
"""Former names of entries of a checkpoint."""


_MAX_NUMBER = 2.0**53
"""Largest number in a config: programs compute with them in floating point."""


def _check(name: str, value: float, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Raise ConfigError unless ``value`` is finite, at least ``low`` (or above it), and at most ``high``."""
    if not low <= value <= high or (above and value == low) or abs(value) > _MAX_NUMBER:
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise ConfigError(f"{name} is {quoted(value)}; expected {'above' if above else 'at least'} {low:g}{upper}")


@dataclass(frozen=True)
class QuantizerConfig:
    """Training of the residual vector quantizer.

    Attributes:
        start_step: step at which the codebooks start, by k-means on the encoder's output. Earlier steps train without
            a quantizer.
        decay: decay of the exponential moving averages that update the codebook vectors.
        dead_threshold: usage below which a codebook vector is replaced, as a share of even usage.
        dropout: share of the crops that use a random prefix of the codebooks.
        commitment: weight of the distance between the encoder's output and its codebook vectors.
    """

    start_step: int = 200
    decay: float = 0.98
    dead_threshold: float = 0.1
    dropout: float = 0.5
    commitment: float = 0.25

    def __post_init__(self) -> None:
        _check("quantizer.start_step", self.start_step, 0)
        _check("quantizer.decay", self.decay, 0, 0.999999)
        _check("quantizer.dead_threshold", self.dead_threshold, 0, 0.999)
        _check("quantizer.dropout", self.dropout, 0, 1)
        _check("quantizer.commitment", self.commitment, 0)


@dataclass(frozen=True)
class OptimizerConfig:
    """Muon for the matrices of the blocks and AdamW for the other weights, with warm-up and linear decay to zero.

    The ``seanet`` family uses AdamW only, as published.

    Attributes:
        muon_lr: peak learning rate of Muon.
        adamw_lr: peak learning rate of AdamW.
        warmup_steps: steps of linear warm-up.
        decay_fraction: share of the steps, the last ones, in which the learning rates decay to zero.
        clip_norm: largest norm of the gradient.
        ema_decay: decay of the exponential moving average of the weights, which is what gets exported.
    """

    muon_lr: float = 5e-3
    adamw_lr: float = 2e-3
    warmup_steps: int = 100
    decay_fraction: float = 0.5
    clip_norm: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        for name in ("muon_lr", "adamw_lr", "clip_norm"):
            _check(f"optimizer.{name}", getattr(self, name), 0, above=True)
        _check("optimizer.warmup_steps", self.warmup_steps, 0)
        _check("optimizer.decay_fraction", self.decay_fraction, 0, 1, above=True)
        _check("optimizer.ema_decay", self.ema_decay, 0, 0.999999)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the reconstruction losses; see :mod:`training.losses`.

    Attributes:
        waveform: weight of the distance between waveforms.
        spectrum: weight of the distance between compressed complex spectra.
        mel: weight of the distance between log-mel spectrograms.
        loudness: weight of the perceived difference of loudness, after PESQ.
        intelligibility: weight of the loss of intelligibility, after STOI.
        phase_limit: frequency in hertz above which ``waveform`` and ``spectrum`` ignore everything; 0 for no limit.
        energy_distance: weight of the spectral energy distance of two decodings, for a decoder with noise.
        band_energy: weight of the difference of band energies, from 0.5 to 2 kHz and above 3 kHz, for a decoder
            with noise.
    """

    waveform: float = 1.0
    spectrum: float = 1.0
    mel: float = 1.0
    loudness: float = field(default=0.0, metadata={"absent": 0.0})
    intelligibility: float = field(default=0.0, metadata={"absent": 0.0})
    phase_limit: float = field(default=0.0, metadata={"absent": 0.0})
    energy_distance: float = field(default=0.0, metadata={"absent": 0.0})
    band_energy: float = field(default=0.0, metadata={"absent": 0.0})

    def __post_init__(self) -> None:
        weights = dataclasses.asdict(self)
        for name, weight in weights.items():
            _check(f"loss.{name}", weight, 0)
        del weights["phase_limit"]
        if not any(weights.values()):
            raise ConfigError(f"loss is {weights}; expected a weight above 0: nothing would be learned")


@dataclass(frozen=True)
class DistillationConfig:
    """Distillation of codebook 0 from a teacher, and other losses in a teacher's feature space.

    See :mod:`training.distillation`.

    Attributes:
        features: folder with features of a teacher, made by ``python -m training.teachers``; empty for none.
        labels: folder with phone logits of a teacher, made with ``--layer phones``; empty for none.
        perceptual_teacher: teacher whose features of decoded and original audio are compared; empty for none. Named as
            for ``python -m training.teachers --teacher``.
        features_over_time: weight of the features' loss along time.
        features_by_frame: weight of the features' loss within each frame.
        label_weight: weight of the cross-entropy with the phone labels.
        representation: weight of the loss of ``perceptual_teacher``.
        acoustic: weight of the distance between the acoustic dimensions of the latent and their values in
            ``start_from``, if ``train_only`` is ``encoder``.
        consistency: weight of the cross-entropy of the codes of a crop, given its disturbed view; see ``augmentation``.
        delay: frames by which codebook 0 lags the teacher. Its frame ``t`` learns the teacher's frame ``t - delay``,
            of which it has then heard ``delay`` frames more.
    """

    features: str = ""
    labels: str = ""
    perceptual_teacher: str = ""
    features_over_time: float = 1.0
    features_by_frame: float = 1.0
    label_weight: float = 1.0
    representation: float = 1.0
    acoustic: float = field(default=1.0, metadata={"absent": 1.0})
    consistency: float = field(default=1.0, metadata={"absent": 1.0})
    delay: int = field(default=0, metadata={"absent": 0})

    def __post_init__(self) -> None:
        for name in dataclasses.asdict(self):
            if name not in ("features", "labels", "perceptual_teacher"):
                _check(f"distillation.{name}", getattr(self, name), 0)


@dataclass(frozen=True)
class AugmentationConfig:
    """Disturbed views of the crops, in an encoder stage; see :mod:`training.augmentation`.

    The encoder hears each crop twice, as it is and disturbed, and learns the teacher's targets from both, and the codes
    of codebook 0 of the clean crop from the disturbed one. The stage has no disturbed views if all shares are 0.

    Attributes:
        noise: manifest or folder of noise; empty for coloured noise and babble only, which are made.
        noise_held_out: pattern of the ids of noises that are kept for tests, such as ``esc10-5-*``.
        noise_share: share of the views with noise.
        snr_low_db: lowest ratio of speech to noise, in dB.
        snr_high_db: highest ratio of speech to noise, in dB.
        room_share: share of the views in a simulated room.
        band_share: share of the views with a limited band, as on the telephone.
    """

    noise: str = ""
    noise_held_out: str = ""
    noise_share: float = 0.0
    snr_low_db: float = 0.0
    snr_high_db: float = 20.0
    room_share: float = 0.0
    band_share: float = 0.0

    def __post_init__(self) -> None:
        for name in ("noise_share", "room_share", "band_share"):
            _check(f"augmentation.{name}", getattr(self, name), 0, 1)
        _check("augmentation.snr_low_db", self.snr_low_db, -100, 100)
        _check("augmentation.snr_high_db", self.snr_high_db, self.snr_low_db, 100)

    @property
    def active(self) -> bool:
        """Whether there are disturbed views."""
        return bool(self.noise_share or self.room_share or self.band_share)


@dataclass(frozen=True)
class AdversaryConfig:
    """Adversarial training; see :mod:`training.discriminators`.

    Attributes:
        weight: weight of the adversarial loss; 0 trains without discriminators.
        feature_matching: weight of the feature-matching loss.
        start_step: step at which the discriminators start.
        period_channels: channels of the widest layer of the period discriminators.
        spectrum_channels: channels of each layer of the spectrogram discriminators.
        learning_rate: peak learning rate of the discriminators' AdamW.
    """

    weight: float = 0.0
    feature_matching: float = 2.0
    start_step: int = 0
    period_channels: int = 64
    spectrum_channels: int = 16
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        for name in ("weight", "feature_matching", "start_step"):
            _check(f"adversary.{name}", getattr(self, name), 0)
        for name in ("period_channels", "spectrum_channels"):
            _check(f"adversary.{name}", getattr(self, name), 1)
        _check("adversary.learning_rate", self.learning_rate, 0, above=True)


@dataclass(frozen=True)
class TrainingConfig:
    """A training. The same config, data and machine give the same weights.

    Attributes:
        data: manifest (``.jsonl``), folder with ``train.jsonl`` and optionally ``dev.jsonl``, or any folder of audio.
            Without a dev manifest, every 50th file is held out for validation.
        out: folder of the run. It receives the checkpoint, TensorBoard logs, packed audio and the exported tokenizer.
        steps: optimizer steps.
        model: the tokenizer to train.
        start_from: tokenizer of the same config to start from, as a folder or a ``checkpoint.pt``; empty for random
            weights, and codebooks from k-means at ``quantizer.start_step``.
        train_only: ``encoder`` or ``decoder`` to train one half of ``start_from``; empty to train both. The decoder
            is trained on the codes of the frozen encoder. The encoder is trained to improve codebook 0, without
            decoding, while ``distillation.acoustic`` holds the other dimensions; its codes change, so a decoder stage
            follows.
        seed: seed of weights, crops and dropout.
        batch_size: crops in a batch, over all processes.
        accumulate: parts in which a process computes its share of a batch, to save memory. The result is the same.
        crop_seconds: length of a crop, in seconds.
        gain_low_db: lowest random gain of a crop, in dB.
        gain_high_db: highest random gain of a crop, in dB. A crop is never raised above full scale.
        speed: largest factor by which a crop is randomly sped up or slowed down; its pitch follows.
        device: PyTorch device, such as ``cpu`` or ``cuda``.
        bfloat16: matrix products in bfloat16, where the device has instructions for it.
        compile: compile encoder, decoder and losses with ``torch.compile``. On a GPU, whole steps are also recorded as
            CUDA graphs, if both halves are trained without discriminators in one process.
        workers: processes that read batches; 0 for a thread.
        log_every: steps between scalars in TensorBoard.
        validate_every: steps between validations.
        validation_utterances: utterances in a validation.
        checkpoint_every: steps between checkpoints.
        quantizer: training of the quantizer.
        optimizer: optimizers and their schedule.
        loss: weights of the reconstruction losses.
        distillation: teacher of codebook 0.
        augmentation: disturbed views of the crops.
        adversary: discriminators.
    """

    data: str
    out: str
    steps: int
    model: ModelConfig = field(default_factory=ConvNeXtConfig)
    start_from: str = ""
    train_only: str = field(default="", metadata={"absent": ""})
    seed: int = 0
    batch_size: int = 16
    accumulate: int = 1
    crop_seconds: float = 1.0
    gain_low_db: float = -12.0
    gain_high_db: float = 6.0
    speed: float = field(default=1.0, metadata={"absent": 1.0})
    device: str = "cpu"
    bfloat16: bool = True
    compile: bool = True
    workers: int = 0
    log_every: int = 20
    validate_every: int = 1000
    validation_utterances: int = 16
    checkpoint_every: int = 500
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    augmentation: AugmentationConfig = field(
        default_factory=AugmentationConfig, metadata={"absent": dataclasses.asdict(AugmentationConfig())}
    )
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "accumulate",
            "log_every",
            "validate_every",
            "validation_utterances",
            "checkpoint_every",
        ):
            _check(name, getattr(self, name), 1)
        _check("workers", self.workers, 0)
        _check("seed", self.seed, 0, 2**32 - 1)
        _check("gain_low_db", self.gain_low_db, -100, 100)
        _check("gain_high_db", self.gain_high_db, self.gain_low_db, 100)
        _check("speed", self.speed, 1, 2)
        _check("crop_seconds", self.crop_seconds, 0, 3600)
        samples = self.crop_frames * self.model.hop_length
        if self.crop_frames < 2 or samples < MIN_CROP_SECONDS * self.model.sample_rate:
            raise ConfigError(
                f"crop_seconds is {self.crop_seconds}; expected at least {MIN_CROP_SECONDS}, and two frames"
            )
        if self.quantizer.start_step >= self.steps:
            raise ConfigError(
                f"quantizer.start_step is {self.quantizer.start_step}, but the training has only {self.steps} steps; "
                f"pass an earlier one, such as quantizer.start_step={self.steps // 5}"
            )
        if self.batch_size % self.accumulate:
            raise ConfigError(f"batch_size is {self.batch_size}; expected a multiple of accumulate ({self.accumulate})")
        self._check_train_only()
        if self.model.semantic_dim and self.train_only != "decoder" and not self._distills:
            raise ConfigError(
                f"model.semantic_dim is {self.model.semantic_dim} without a teacher, so that codebook 0 would learn "
                "nothing; expected distillation.features or distillation.labels with a weight above 0, or "
                "model.semantic_dim=0"
            )
        if self.augmentation.active and self.train_only != "encoder":
            raise ConfigError(
                f"augmentation has a share above 0 with train_only={self.train_only!r}; expected train_only=encoder: "
                "the other stages learn to decode what they hear"
            )
        if self.two_decodings and not getattr(self.model, "noise_bands", 0):
            raise ConfigError(
                "loss.energy_distance or loss.band_energy is above 0 for a decoder without noise; expected "
                "model.noise_bands above 0, such as 20"
            )
        if self.adversary.weight and self.adversary.start_step >= self.steps:
            raise ConfigError(
                f"adversary.start_step is {self.adversary.start_step}, but the training has only {self.steps} steps; "
                "pass an earlier one, such as adversary.start_step=0"
            )
        for name in ("data", "out"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; expected a path, such as {name}=DIR")

    def _check_train_only(self) -> None:
        only = self.train_only
        if only not in ("", "encoder", "decoder"):
            raise ConfigError(f"train_only is {only!r}; expected 'encoder' or 'decoder', or '' for both")
        if only and not self.start_from:
            raise ConfigError(
                f"train_only is {only!r} without start_from; expected start_from=TOKENIZER, whose other half is kept"
            )
        if only == "decoder" and (self.distillation.features or self.distillation.labels):
            raise ConfigError(
                "train_only is 'decoder' with distillation.features or distillation.labels; expected neither: the "
                "codes do not change"
            )
        if only == "encoder" and not self.model.semantic_dim:
            raise ConfigError(
                "train_only is 'encoder' and model.semantic_dim is 0; expected a tokenizer that was trained with "
                "model.semantic_dim above 0, so that codebook 0 has dimensions of its own"
            )
        if only == "encoder" and (self.distillation.perceptual_teacher or self.adversary.weight):
            raise ConfigError(
                "train_only is 'encoder' with distillation.perceptual_teacher or adversary.weight; expected neither: "
                "nothing is decoded"
            )

    @property
    def two_decodings(self) -> bool:
        """Whether each latent is decoded twice, with different noise."""
        return bool(self.loss.energy_distance or self.loss.band_energy)

    @property
    def _distills(self) -> bool:
        """Whether codebook 0 learns from a teacher."""
        c = self.distillation
        return bool((c.features and (c.features_over_time or c.features_by_frame)) or (c.labels and c.label_weight))

    @property
    def crop_frames(self) -> int:
        """Frames in a crop."""
        return int(self.crop_seconds * self.model.sample_rate) // self.model.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Plain values; inverse of :func:`config_from_dict`."""
        return to_mapping(self) | {"model": self.model.to_dict()}


def config_from_dict(values: Mapping[str, Any]) -> TrainingConfig:
    """Build a config from plain values; former names of fields are accepted.

    Raises:
        ConfigError: a field is unknown, missing or of the wrong type.
    """
    return from_mapping(TrainingConfig, rename_old_fields(values))


def load_config(path: str, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a YAML file and apply ``name=value`` overrides. Nested fields have dots: ``optimizer.muon_lr=5e-3``.

    Raises:
        MissingFileError: the file does not exist.
        ConfigError: the file is not YAML, or a field is unknown, missing or of the wrong type.
    """
    return from_mapping(TrainingConfig, read_values(path, overrides, OLD_NAMES))


def rename_old_fields(values: Mapping[str, Any], old_names: Mapping[str, str] = OLD_NAMES) -> dict[str, Any]:
    """A copy of the plain values of a config in which fields have their current names.

    Args:
        values: plain values, nested tables included.
        old_names: current names by former names; dots for nested fields, both in the same table.
    """
    renamed = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    for old, new in old_names.items():
        parent, _, old_leaf = old.rpartition(".")
        table = renamed.get(parent) if parent else renamed
        if isinstance(table, dict) and old_leaf in table:
            table.setdefault(new.rpartition(".")[2], table.pop(old_leaf))
    return renamed


def read_values(path: str, overrides: Sequence[str] = (), old_names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read the plain values of a YAML file and apply overrides; see :func:`load_config`.

    Args:
        path: YAML file.
        overrides: ``name=value`` arguments.
        old_names: see :func:`rename_old_fields`.

    Raises:
        MissingFileError: the file does not exist.
        ConfigError: the file is not YAML with fields, or an override cannot be parsed.
    """
    if "\0" in path or not os.path.isfile(path):
        raise MissingFileError(f"{quoted(path)} does not exist; training/configs/ has the configs of this repository")
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8-sig")) or {}
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not YAML
        raise ConfigError(f"{path} is not YAML ({error}); correct it") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {quoted(values)}; expected fields, such as steps: 1000")
    old_names = old_names or {}
    values = rename_old_fields(values, old_names)
    for override in overrides:
        name, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"argument {quoted(override)}; expected name=value, such as steps=1000")
        *parents, leaf = old_names.get(name, name).split(".")
        table = values
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"argument {quoted(override)}: {parent} is {quoted(table)}, which has no fields")
        table[leaf] = _read_value(override, value)
    return values


def _read_value(override: str, value: str) -> Any:
    try:
        return float(value) if "e" in value.lower() else parse_yaml(value)  # YAML 1.1 reads 5e-3 as a string
    except ParseError as error:
        raise _value_error(override, error) from error
    except ValueError:  # not a number
        try:
            return parse_yaml(value)
        except ParseError as error:
            raise _value_error(override, error) from error


def _value_error(override: str, error: ParseError) -> ConfigError:
    return ConfigError(f"argument {quoted(override)} has a value that is not YAML ({error!s:.200}); put it in quotes")
