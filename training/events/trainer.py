"""The trainer of a turn detector; plugs into :mod:`training.harness`."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.nn.turns import OUTPUTS, TurnNetwork, probabilities
from training.distributed import World
from training.events.config import EventsConfig
from training.events.encoding import EncodedScenes
from training.events.float_network import float_scores
from training.optimizers import learning_rate_factor, muon_and_adamw
from training.skipped import SkippedSteps, all_finite

NAMES = "speech", "end_of_turn", "overlap"

# fields of the config that may change when a training is resumed, beside those that end in _every
_FREE_FIELDS = {"data", "out", "noise", "workers", "clip_norm", "muon_lr", "adamw_lr", "dev_scenes"}
_MIN_PROBABILITY = 1e-6


class Batch(NamedTuple):
    """Scenes of a step.

    Attributes:
        codes: int16 ``(B, Q, T)``.
        num_codebooks: codebooks that count in each row, ``(B,)``.
        labels: int8 ``(B, 3, T)``.
    """

    codes: Tensor
    num_codebooks: Tensor
    labels: Tensor


class EventsTrainer:
    """Trains the network of a turn detector on encoded scenes.

    Args:
        config: the training.
        quantizer: of the tokenizer.
        fingerprint: of the tokenizer.
        scenes: to train on.
    """

    def __init__(
        self, config: EventsConfig, quantizer: ResidualQuantizer, fingerprint: str, scenes: EncodedScenes
    ) -> None:
        self.config, self.fingerprint, self.scenes = config, fingerprint, scenes
        self.codebooks = quantizer.codebooks.float()
        self.device, self.world = torch.device("cpu"), World()
        torch.manual_seed(config.seed)
        self.network: TurnNetwork = config.model(self.codebooks.shape[2]).make().train()
        matrices = [p for name, p in self.network.named_parameters() if "blocks." in name and p.ndim == 2]
        matrices = [p for p in matrices if len(p) != config.kernel_size]
        inside = {id(p) for p in matrices}
        others = [p for p in self.network.parameters() if id(p) not in inside]
        self.optimizers = muon_and_adamw(
            matrices, others, config.muon_lr, config.adamw_lr, config.weight_decay, fused=False
        )
        self.weights = torch.tensor([1.0, config.end_of_turn_weight, config.overlap_weight])
        self.step, self.skipped = 0, SkippedSteps()

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        c, rng = self.config, np.random.default_rng((self.config.seed, step))
        rows = rng.integers(0, len(self.scenes), c.batch_size)
        codebooks = len(self.codebooks)
        fewer = rng.random(c.batch_size) < c.fewer_codebooks
        counts = np.where(fewer, rng.integers(1, codebooks + 1, c.batch_size), codebooks)
        arrays = self.scenes.codes[rows], counts, self.scenes.labels[rows]
        return Batch(*map(torch.from_numpy, arrays))

    def run_step(self, batch: Batch) -> dict[str, Tensor]:
        """Run one optimizer step; a step whose loss or gradient is not finite is skipped.

        Returns:
            Losses and the norm of the gradient, by name.

        Raises:
            SpeechtokError: too many steps in a row were skipped.
        """
        latent = latents(self.codebooks, batch.codes, batch.num_codebooks)
        losses = cross_entropies(float_scores(self.network, latent), batch.labels)
        loss = (losses * self.weights).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        terms = {"loss": loss.detach(), "gradient_norm": norm}
        terms |= {f"{name}_loss": value.detach() for name, value in zip(NAMES, losses, strict=True)}
        if all_finite(terms):
            self.skipped.reset()
            c = self.config
            self.optimizers.set_rates(learning_rate_factor(self.step, c.steps, c.warmup_steps, c.decay_fraction))
            self.optimizers.step()
        else:
            self.skipped.add(self.step, terms)
        self.optimizers.zero_grad()
        self.step += 1
        return terms

    def scalars(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Scalars to log."""
        scalars = {f"train/{name}": float(value) for name, value in terms.items()}
        return scalars | {"train/learning_rate": self.optimizers.learning_rate}

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on."""
        return {
            "config": self.config.to_dict(),
            "tokenizer": self.fingerprint,
            "step": self.step,
            "skipped_steps": self.skipped.total,
            "skipped_in_a_row": self.skipped.in_a_row,
            "network": self.network.state_dict(),
            "optimizers": self.optimizers.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.step = state["step"]
        self.skipped = SkippedSteps(state["skipped_steps"], state["skipped_in_a_row"])
        self.network.load_state_dict(state["network"])
        self.optimizers.load_state_dict(state["optimizers"])

    def fixed_values(self, state: dict[str, Any]) -> dict[str, Any]:
        """The tokenizer, and the fields of the config that resuming must not change."""
        fixed = {
            name: value
            for name, value in state["config"].items()
            if name not in _FREE_FIELDS | {"tokenizer"} and not name.endswith("_every")
        }
        return fixed | {"tokenizer": state["tokenizer"]}


def latents(codebooks: Tensor, codes: Tensor, num_codebooks: Tensor) -> Tensor:
    """Sums of the codes' vectors, of the first ``num_codebooks`` codebooks of each row: ``(B, T, D)``."""
    latent = torch.zeros(len(codes), codes.shape[2], codebooks.shape[2])
    for index, codebook in enumerate(codebooks):
        rows = num_codebooks > index
        latent[rows] += codebook[codes[rows, index].long()]
    return latent


def cross_entropies(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each output, the mean over the frames that have its label: ``(3,)``."""
    found, targets = probabilities(scores).flatten(0, 1), labels.transpose(1, 2).reshape(-1, OUTPUTS)
    known = (targets >= 0).float()
    right = torch.where(targets > 0, found, 1 - found).clamp_min(_MIN_PROBABILITY)
    return -(right.log() * known).sum(0) / known.sum(0).clamp_min(1.0)
