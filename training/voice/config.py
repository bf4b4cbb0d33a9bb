"""Config of the training of a voice model: a YAML file, changed by ``name=value`` overrides."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from speechtok.errors import ConfigError
from speechtok.mapping import from_mapping
from speechtok.voice.config import VoiceConfig
from training.config import read_values


@dataclass(frozen=True)
class VoiceTrainingConfig:
    """The training of a voice model. The same config, data and tokenizer give the same weights.

    Attributes:
        data: a folder with ``train.jsonl`` and ``dev.jsonl``, a manifest, or a folder of audio. Utterances of named
            speakers are continued from a prompt of the same speaker.
        out: folder of the run: packed audio, codes, checkpoints, TensorBoard logs, ``voice.safetensors``.
        tokenizer: name of the tokenizer, as for ``speechtok.load``; the default one if empty.
        model: architecture.
        speeds: speeds at which every utterance is heard; each makes another voice of a speaker.
        balance: every utterance is heard once more with its energy or its brightness changed by up to so many decibels,
            after a prompt that is not changed; 0 for never.
        prompt_seconds_low: shortest prompt.
        prompt_seconds_high: longest.
        sequence_seconds: prompt and continuation together.
        style_share: share of the continuations whose style is given, each quantity with probability one half.
        contrast_share: share of the continuations whose prompt has another speed, so that only the style tells their
            pitch.
        contour_share: share of the continuations whose pitch contour is given.
        latent_noise: highest standard deviation of the noise on the latents that the network hears, so that it learns
            to go on from its own mistakes; latents have variance 1.
        flow_samples: times at which the flow of a frame is trained in a step.
        seed: seed of weights and batches.
        steps: optimizer steps.
        batch_size: sequences per step.
        muon_lr: peak learning rate of Muon, for the matrices of the blocks.
        adamw_lr: peak learning rate of AdamW, for the other parameters.
        weight_decay: weight decay of Muon.
        warmup_steps: steps of linear warm-up.
        decay_fraction: share of the steps, the last ones, in which the learning rates decay to zero.
        clip_norm: maximum norm of the gradient.
        ema_decay: decay of the moving average of the weights, which is exported.
        bfloat16: matrix products in bfloat16, where the processor has them.
        log_every: steps between scalars in TensorBoard.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
    """

    data: str
    out: str
    tokenizer: str = ""
    model: VoiceConfig = field(default_factory=VoiceConfig)
    speeds: tuple[float, ...] = (1.0, 0.85, 1.18, 0.75, 1.33)
    balance: float = 8.0
    prompt_seconds_low: float = 1.0
    prompt_seconds_high: float = 3.5
    sequence_seconds: float = 7.0
    style_share: float = 0.5
    contrast_share: float = 0.35
    contour_share: float = 0.5
    latent_noise: float = 0.3
    flow_samples: int = 2
    seed: int = 0
    steps: int = 12_000
    batch_size: int = 12
    muon_lr: float = 2e-3
    adamw_lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    decay_fraction: float = 0.6
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    bfloat16: bool = True
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        positive = ("steps", "batch_size", "flow_samples", "log_every", "validate_every", "checkpoint_every")
        for name, low in (dict.fromkeys(positive, 1) | {"seed": 0, "warmup_steps": 0}).items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {low}")
        for name in ("style_share", "contrast_share", "contour_share", "latent_noise", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if not 0 < self.decay_fraction <= 1:
            raise ConfigError(f"decay_fraction is {self.decay_fraction}; expected above 0, at most 1")
        if not 0 <= self.balance <= 20:
            raise ConfigError(f"balance is {self.balance}; expected 0 to 20 decibels")
        if not self.speeds or not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise ConfigError(f"speeds is {list(self.speeds)}; expected one or more from 0.5 to 2")
        if not 0 < self.prompt_seconds_low <= self.prompt_seconds_high < self.sequence_seconds:
            raise ConfigError(
                f"prompt_seconds_low is {self.prompt_seconds_low}, prompt_seconds_high {self.prompt_seconds_high} and "
                f"sequence_seconds {self.sequence_seconds}; expected them to be above 0 and in this order"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def load_config(path: str, overrides: Sequence[str] = ()) -> VoiceTrainingConfig:
    """Read a YAML file and apply ``name=value`` overrides, with dots for nested fields: ``model.dim=256``.

    Raises:
        MissingFileError: the file does not exist.
        ConfigError: the file is not YAML, or a field is unknown, missing or of the wrong type.
    """
    return from_mapping(VoiceTrainingConfig, read_values(path, overrides))
