"""The trainer: one optimizer step, validation, and the state that a checkpoint saves."""

import hashlib
import json
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from examples.speech_lm import models
from examples.speech_lm.batching import make_batches
from examples.speech_lm.config import SpeechLmConfig
from examples.speech_lm.dataset import Dataset
from examples.speech_lm.models import SpeechOnly
from speechtok.device import check_device
from speechtok.errors import CheckpointError
from speechtok.lm import GridLanguageModel, SpeechProcessor
from speechtok.lm.collator import IGNORE
from training.autocast import autocast


class Trainer:
    """Trains a language model.

    Args:
        config: of the training.
        processor: for text and speech.
        train: examples to train on.
        dev: examples to validate on.

    Attributes:
        step: optimizer steps taken.
        best: lowest validation loss.

    Raises:
        ConfigError: transformers does not have such a model.
        InputError: the device cannot be used.
    """

    def __init__(
        self, config: SpeechLmConfig, processor: SpeechProcessor | SpeechOnly, train: Dataset, dev: Dataset
    ) -> None:
        self.config, self.processor, self.train, self.dev = config, processor, train, dev
        device = check_device(config.device)
        self.model = models.make_model(config, processor).to(device)
        self.parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
        )
        self.step = self.epoch = self.batch_index = 0
        self.best = float("inf")
        self._batches: tuple[int, list[list[int]]] | None = None

    def next_batch(self) -> list[int]:
        """Indices of the examples of the next step."""
        return self._epoch_batches(self.epoch)[self.batch_index]

    def run_step(self) -> float:
        """Run one optimizer step on the next batch. Returns its loss. A step with a non-finite gradient is skipped."""
        config = self.config
        batch = self.train.batch(self.next_batch(), self.epoch)
        torch.manual_seed(config.seed + 1_000_003 * (self.step + 1))  # dropout depends on seed and step alone
        self.model.train()
        nll, labels = token_losses(self.model, batch, config)
        is_text = labels < self.processor.vocabulary.offset
        weights = torch.where(is_text, config.text_weight, 1.0) * (labels != IGNORE)
        loss = (nll * weights).sum() / weights.sum().clamp_min(1)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.clip_norm)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate * learning_rate_factor(self.step, config)
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.batch_index += 1
        if self.batch_index == len(self._epoch_batches(self.epoch)):
            self.epoch, self.batch_index = self.epoch + 1, 0
        return float(loss.detach())

    def _epoch_batches(self, epoch: int) -> list[list[int]]:
        if self._batches is None or self._batches[0] != epoch:
            self._batches = epoch, make_batches(self.train.lengths, self.config.batch_ids, self.config.seed, epoch)
        return self._batches[1]

    def validate(self) -> dict[str, float]:
        """Validation loss, and negative log-likelihood in nats per speech id and per text id."""
        self.model.eval()
        totals = total_nll(self.model, self.dev, self.processor, self.config)
        values = {name: nats / max(1, ids) for name, (nats, ids) in totals.items()}
        (speech, speech_ids), (text, text_ids) = totals["speech"], totals["text"]
        weight = self.config.text_weight
        return {"loss": (speech + weight * text) / max(1, speech_ids + weight * text_ids)} | values

    def trained_weights(self) -> dict[str, Tensor]:
        """Weights that are trained, on the CPU."""
        return {name: p.detach().cpu() for name, p in self.parameters.items()}

    def load_trained_weights(self, weights: dict[str, Tensor]) -> None:
        """Restore the output of :meth:`trained_weights`."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def state_dict(self) -> dict[str, Any]:
        """State that the rest of the training depends on. Random numbers depend on seed and step alone."""
        return {
            "config": self.config.to_dict(),
            "fingerprint": self.processor.speech_tokenizer.fingerprint,
            "lengths": self._hash_lengths(),
            "place": [self.step, self.epoch, self.batch_index],
            "best": self.best,
            "weights": self.trained_weights(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _hash_lengths(self) -> str:
        """Hash of the example lengths, which determine the batches."""
        return hashlib.sha256(json.dumps(self.train.lengths).encode()).hexdigest()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the output of :meth:`state_dict`.

        Raises:
            CheckpointError: the examples have other lengths, so that the position in the epoch is not valid.
        """
        if state["lengths"] != self._hash_lengths():
            raise CheckpointError(
                "it was trained on other utterances, texts or phones; expected the same: choose another out=… to start "
                "again"
            )
        self.step, self.epoch, self.batch_index = state["place"]
        self.best = state["best"]
        self.load_trained_weights(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])


def token_losses(model: Any, batch: dict[str, Tensor], config: SpeechLmConfig) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of every label.

    Returns:
        Nats and labels, ``(B, L - 1)``, or ``(B, L - 1, Q)`` for a grid; ignored labels have 0 nats.
    """
    ids, mask, labels = (batch[name].to(config.device) for name in ("input_ids", "attention_mask", "labels"))
    if isinstance(model, GridLanguageModel):
        with autocast(torch.device(config.device), config.bfloat16):
            _, scores = model(ids)
        labels = model.labels(ids)
        flat = scores.flatten(0, 2).float()
        nll = F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORE, reduction="none")
        return nll.view_as(labels), labels
    with autocast(torch.device(config.device), config.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    labels = labels[:, 1:]
    flat = logits[:, :-1].flatten(0, 1).float()
    nll = F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORE, reduction="none")
    return nll.view_as(labels), labels


@torch.inference_mode()
def total_nll(
    model: Any, examples: Dataset, processor: SpeechProcessor | SpeechOnly, config: SpeechLmConfig
) -> dict[str, tuple[float, int]]:
    """Total negative log-likelihood in nats and number of labels, for ``speech`` and ``text``.

    Speech labels are codes, run lengths and end tokens; start tokens count as neither.
    """
    v = processor.vocabulary
    totals = {"speech": (0.0, 0), "text": (0.0, 0)}
    for indices in make_batches(examples.lengths, config.batch_ids, 0, 0):
        nll, labels = token_losses(model, examples.batch(indices, 0), config)
        is_speech = labels != IGNORE if v.is_grid else labels > v.bos_id
        for name, selected in (("speech", is_speech), ("text", (labels >= 0) & (labels < v.offset))):
            nats, ids = totals[name]
            totals[name] = nats + float(nll[selected].double().sum()), ids + int(selected.sum())
    return totals


def learning_rate_factor(step: int, config: SpeechLmConfig) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then linear decay to zero."""
    return min((step + 1) / max(1, config.warmup_steps), (config.steps - step) / config.steps)
