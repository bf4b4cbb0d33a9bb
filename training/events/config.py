"""Config of the training of a turn detector: a YAML file, changed by ``name=value`` overrides."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from speechtok.errors import ConfigError
from speechtok.mapping import from_mapping
from speechtok.turn_detector import TurnConfig
from training.config import read_values
from training.events.scenes import SceneConfig


@dataclass(frozen=True)
class EventsConfig:
    """The training of a turn detector. The same config, data and tokenizer give the same weights.

    Attributes:
        data: a folder with ``train.jsonl`` and ``dev.jsonl``, or a manifest. Utterances with phones are used.
        out: folder of the run: packed audio, codes of the scenes, checkpoints, TensorBoard logs, ``turns.safetensors``.
        tokenizer: name of the tokenizer, as for ``speechtok.load``; the default one if empty.
        noise: manifest of noise; coloured noise only if empty.
        noise_dev: pattern of the ids of noises for validation and for thresholds.
        noise_held_out: pattern of the ids of noises that are kept for tests.
        scene: what scenes are like.
        scenes: scenes to train on.
        dev_scenes: scenes to validate on.
        dim: width of the network's blocks.
        depth: number of blocks.
        kernel_size: frames that one block sees, its own included.
        expansion: hidden width of a block, in multiples of its width.
        seed: seed of scenes, weights and batches.
        steps: optimizer steps.
        batch_size: scenes per step.
        fewer_codebooks: share of the scenes of a step from which only the first codebooks are taken, any number.
        end_of_turn_weight: weight of the loss of the end of turn.
        overlap_weight: weight of the loss of overlap; that of speech has weight 1.
        muon_lr: peak learning rate of Muon, for the matrices of the blocks.
        adamw_lr: peak learning rate of AdamW, for the other parameters.
        weight_decay: weight decay of Muon.
        warmup_steps: steps of linear warm-up.
        decay_fraction: share of the steps, the last ones, in which the learning rates decay to zero.
        clip_norm: maximum norm of the gradient.
        workers: threads that decode audio; one per processor if 0.
        log_every: steps between scalars in TensorBoard.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
    """

    data: str
    out: str
    tokenizer: str = ""
    noise: str = ""
    noise_dev: str = "esc10-4-*"
    noise_held_out: str = "esc10-5-*"
    scene: SceneConfig = field(default_factory=SceneConfig)
    scenes: int = 3_000
    dev_scenes: int = 300
    dim: int = 64
    depth: int = 4
    kernel_size: int = 25
    expansion: int = 2
    seed: int = 0
    steps: int = 2_000
    batch_size: int = 12
    fewer_codebooks: float = 0.2
    end_of_turn_weight: float = 1.0
    overlap_weight: float = 1.0
    muon_lr: float = 5e-3
    adamw_lr: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 30
    decay_fraction: float = 0.6
    clip_norm: float = 1.0
    workers: int = 0
    log_every: int = 20
    validate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        positive = ("scenes", "dev_scenes", "steps", "batch_size", "log_every", "validate_every", "checkpoint_every")
        for name, low in (dict.fromkeys(positive, 1) | {"seed": 0, "workers": 0}).items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {low}")
        if not 0 <= self.fewer_codebooks <= 1:
            raise ConfigError(f"fewer_codebooks is {self.fewer_codebooks}; expected 0 to 1")
        if not 0 < self.decay_fraction <= 1:
            raise ConfigError(f"decay_fraction is {self.decay_fraction}; expected above 0, at most 1")
        self.model(1)

    def model(self, latent_dim: int) -> TurnConfig:
        """The architecture for a tokenizer with a latent of this width."""
        return TurnConfig(latent_dim, self.dim, self.depth, self.kernel_size, self.expansion)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def load_config(path: str, overrides: Sequence[str] = ()) -> EventsConfig:
    """Read a YAML file and apply ``name=value`` overrides, with dots for nested fields: ``scene.seconds=8``.

    Raises:
        MissingFileError: the file does not exist.
        ConfigError: the file is not YAML, or a field is unknown, missing or of the wrong type.
    """
    return from_mapping(EventsConfig, read_values(path, overrides))
