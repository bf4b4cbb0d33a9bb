"""Config of a pretraining: a YAML file, changed by ``name=value`` overrides."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from speechtok.errors import ConfigError
from speechtok.mapping import from_mapping
from training.config import read_values
from training.teachers.hubert import HubertConfig

MAX_CLUSTERS = 32_767
"""Labels are stored as int16."""


@dataclass(frozen=True)
class IterationConfig:
    """One iteration of masked prediction.

    Attributes:
        steps: optimizer steps.
        clusters: number of k-means clusters, which are the targets.
        phone_weight: weight of the loss of the phone classifier; 0 trains without phones.
        phone_share: share of crops from utterances with phones, if ``phone_weight`` is above 0.
        mask_start: probability that a masked span starts at a frame.
        muon_lr: peak learning rate of Muon, for the weight matrices of the blocks.
        adamw_lr: peak learning rate of AdamW, for the other parameters.
    """

    steps: int
    clusters: int
    phone_weight: float = 0.0
    phone_share: float = 0.5
    mask_start: float = 0.05
    muon_lr: float = 5e-3
    adamw_lr: float = 2e-3

    def __post_init__(self) -> None:
        for name in ("steps", "clusters"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.clusters > MAX_CLUSTERS:
            raise ConfigError(f"clusters is {self.clusters}; expected at most {MAX_CLUSTERS}")
        if self.phone_weight < 0:
            raise ConfigError(f"phone_weight is {self.phone_weight}; expected 0 or more")
        if not 0 <= self.phone_share <= 1:
            raise ConfigError(f"phone_share is {self.phone_share}; expected 0 to 1")
        if not 0 < self.mask_start <= 1:
            raise ConfigError(f"mask_start is {self.mask_start}; expected above 0, at most 1")


@dataclass(frozen=True)
class PretrainingConfig:
    """A pretraining. The same config, data and machine give the same weights.

    Attributes:
        data: a manifest (``.jsonl``), a folder with ``train.jsonl`` and optionally ``dev.jsonl``, or any folder of
            audio.
        out: folder of the run: packed audio, cluster labels, checkpoints, TensorBoard logs, exported teacher.
        first: iteration on clusters of MFCCs.
        second: iteration on clusters of the features of the first one; it starts from the weights of the first one.
        model: architecture of the network.
        seed: seed of weights, clusters, crops and dropout.
        batch_size: crops per step.
        crop_seconds: duration of a crop.
        target_layer: block whose features are clustered for the second iteration, counted from 1.
        mask_length: frames of a masked span.
        band_masks: stretches of mel bands that are masked in each crop (SpecAugment).
        band_mask_width: maximum number of bands in a stretch.
        speed_low: minimum speed of a crop. Pitch and formants change with the speed.
        speed_high: maximum speed.
        noise_low_db: minimum level of added noise, relative to the crop.
        noise_high_db: maximum level.
        weight_decay: weight decay of Muon.
        warmup_steps: steps of linear warm-up.
        decay_fraction: share of the steps, the last ones, in which the learning rates decay to zero.
        clip_norm: maximum norm of the gradient.
        device: device to train on, such as ``"cpu"`` or ``"cuda"``.
        bfloat16: compute matrix products in bfloat16 (autocast), on devices with instructions for it.
        compile: compile the network with ``torch.compile``; on a GPU, also record CUDA graphs.
        workers: processes that make batches; 0 for a thread.
        log_every: steps between scalars in TensorBoard.
        validate_every: steps between measurements of the phone accuracy on held-out utterances.
        checkpoint_every: steps between checkpoints.
    """

    data: str
    out: str
    first: IterationConfig
    second: IterationConfig
    model: HubertConfig = field(default_factory=HubertConfig)
    seed: int = 0
    batch_size: int = 12
    crop_seconds: float = 4.0
    target_layer: int = 3
    mask_length: int = 10
    band_masks: int = 2
    band_mask_width: int = 16
    speed_low: float = 0.85
    speed_high: float = 1.2
    noise_low_db: float = -50.0
    noise_high_db: float = -10.0
    weight_decay: float = 0.1
    warmup_steps: int = 50
    decay_fraction: float = 0.6
    clip_norm: float = 1.0
    device: str = "cpu"
    bfloat16: bool = True
    compile: bool = True
    workers: int = 0
    log_every: int = 20
    validate_every: int = 200
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        minimum = {"batch_size": 1, "mask_length": 1, "log_every": 1, "validate_every": 1, "checkpoint_every": 1}
        for name, low in (minimum | {"workers": 0, "seed": 0}).items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {low}")
        if self.crop_frames < self.mask_length:
            raise ConfigError(
                f"crop_seconds is {self.crop_seconds}, which is {self.crop_frames} frames; expected at least "
                f"mask_length ({self.mask_length}) frames"
            )
        if not 1 <= self.target_layer <= self.model.depth:
            raise ConfigError(f"target_layer is {self.target_layer}; expected 1 to model.depth ({self.model.depth})")
        if self.band_masks < 0 or not 0 <= self.band_mask_width < self.model.bands:
            raise ConfigError(
                f"band_masks is {self.band_masks} and band_mask_width {self.band_mask_width}; expected 0 or more, and "
                f"a width below model.bands ({self.model.bands})"
            )
        if not 0.5 <= self.speed_low <= self.speed_high <= 2:
            raise ConfigError(
                f"speed_low is {self.speed_low} and speed_high {self.speed_high}; expected "
                "0.5 <= speed_low <= speed_high <= 2"
            )
        if self.noise_low_db > self.noise_high_db:
            raise ConfigError(
                f"noise_low_db is {self.noise_low_db}; expected at most noise_high_db ({self.noise_high_db})"
            )
        if not 0 < self.decay_fraction <= 1:
            raise ConfigError(f"decay_fraction is {self.decay_fraction}; expected above 0, at most 1")

    @property
    def crop_frames(self) -> int:
        """Frames of a crop."""
        return int(self.crop_seconds * self.model.sample_rate) // self.model.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def load_config(path: str, overrides: Sequence[str] = ()) -> PretrainingConfig:
    """Read a YAML file and apply ``name=value`` overrides, with dots for nested fields: ``second.steps=1000``.

    Raises:
        MissingFileError: the file does not exist.
        ConfigError: the file is not YAML, or a field is unknown, missing or of the wrong type.
    """
    return from_mapping(PretrainingConfig, read_values(path, overrides))
