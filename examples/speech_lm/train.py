"""Train a language model: ``python -m examples.speech_lm.train --config CONFIG.yaml data=DIR``.

After an interruption, the same command continues from the last checkpoint and reaches the same weights as an
uninterrupted training. Ctrl-C saves a checkpoint and exports the model.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from examples.speech_lm import models
from examples.speech_lm.config import SpeechLmConfig, config_parser, load_config, run
from examples.speech_lm.dataset import make_dataset
from examples.speech_lm.prepare import load_tokenizer, prepare
from examples.speech_lm.trainer import Trainer
from speechtok.errors import CheckpointError, OutputError
from speechtok.files import replacing
from speechtok.mapping import from_mapping
from training.signals import stop_requests

# fields that may change when a training is resumed: its length, its machine, and what does not affect the weights
_CHANGEABLE = {
    "steps", "data", "out", "tokens", "lexicon", "device", "validate_every", "checkpoint_every", "keep_best",
}  # fmt: skip


def train(config: SpeechLmConfig) -> Path:
    """Run a training from its start or last checkpoint to its end. Returns the folder of the exported model.

    Raises:
        SpeechtokError: the config, the data or the checkpoint cannot be used.
        KeyboardInterrupt: a stop was requested; the checkpoint is saved and the model exported.
    """
    out = Path(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"out is {config.out!r}, which cannot be written ({error}); choose another") from error
    tokenizer = load_tokenizer(config)
    processor = models.make_processor(config, tokenizer)
    train_set, dev_set = (
        make_dataset(config, prepare(config, tokenizer, split), processor, held_out=split == "dev")
        for split in ("train", "dev")
    )
    trainer = Trainer(config, processor, train_set, dev_set)
    checkpoint, best = out / "checkpoint.pt", out / "best.pt"
    if checkpoint.exists():
        load_checkpoint(trainer, checkpoint)
    _fit(trainer, checkpoint, best)
    return out / "model"


def _fit(trainer: Trainer, checkpoint: Path, best: Path) -> None:
    config = trainer.config
    total = sum(p.numel() for p in trainer.model.parameters())
    trained = sum(p.numel() for p in trainer.parameters.values())
    print(f"{total / 1e6:.1f} M parameters, {trained / 1e6:.1f} M of them trained")
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
                    _save(trainer.trained_weights(), best)
            if last or stop or trainer.step % config.checkpoint_every == 0:
                _save(trainer.state_dict(), checkpoint)
            if stop and not last:
                bar.write(f"interrupted; step {trainer.step} is saved to {checkpoint}")
                _export(trainer, checkpoint, best)
                raise KeyboardInterrupt
    _export(trainer, checkpoint, best)


def _export(trainer: Trainer, checkpoint: Path, best: Path) -> None:
    if trainer.config.keep_best and best.exists():
        trainer.load_trained_weights(torch.load(best, weights_only=True))
    models.save_model(trainer.model.cpu(), trainer.processor, trainer.config, checkpoint.with_name("model"))


def _save(state: dict[str, Any], path: Path) -> None:
    with replacing(path) as file:
        torch.save(state, file)


def load_checkpoint(trainer: Trainer, path: Path) -> None:
    """Restore a trainer from a checkpoint.

    Raises:
        CheckpointError: the file is damaged, or belongs to another config, tokenizer or data.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved, fingerprint = from_mapping(SpeechLmConfig, state["config"]).to_dict(), state["fingerprint"]
    except Exception as error:  # damaged files raise anything
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to start again") from error
    tokenizer = trainer.processor.speech_tokenizer
    if not tokenizer.made(fingerprint):
        raise CheckpointError(
            f"{path} was trained with the speech tokenizer {fingerprint}, and this is {tokenizer.fingerprint}; "
            "expected the same: choose another out=…"
        )
    for name, value in trainer.config.to_dict().items():
        if name not in _CHANGEABLE and value != saved[name]:
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
    """Run the command line."""
    arguments = config_parser("train", __doc__).parse_args()
    print(f"wrote {train(load_config(arguments.config, arguments.overrides))}")


if __name__ == "__main__":
    sys.exit(run(main))
