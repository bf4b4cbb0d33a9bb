"""The trainer of a voice model; plugs into :mod:`training.harness`."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from speechtok.nn.quantizer import ResidualQuantizer
from speechtok.voice.latents import AcousticLatents
from speechtok.voice.network import PADDING, Sequence, VoiceNetwork
from training.autocast import autocast
from training.distributed import World
from training.optimizers import learning_rate_factor, muon_and_adamw
from training.skipped import SkippedSteps, all_finite
from training.voice.batches import Batch, SequenceSampler
from training.voice.config import VoiceTrainingConfig

# fields of the config that may change when a training is resumed, beside those that end in _every
_FREE_FIELDS = {"data", "out", "clip_norm", "muon_lr", "adamw_lr", "steps"}


class VoiceTrainer:
    """Trains the network of a voice model.

    Args:
        config: the training.
        network: to train; it knows mean and deviation of the latents.
        quantizer: of the tokenizer.
        fingerprint: of the tokenizer.
        sampler: draws the batches.
    """

    def __init__(
        self,
        config: VoiceTrainingConfig,
        network: VoiceNetwork,
        quantizer: ResidualQuantizer,
        fingerprint: str,
        sampler: SequenceSampler,
    ) -> None:
        self.config, self.network, self.fingerprint = config, network.train(), fingerprint
        self.latents = AcousticLatents(quantizer, network.mean, network.deviation)
        self.batch = sampler
        self.device, self.world = torch.device("cpu"), World()
        inside = [p for block in network.blocks for p in block.parameters() if p.ndim == 2]
        inside += [p for layers in (network.head.expand, network.head.contract) for p in layers.parameters()]
        taken = {id(p) for p in inside}
        others = [p for p in network.parameters() if id(p) not in taken]
        self.optimizers = muon_and_adamw(
            inside, others, config.muon_lr, config.adamw_lr, config.weight_decay, fused=False
        )
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.step, self.skipped = 0, SkippedSteps()

    def run_step(self, batch: Batch) -> dict[str, Tensor]:
        """Run one optimizer step; a step whose loss or gradient is not finite is skipped.

        Raises:
            SpeechtokError: too many steps in a row were skipped.
        """
        c = self.config
        generator = torch.Generator().manual_seed(batch.seed)
        loss = self.loss(self.network, batch, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        terms = {
            "loss": loss.detach(),
            "gradient_norm": nn.utils.clip_grad_norm_(self.network.parameters(), c.clip_norm),
        }
        if all_finite(terms):
            self.skipped.reset()
            self.optimizers.set_rates(learning_rate_factor(self.step, c.steps, c.warmup_steps, c.decay_fraction))
            self.optimizers.step()
            decay = min(c.ema_decay, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        else:
            self.skipped.add(self.step, terms)
        self.optimizers.zero_grad()
        self.step += 1
        return terms

    def loss(self, network: VoiceNetwork, batch: Batch, generator: torch.Generator, kind: int | None = None) -> Tensor:
        """Mean squared error of the velocity of the flow, over the frames of prompts and targets, or of one kind."""
        c = self.config
        acoustic = self.latents.of(batch.codes)
        heard = acoustic
        if network.training and c.latent_noise:
            level = torch.rand(len(acoustic), 1, 1, generator=generator) * c.latent_noise
            heard = acoustic + level * torch.randn(acoustic.shape, generator=generator)
        with autocast(self.device, c.bfloat16):
            condition = network(Sequence(batch.codes[:, 0], heard, batch.kinds, batch.style, batch.contour))
            frames = batch.kinds != PADDING if kind is None else batch.kinds == kind
            condition, latent = condition[frames], acoustic[frames]
            modulation = network.head.modulation(condition).repeat(c.flow_samples, 1)
            latent = latent.repeat(c.flow_samples, 1)
            noise = torch.randn(latent.shape, generator=generator)
            time = torch.sigmoid(torch.randn(len(latent), generator=generator))
            x = torch.lerp(noise, latent, time[:, None])
            velocity = network.head(x, modulation + network.head.time_modulation(time))
        return (velocity.float() - (latent - noise)).square().mean()

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
            "average": self.average.state_dict(),
            "optimizers": self.optimizers.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.step = state["step"]
        self.skipped = SkippedSteps(state["skipped_steps"], state["skipped_in_a_row"])
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizers.load_state_dict(state["optimizers"])

    def fixed_values(self, state: dict[str, Any]) -> dict[str, Any]:
        """The tokenizer, and the fields of the config that resuming must not change."""
        fixed = {
            name: value
            for name, value in state["config"].items()
            if name not in _FREE_FIELDS | {"tokenizer"} and not name.endswith("_every")
        }
        return fixed | {"tokenizer": state["tokenizer"]}
