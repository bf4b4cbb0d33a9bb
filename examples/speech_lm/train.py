"""Train a model: ``python -m examples.speech_lm.train --config CONFIG.yaml data=DIR``.

Interrupt it at any moment and run the same command again: it goes on from its last checkpoint, and reaches the weights
that it would have reached uninterrupted. Ctrl-C saves what there is, and exports it too.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from examples.speech_lm import models
from examples.speech_lm.config import SpeechLmConfig, add_config, load_config, run
from examples.speech_lm.data import Examples, batches, examples_of
from examples.speech_lm.prepare import load_tokenizer, prepare
from speechtok.config import from_mapping
from speechtok.errors import CheckpointError, ConfigError, OutputError
from speechtok.files import replacing
from speechtok.lm import SpeechProcessor
from speechtok.lm.collator import IGNORE
from training.autocast import autocast
from training.signals import stop_requests

# how long to learn may change, and on what machine, and so may what does not touch the weights
_FREE = {"steps", "data", "out", "tokens", "lexicon", "device", "validate_every", "checkpoint_every", "keep_best"}


class Trainer:
    """One training: what it learns, how it steps, and how it is saved.

    Args:
        config: the training.
        processor: of text and speech.
        train: to learn from.
        dev: to validate on.

    Raises:
        ConfigError: transformers has no such model, or this machine no such device.
    """

    def __init__(self, config: SpeechLmConfig, processor: SpeechProcessor, train: Examples, dev: Examples) -> None:
        self.config, self.processor, self.train, self.dev = config, processor, train, dev
        self.model = models.make_model(config, processor)
        try:
            self.model.to(config.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"device is {config.device!r}, which this machine has not ({error}); try cpu") from error
        self.parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
        )
        self.step = self.epoch = self.place = 0
        self.best = float("inf")
        self._planned: tuple[int, list[list[int]]] | None = None

    def run_step(self) -> float:
        """One optimizer step on the next batch of the epoch. Returns its loss."""
        config = self.config
        epoch = self._batches(self.epoch)
        batch = self.train.batch(epoch[self.place], self.epoch)
        torch.manual_seed(config.seed + 1_000_003 * (self.step + 1))  # of dropout: a function of the step
        self.model.train()
        nll, labels = losses(self.model, batch, config)
        is_text = labels < self.processor.vocabulary.offset
        weights = torch.where(is_text, config.text_weight, 1.0) * (labels != IGNORE)
        loss = (nll * weights).sum() / weights.sum().clamp_min(1)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.clip_norm)
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate * rate_factor(self.step, config)
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.place += 1
        if self.place == len(epoch):
            self.epoch, self.place = self.epoch + 1, 0
        return float(loss.detach())

    def _batches(self, epoch: int) -> list[list[int]]:
        if self._planned is None or self._planned[0] != epoch:
            plan = batches(self.train.lengths, self.config.batch_ids, self.config.seed, epoch)
            self._planned = epoch, plan
        return self._planned[1]

    def validate(self) -> dict[str, float]:
        """Nats for an id of speech, and one of text, on what is held out; and ``loss``, of both."""
        self.model.eval()
        totals = nll_totals(self.model, self.dev, self.processor, self.config)
        values = {name: nats / max(1, ids) for name, (nats, ids) in totals.items()}
        (speech, speech_ids), (text, text_ids) = totals["speech"], totals["text"]
        w = self.config.text_weight
        return {"loss": (speech + w * text) / max(1, speech_ids + w * text_ids)} | values

    def trained(self) -> dict[str, Tensor]:
        """The weights that are trained."""
        return {name: p.detach().cpu() for name, p in self.parameters.items()}

    def load_trained(self, weights: dict[str, Tensor]) -> None:
        """Inverse of :meth:`trained`."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on; what is drawn is a function of seed and place."""
        return {
            "config": self.config.to_dict(),
            "fingerprint": self.processor.tokenizer.fingerprint,
            "lengths": self._lengths(),
            "place": [self.step, self.epoch, self.place],
            "best": self.best,
            "weights": self.trained(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _lengths(self) -> str:
        """A digest of what the batches of an epoch are cut by."""
        return hashlib.sha256(json.dumps(self.train.lengths).encode()).hexdigest()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            CheckpointError: what it learned from had other lengths, so that its place in it is none.
        """
        if state["lengths"] != self._lengths():
            raise CheckpointError(
                "it was trained on other utterances, texts or phones than there are now; expected the same: choose "
                "another out=… to begin again"
            )
        self.step, self.epoch, self.place = state["place"]
        self.best = state["best"]
        self.load_trained(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])


def losses(model: Any, batch: dict[str, Tensor], config: SpeechLmConfig) -> tuple[Tensor, Tensor]:
    """Minus the log probability of each label in nats, and the labels, ``(B, L - 1)``; 0 where there is none."""
    ids, mask, labels = (batch[name].to(config.device) for name in ("input_ids", "attention_mask", "labels"))
    with autocast(torch.device(config.device), config.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    labels = labels[:, 1:]
    flat = logits[:, :-1].flatten(0, 1).float()
    nll = F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORE, reduction="none")
    return nll.view_as(labels), labels


@torch.inference_mode()
def nll_totals(
    model: Any, examples: Examples, processor: SpeechProcessor, config: SpeechLmConfig
) -> dict[str, tuple[float, int]]:
    """Nats and ids, of ``speech`` (codes, runs and the end; not the mark of its begin) and of ``text``."""
    v = processor.vocabulary
    totals = {"speech": (0.0, 0), "text": (0.0, 0)}
    for indices in batches(examples.lengths, config.batch_ids, 0, 0):
        nll, labels = losses(model, examples.batch(indices, 0), config)
        for name, which in (("speech", labels > v.bos_id), ("text", (labels >= 0) & (labels < v.offset))):
            nats, ids = totals[name]
            totals[name] = nats + float(nll[which].double().sum()), ids + int(which.sum())
    return totals


def rate_factor(step: int, config: SpeechLmConfig) -> float:
    """Share of the peak rate at ``step``: linear warm-up, then linear decay to zero."""
    return min((step + 1) / max(1, config.warmup_steps), (config.steps - step) / config.steps)


def train(config: SpeechLmConfig) -> Path:
    """Run a training from its start or last checkpoint to its end. Returns the folder of the exported model.

    Raises:
        SpeechtokError: the config, the data or the checkpoint cannot be used.
        KeyboardInterrupt: it was asked to stop, and has saved and exported what there was.
    """
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"out is {config.out!r}, which cannot be written ({error}); choose another") from error
    tokenizer = load_tokenizer(config)
    processor = models.make_processor(config, tokenizer)
    train_set, dev_set = (
        examples_of(config, prepare(config, tokenizer, split), processor, held_out=split == "dev")
        for split in ("train", "dev")
    )
    trainer = Trainer(config, processor, train_set, dev_set)
    checkpoint, best = out / "checkpoint.pt", out / "best.pt"
    if checkpoint.exists():
        load_checkpoint(trainer, checkpoint)
    _run(trainer, checkpoint, best)
    return out / "model"


def _run(trainer: Trainer, checkpoint: Path, best: Path) -> None:
    config = trainer.config
    total = sum(p.numel() for p in trainer.model.parameters())
    tuned = sum(p.numel() for p in trainer.parameters.values())
    print(f"{total / 1e6:.1f} M parameters, of which {tuned / 1e6:.1f} M are trained")
    bar = tqdm(total=config.steps, initial=trainer.step, desc="training", unit="step", dynamic_ncols=True)
    started = time.perf_counter()
    with bar, stop_requests() as requested:
        while trainer.step < config.steps:
            loss = trainer.run_step()
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", epoch=trainer.epoch)
            stop, last = requested.is_set(), trainer.step == config.steps
            if last or trainer.step % config.validate_every == 0:
                values = trainer.validate()
                bar.write(f"step {trainer.step}: " + ", ".join(f"{k} {v:.4f}" for k, v in values.items()))
                row = {"step": trainer.step, "seconds": round(time.perf_counter() - started), "train": loss, **values}
                with open(checkpoint.with_name("log.jsonl"), "a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
                if values["loss"] < trainer.best:
                    trainer.best = values["loss"]
                    _save(trainer.trained(), best)
            if last or stop or trainer.step % config.checkpoint_every == 0:
                _save(trainer.state_dict(), checkpoint)
            if stop and not last:
                bar.write(f"interrupted; step {trainer.step} is saved to {checkpoint}")
                _export(trainer, checkpoint, best)
                raise KeyboardInterrupt
    _export(trainer, checkpoint, best)


def _export(trainer: Trainer, checkpoint: Path, best: Path) -> None:
    if trainer.config.keep_best and best.exists():
        trainer.load_trained(torch.load(best, weights_only=True))
    models.save(trainer.model.cpu(), trainer.processor, trainer.config, checkpoint.with_name("model"))


def _save(state: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(trainer: Trainer, path: Path) -> None:
    """Go on from ``path``.

    Raises:
        CheckpointError: it is damaged, or of a training with another config, another tokenizer or other utterances.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved, fingerprint = from_mapping(SpeechLmConfig, state["config"]).to_dict(), state["fingerprint"]
    except Exception as error:  # damaged bytes fail anywhere in the reader
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to start again") from error
    if fingerprint != trainer.processor.tokenizer.fingerprint:
        raise CheckpointError(
            f"{path} was trained with the speech tokenizer {fingerprint}, and this is "
            f"{trainer.processor.tokenizer.fingerprint}; expected the same: choose another out=…"
        )
    for name, value in trainer.config.to_dict().items():
        if name not in _FREE and value != saved[name]:
            raise CheckpointError(
                f"{path} was trained with {name} {saved[name]!r}, and the config says {value!r}; choose another "
                "out=… for another training"
            )
    try:
        trainer.load_state_dict(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is of another version ({error!r}); choose another out=…") from error


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config(parser)
    arguments = parser.parse_args()
    print(f"wrote {train(load_config(arguments.config, arguments.overrides))}")


if __name__ == "__main__":
    sys.exit(run(main))
