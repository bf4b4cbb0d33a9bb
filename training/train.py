"""Train a tokenizer: ``python -m training.train --config training/configs/default.yaml data=DIR``.

A training that is interrupted resumes from its last checkpoint when the same command is run again, and reaches the
weights of an uninterrupted one. ``torchrun --nproc-per-node=8 -m training.train …`` shares each batch between several
GPUs or machines; the weights are the same, up to rounding of sums.
"""

import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import speechtok
from speechtok.errors import CheckpointError
from speechtok.extras import install_hint
from training.checkpoints import make_folder
from training.command import run_command
from training.config import TrainingConfig, load_config
from training.distributed import World, init_world
from training.harness import Run, fit, resume
from training.logs import Report
from training.results import Export
from training.splits import Splits, load_splits
from training.trainer import Trainer
from training.validation import missing_scores, validate


def train(config: TrainingConfig) -> Path:
    """Run a training from its start, or from its last checkpoint, to its end.

    Returns:
        The folder of the exported tokenizer.

    Raises:
        SpeechtokError: the config, the data or the checkpoint cannot be used, or too many steps in a row are skipped.
        KeyboardInterrupt: a stop was requested, and the state was saved.
    """
    with init_world() as world:
        return _train(config, world)


def _train(config: TrainingConfig, world: World) -> Path:
    run = run_of(config)
    make_folder(run.out)
    resumes = world.broadcast_object(run.checkpoint.exists())
    start = speechtok.load(config.start_from) if config.start_from and not resumes else None
    splits = load_splits(config, world)
    trainer = Trainer(config, splits.train, world, splits.features, splits.labels, splits.noise)
    if resume(trainer, run):
        check_frozen_half(trainer)
        if trainer.step >= config.steps and world.writes:
            print(f"{run.out} has completed {trainer.step} of {config.steps} steps; pass a higher steps=…, or out=…")
    elif start is not None:
        trainer.load_tokenizer(start)
    if world.writes:
        for name, library in missing_scores().items():
            print(f"validation skips {name}; it needs {library}: {install_hint('bench')}")
    export = export_of(trainer, run.out / "tokenizer")
    fit(trainer, run, lambda: validation_report(trainer, splits), export)
    world.barrier()
    return export.path


def export_of(trainer: Trainer, folder: Path) -> Export:
    """The exported tokenizer, for the harness."""

    def write() -> None:
        # float16 halves the size on disk; the rounding is far below the noise of training
        copy.deepcopy(trainer.tokenizer).round_weights().save(folder)

    tensors = trainer.tokenizer.state_dict().values()
    return Export(folder, write, sum(x.numel() * x.element_size() for x in tensors))


def run_of(config: TrainingConfig) -> Run:
    """Folder, length and intervals of a training, for the harness."""
    return Run(
        out=Path(config.out),
        steps=config.steps,
        log_every=config.log_every,
        validate_every=config.validate_every,
        checkpoint_every=config.checkpoint_every,
        workers=config.workers,
        seconds_per_step=config.batch_size * config.crop_frames / config.model.frame_rate,
        compiled=config.compile,
        shown=("mel", "spectrum", "labels", "acoustic"),
    )


def validation_report(trainer: Trainer, splits: Splits) -> Report:
    """Validate the exported tokenizer."""
    config = trainer.config
    validation = validate(
        trainer.tokenizer,
        trainer.reconstruction,
        splits.dev,
        splits.alignments,
        config.validation_utterances,
        config.distillation.delay,
    )
    return Report(validation.values, validation.write_media)


def check_frozen_half(trainer: Trainer) -> None:
    """On resume, check that the frozen half still matches ``start_from``, if that still exists.

    Raises:
        CheckpointError: ``start_from`` has changed.
    """
    config = trainer.config
    if not config.train_only or not Path(config.start_from).exists():
        return
    start, current = trainer.grow(speechtok.load(config.start_from)), trainer.tokenizer.state_dict()
    if config.train_only == "decoder":
        start.round_weights()
    if trainer.frozen_encoder is not None:
        current |= {f"encoder.{name}": x for name, x in trainer.frozen_encoder.state_dict().items()}
    trained = "decoder." if config.train_only == "decoder" else "quantizer."
    frozen = {name: x for name, x in start.state_dict().items() if not name.startswith(trained)}
    if any(not torch.equal(current[name].cpu(), x) for name, x in frozen.items()):
        raise CheckpointError(
            f"{config.out} trains the {config.train_only} of {config.start_from}, which has changed since it started; "
            "restore that tokenizer, or choose another out=…"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return run_command("training.train", __doc__, TrainingConfig, load_config, train, argv)


if __name__ == "__main__":
    sys.exit(main())
