"""What a training is made of: a YAML file, changed by ``name=value`` arguments."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from speechtok.config import ConvNeXtConfig, ModelConfig, from_mapping, to_mapping
from speechtok.errors import ConfigError, MissingFileError

LEAST_SECONDS = 0.04
"""Of a crop: the losses' windows fit."""


def _check(name: str, value: float, least: float, most: float = math.inf, *, above: bool = False) -> None:
    """Refuse what is not a finite number from ``least`` (or above it) to ``most``."""
    if not least <= value <= most or (above and value == least) or not math.isfinite(value):
        upper = "" if most == math.inf else f" and at most {most:g}"
        raise ConfigError(f"{name} is {value}; expected {'above' if above else 'at least'} {least:g}{upper}")


@dataclass(frozen=True)
class QuantizerConfig:
    """How the residual VQ is trained.

    Attributes:
        start_step: steps without quantizer, after which k-means on the encoder's output starts the codebooks.
        decay: of the moving averages that the codebook vectors are.
        dead_threshold: a vector that takes a smaller share of the frames than this over ``codebook_size`` is replaced.
        dropout: share of the rows of a batch that use a random prefix of the codebooks.
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
    """Muon for the matrices of the blocks, AdamW for the rest; warm-up, constant, then linear decay to zero.

    The ``seanet`` family is moved by AdamW alone, as published.

    Attributes:
        muon_lr: peak rate of Muon.
        adamw_lr: peak rate of AdamW.
        warmup_steps: steps of linear warm-up.
        decay_fraction: share of the steps, the last ones, over which the rates fall to zero.
        clip_norm: largest norm of the gradient.
        ema_decay: of the moving average of the weights, which is what gets exported.
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
        waveform: distance of the waveforms.
        spectrum: distance of the compressed complex spectra.
        mel: distance of the log-mel spectrograms.
        loudness: distance as the ear hears it.
        intelligibility: distance of what makes speech understood.
    """

    waveform: float = 1.0
    spectrum: float = 1.0
    mel: float = 1.0
    loudness: float = field(default=0.0, metadata={"absent": 0.0})
    intelligibility: float = field(default=0.0, metadata={"absent": 0.0})

    def __post_init__(self) -> None:
        weights = dataclasses.asdict(self)
        for name, weight in weights.items():
            _check(f"loss.{name}", weight, 0)
        if not any(weights.values()):
            raise ConfigError(f"loss is {weights}; expected a weight above 0: nothing would be learned")


@dataclass(frozen=True)
class DistillationConfig:
    """What codebook 0 learns from a teacher, and with which weights (and the others, see ``acoustic``).

    See :mod:`training.distillation`.

    Attributes:
        features: folder of a teacher's features (``python -m training.teachers``); empty for none.
        labels: folder of its phone logits (``--layer phones``); empty for none.
        teacher: one that hears the decoded audio, named as for ``python -m training.teachers``; empty for none.
        features_over_time: weight of the features along time.
        features_by_frame: weight of the features of each frame.
        label_weight: weight of the labels.
        representation: weight of what the teacher hears in decoded audio.
        acoustic: with ``only="encoder"``, weight of how far the acoustic numbers are from what they were.
        delay: frames that codebook 0 is late: its frame ``t`` learns what the teacher hears in frame ``t - delay``, so
            it has heard as many frames after it.
    """

    features: str = ""
    labels: str = ""
    teacher: str = ""
    features_over_time: float = 1.0
    features_by_frame: float = 1.0
    label_weight: float = 1.0
    representation: float = 1.0
    acoustic: float = field(default=1.0, metadata={"absent": 1.0})
    delay: int = field(default=0, metadata={"absent": 0})

    def __post_init__(self) -> None:
        for name in ("features_over_time", "features_by_frame", "label_weight", "representation", "acoustic", "delay"):
            _check(f"distillation.{name}", getattr(self, name), 0)


@dataclass(frozen=True)
class AdversaryConfig:
    """Discriminators; see :mod:`training.discriminators`.

    Attributes:
        weight: of what the decoder wins by fooling them; 0: there are none.
        features: weight of the distance of what they see in decoded and original audio.
        start_step: steps before they judge.
        period_channels: of the widest layer of those that look at every so-manieth sample.
        spectrum_channels: of those that look at spectrograms.
        learning_rate: of their AdamW.
    """

    weight: float = 0.0
    features: float = 2.0
    start_step: int = 0
    period_channels: int = 64
    spectrum_channels: int = 16
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        for name in ("weight", "features", "start_step"):
            _check(f"adversary.{name}", getattr(self, name), 0)
        for name in ("period_channels", "spectrum_channels"):
            _check(f"adversary.{name}", getattr(self, name), 1)
        _check("adversary.learning_rate", self.learning_rate, 0, above=True)


@dataclass(frozen=True)
class TrainingConfig:
    """A training, complete: the same config, data and machine give the same weights.

    Attributes:
        data: a manifest (``.jsonl``), a folder with ``train.jsonl`` (and ``dev.jsonl`` to validate on), or any folder
            of audio (every 50th file is then held out to validate on).
        out: folder of the run: checkpoint, TensorBoard logs, packed audio, exported tokenizer.
        model: the tokenizer to train, of the family that its ``family`` names.
        start_from: a tokenizer of the same config (its folder, or a ``checkpoint.pt``) whose weights and codebooks
            training starts from; if empty, random weights, and codebooks from k-means at ``quantizer.start_step``.
        only: train one half of ``start_from``. ``"decoder"``: for the codes that its encoder gives, which stay.
            ``"encoder"``: for what codebook 0 says, while the acoustic numbers are held where they were
            (``distillation.acoustic``), without decoding; the codes change, so the decoder's turn comes after.
        seed: of weights, crops and dropout.
        steps: optimizer steps.
        batch_size: crops a step, over all processes.
        accumulate: parts of a process's crops that are computed one after the other; the step stays the same, and
            takes less memory.
        crop_seconds: length of a crop.
        gain_low_db: lowest random gain of a crop; a crop is never raised above full scale.
        gain_high_db: highest random gain.
        speed: a crop is played up to so many times as fast, or as slow, and so as high, or as low.
        device: ``"cpu"``, ``"cuda"``, …
        bfloat16: matrix products in bfloat16 (autocast), where the device has instructions for it.
        compile: compile encoder, decoder and losses (``torch.compile``), and on a GPU record whole steps (CUDA graphs),
            if both halves are trained.
        workers: processes that read batches; 0: a thread does.
        log_every: steps between scalars in TensorBoard.
        validate_every: steps between validations.
        validation_utterances: utterances of one validation.
        checkpoint_every: steps between checkpoints.
        quantizer: see :class:`QuantizerConfig`.
        optimizer: see :class:`OptimizerConfig`.
        loss: see :class:`LossConfig`.
        distillation: see :class:`DistillationConfig`.
        adversary: see :class:`AdversaryConfig`.
    """

    data: str
    out: str
    steps: int
    model: ModelConfig = field(default_factory=ConvNeXtConfig)
    start_from: str = ""
    only: str = field(default="", metadata={"absent": ""})
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
        if self.crop_frames < 2 or self.crop_frames * self.model.hop_length < LEAST_SECONDS * self.model.sample_rate:
            raise ConfigError(
                f"crop_seconds is {self.crop_seconds}; expected at least two frames of the model, and {LEAST_SECONDS} s"
            )
        if self.quantizer.start_step >= self.steps:
            raise ConfigError(f"quantizer.start_step is {self.quantizer.start_step}; expected 0 to {self.steps - 1}")
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"batch_size is {self.batch_size}; expected a multiple of accumulate ({self.accumulate}), the parts "
                "that it is computed in"
            )
        self._check_only()
        if self.model.semantic_dim and self.only != "decoder" and not self._taught:
            raise ConfigError(
                f"model.semantic_dim is {self.model.semantic_dim} without a teacher, from whom alone codebook 0 would "
                "learn; expected distillation.features or distillation.labels, with a weight above 0"
            )
        if self.adversary.weight and self.adversary.start_step >= self.steps:
            raise ConfigError(f"adversary.start_step is {self.adversary.start_step}; expected 0 to {self.steps - 1}")
        for name in ("data", "out"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; expected a path, such as {name}=DIR")

    def _check_only(self) -> None:
        if self.only not in ("", "encoder", "decoder"):
            raise ConfigError(f"only is {self.only!r}; expected 'encoder' or 'decoder', or '' for both")
        if self.only and not self.start_from:
            raise ConfigError(
                f"only is {self.only!r} without start_from; expected the tokenizer whose other half stays"
            )
        if self.only == "decoder" and (self.distillation.features or self.distillation.labels):
            raise ConfigError("only is 'decoder' with distillation.features or labels; expected neither: codes stay")
        if self.only == "encoder" and not self.model.semantic_dim:
            raise ConfigError(
                "only is 'encoder' and model.semantic_dim is 0; expected a tokenizer of the convnext family that was "
                "trained with model.semantic_dim above 0, so that codebook 0 has numbers of its own"
            )
        if self.only == "encoder" and (self.distillation.teacher or self.adversary.weight):
            raise ConfigError(
                "only is 'encoder' with distillation.teacher or adversary.weight; expected neither: nothing is decoded"
            )

    @property
    def _taught(self) -> bool:
        """Whether a teacher tells codebook 0 anything."""
        taught = self.distillation
        by_features = taught.features and (taught.features_over_time or taught.features_by_frame)
        return bool(by_features or (taught.labels and taught.label_weight))

    @property
    def crop_frames(self) -> int:
        """Frames of a crop."""
        return int(self.crop_seconds * self.model.sample_rate) // self.model.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return to_mapping(self) | {"model": self.model.to_dict()}


def load_config(path: str, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a YAML file and apply ``name=value`` overrides, dots for nested fields: ``optimizer.muon_lr=5e-3``.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: the file is no YAML, or a field is unknown, missing or of the wrong type.
    """
    return from_mapping(TrainingConfig, read_values(path, overrides))


def read_values(path: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values of a YAML file, with overrides; see :func:`load_config`.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: the file is no YAML with fields, or an override is none.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"{path} does not exist; training/configs/ has the configs of this repository")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML ({error}); correct it") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {str(values)[:80]!r}; expected fields, such as steps: 1000")
    for override in overrides:
        name, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"argument {override!r}; expected name=value, such as steps=1000")
        *parents, leaf = name.split(".")
        table = values
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"argument {override!r}: {parent} is {table!r}, which has no fields")
        table[leaf] = _read_value(override, value)
    return values


def _read_value(override: str, value: str) -> Any:
    try:
        return float(value) if "e" in value.lower() else yaml.safe_load(value)  # YAML 1.1 reads 5e-3 as a string
    except ValueError:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"argument {override!r} has no value that YAML can read; put it in quotes") from error
