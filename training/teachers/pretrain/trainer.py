"""The trainer of one iteration of masked prediction; plugs into :mod:`training.harness`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from training.autocast import autocast
from training.cuda_graph import CUDAGraphed
from training.distributed import World
from training.optimizers import learning_rate_factor, muon_and_adamw
from training.skipped import SkippedSteps, all_finite
from training.teachers.hubert import Hubert
from training.teachers.pretrain.augmentation import Batch, CropSampler
from training.teachers.pretrain.config import PretrainingConfig

# fields of the config that may change when a training is resumed, beside those that end in _every
_FREE_FIELDS = {"data", "out", "device", "compile", "workers", "clip_norm"}
_FREE_RATES = {"muon_lr", "adamw_lr"}


class PretrainingTrainer:
    """Trains a network by masked prediction of clusters, and by classification of phones.

    Args:
        config: the pretraining.
        name: the iteration, ``"first"`` or ``"second"``.
        network: trained in place.
        crops: the batches of the iteration.
    """

    def __init__(self, config: PretrainingConfig, name: str, network: Hubert, crops: CropSampler) -> None:
        torch.manual_seed(config.seed)
        self.config, self.name, self.crops = config, name, crops
        self.iteration = config.first if name == "first" else config.second
        self.device, self.world = torch.device(config.device), World()
        self.network = network.to(self.device).train().requires_grad_(True)
        self.cluster_head = nn.Linear(config.model.dim, self.iteration.clusters).to(self.device)
        self.trained = nn.ModuleDict({"network": self.network, "cluster_head": self.cluster_head})
        matrices = [p for name, p in self.trained.named_parameters() if ".blocks." in name and p.ndim == 2]
        inside = {id(p) for p in matrices}
        others = [p for p in self.trained.parameters() if id(p) not in inside and p.numel()]
        self.parameters = matrices + others
        self.optimizers = muon_and_adamw(
            matrices, others, self.iteration.muon_lr, self.iteration.adamw_lr, config.weight_decay, fused=False
        )
        self.step, self.skipped = 0, SkippedSteps()
        self._forward: Callable[..., tuple[Tensor, Tensor]] = self._logits
        self._backward: Callable[..., dict[str, Tensor]] = self._compute_gradients
        self._update: Callable[[], None] = self.optimizers.step
        if config.compile:
            self._forward = torch.compile(self._logits)
            if self.device.type == "cuda":
                self._backward, self._update = CUDAGraphed(self._compute_gradients), CUDAGraphed(self.optimizers.step)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return self.crops.batch(step)

    def run_step(self, batch: Batch) -> dict[str, Tensor]:
        """Run one optimizer step; a step whose loss or gradient is not finite is skipped.

        Returns:
            Losses, accuracies and the norm of the gradient, by name.

        Raises:
            SpeechtokError: too many steps in a row were skipped.
        """
        terms = {name: value.detach() for name, value in self._backward(*batch.to(self.device)).items()}
        if all_finite(terms):
            self.skipped.reset()
            config, steps = self.config, self.iteration.steps
            self.optimizers.set_rates(
                learning_rate_factor(self.step, steps, config.warmup_steps, config.decay_fraction)
            )
            self._update()
        else:
            self.skipped.add(self.step, terms)
        if not isinstance(self._backward, CUDAGraphed) or not self._backward.ready:  # a CUDA graph reuses its gradients
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
            "phones": list(self.network.phones),
            "step": self.step,
            "skipped_steps": self.skipped.total,
            "skipped_in_a_row": self.skipped.in_a_row,
            "learned": self.trained.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.step = state["step"]
        self.skipped = SkippedSteps(state.get("skipped_steps", 0), state.get("skipped_in_a_row", 0))
        self.trained.load_state_dict(state["learned"])
        self.optimizers.load_state_dict(state["optimizers"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    def fixed_values(self, state: dict[str, Any]) -> dict[str, Any]:
        """The phones, and the fields of the config that resuming this iteration must not change.

        Learning rates, the machine, and what later parts of the pretraining need may change.
        """
        free = _FREE_FIELDS | ({"second", "target_layer"} if self.name == "first" else set())
        fixed = {
            name: value for name, value in state["config"].items() if name not in free and not name.endswith("_every")
        }
        for name in {"first", "second"} & fixed.keys():
            free_here = _FREE_RATES | ({"steps"} if name == "second" else set())
            fixed[name] = {key: value for key, value in fixed[name].items() if key not in free_here}
        fixed["phones"] = state.get("phones", list(self.network.phones))  # early checkpoints do not name them
        return fixed

    def _logits(self, spectra: Tensor, valid: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network(spectra, valid, masked)[-1]
        return self.cluster_head(features), self.network.phone_head(features)

    def _compute_gradients(
        self, waveform: Tensor, valid: Tensor, masked: Tensor, bands: Tensor, clusters: Tensor, phones: Tensor
    ) -> dict[str, Tensor]:
        """Compute losses and accuracies of a :class:`Batch`, and the gradients of all weights."""
        with torch.no_grad():
            spectra = self.network.spectra(waveform, valid) * bands.repeat(1, 2)[:, None]
        with autocast(self.device, self.config.bfloat16):
            cluster_logits, phone_logits = self._forward(spectra, valid, masked)
        predicted = masked & (clusters >= 0)
        terms = classification("cluster", cluster_logits, torch.where(predicted, clusters, -1))
        terms["loss"] = terms["cluster_loss"]
        if self.iteration.phone_weight:
            terms |= classification("phone", phone_logits, phones)
            terms["loss"] = terms["loss"] + self.iteration.phone_weight * terms["phone_loss"]
        terms["loss"].backward()
        terms["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        return terms


def classification(name: str, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Cross-entropy ``{name}_loss`` and accuracy ``{name}_accuracy`` of a classifier; 0 without any target.

    Args:
        name: of the classifier.
        logits: ``(B, T, N)``.
        targets: ``(B, T)``; -1 leaves a frame out.
    """
    labelled = targets >= 0
    count = labelled.sum().clamp_min(1)
    loss = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
    )
    correct = ((logits.argmax(-1) == targets) & labelled).sum()
    return {f"{name}_loss": loss / count, f"{name}_accuracy": correct / count}
