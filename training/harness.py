"""The training harness: runs a trainer from its start, or from its last checkpoint, to its last step.

The harness owns what every training needs: prefetched batches, logs that cannot end a training, atomic checkpoints, a
full disk that costs neither the training nor its result, and stop signals taken between two steps. A trainer owns what
it learns. It plugs in by the :class:`Trainer` protocol::

    class MyTrainer:
        def __init__(self, config: MyConfig, world: World) -> None:
            self.config, self.world = config, world
            self.device = torch.device("cpu")
            self.step, self.skipped = 0, SkippedSteps()
            self.model = nn.Linear(4, 1)
            self.optimizers = muon_and_adamw([self.model.weight], [self.model.bias], muon_lr=1e-2, adamw_lr=1e-2)

        def batch(self, step: int) -> Tensor:  # a function of the config and the step alone
            return torch.randn(8, 4, generator=torch.Generator().manual_seed(step))

        def run_step(self, batch: Tensor) -> dict[str, Tensor]:
            loss = self.model(batch.to(self.device)).square().mean()
            loss.backward()
            if all_finite({"loss": loss}):
                self.skipped.reset()
                self.optimizers.set_rates(learning_rate_factor(self.step, self.config.steps, 10, 0.5))
                self.optimizers.step()
            else:
                self.skipped.add(self.step, {"loss": loss})
            self.optimizers.zero_grad()
            self.step += 1
            return {"loss": loss.detach()}

        def scalars(self, terms: dict[str, Tensor]) -> dict[str, float]:
            return {"train/loss": float(terms["loss"])}

        def state_dict(self) -> dict[str, Any]: ...  # has "config" and "step"
        def load_state_dict(self, state: dict[str, Any]) -> None: ...
        def fixed_values(self, state: dict[str, Any]) -> dict[str, Any]:
            return {"seed": state["config"]["seed"]}

    run = Run(out=Path("runs/mine"), steps=config.steps, log_every=20, validate_every=500, checkpoint_every=500)
    with init_world() as world:
        make_folder(run.out)
        trainer = MyTrainer(config, world)
        resume(trainer, run)
        export = Export(run.out / "model", lambda: save(trainer.model, run.out / "model"), weight_bytes=16)
        fit(trainer, run, validate=lambda: Report({"loss": 0.1}), export=export)

An interrupted run that is started again with the same command resumes from its last checkpoint. It reaches the weights
of an uninterrupted run, provided that a batch depends on the config and the step alone, and that the state holds
everything else that a step depends on.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from speechtok.errors import CheckpointError
from training.checkpoints import CHECKPOINT_NAME, check_fixed_values, read_checkpoint, save_checkpoint
from training.distributed import World
from training.logs import Log, Report
from training.prefetch import prefetch
from training.results import Export, keep_room, write_results
from training.signals import stop_requests
from training.skipped import SkippedSteps

Batch = TypeVar("Batch")


class Trainer(Protocol[Batch]):
    """One training: what it learns, how it steps, and what it saves.

    Attributes:
        step: optimizer steps done, skipped ones included.
        skipped: count of the skipped steps.
        device: where it computes.
        world: the processes that train together.
    """

    step: int
    skipped: SkippedSteps
    device: torch.device
    world: World

    def batch(self, step: int) -> Batch:
        """The batch of a step, on the CPU. Called ahead of the step, in a thread or in worker processes."""

    def run_step(self, batch: Batch) -> dict[str, Tensor]:
        """Run one optimizer step. Returns losses and other results by name."""

    def scalars(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Scalars to log, named ``"group/name"``, from what :meth:`run_step` returned."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, with ``"config"`` (a dict) and ``"step"``."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned. KeyError, ValueError or RuntimeError: the state does not fit."""

    def fixed_values(self, state: dict[str, Any]) -> dict[str, Any]:
        """The values of a state that resuming must not change, such as most of its config."""


@dataclass(frozen=True)
class Run:
    """Where a training runs, how long, and how often it logs, validates and saves.

    Attributes:
        out: folder of the run.
        steps: optimizer steps of the whole training.
        log_every: steps between scalars.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        workers: processes that make batches; 0 for a thread.
        seconds_per_step: audio in a batch, in seconds.
        compiled: whether the trainer uses ``torch.compile``, so that its first steps take minutes.
        name: title of the progress bar.
        shown: scalars beside the progress bar, without their groups.
        checkpoint_name: file name of the checkpoint.
        tensorboard_name: folder of the TensorBoard files, below ``out``.
    """

    out: Path
    steps: int
    log_every: int
    validate_every: int
    checkpoint_every: int
    workers: int = 0
    seconds_per_step: float = 0.0
    compiled: bool = False
    name: str = "training"
    shown: tuple[str, ...] = ("loss",)
    checkpoint_name: str = CHECKPOINT_NAME
    tensorboard_name: str = "tensorboard"

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return self.out / self.checkpoint_name


def resume(trainer: Trainer[Any], run: Run) -> bool:
    """Restore the last checkpoint of the run. Only the first process reads it.

    Returns:
        Whether there was a checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to a training with another config.
    """
    world, path = trainer.world, run.checkpoint
    if not world.broadcast_object(path.exists()):
        return False
    state = world.broadcast_object(read_checkpoint(path) if world.writes else None)
    check_fixed_values(path, trainer.fixed_values(state), trainer.fixed_values(trainer.state_dict()))
    try:
        trainer.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not fit this version of the training code ({error!r}); choose another out=…, and for a "
            f"tokenizer start_from={path} to keep its weights"
        ) from error
    return True


def fit(
    trainer: Trainer[Any],
    run: Run,
    validate: Callable[[], Report] | None = None,
    export: Export | None = None,
) -> bool:
    """Train from the trainer's current step to the last step of the run, then write the result.

    If the disk is full at the last step, the process waits for room; see :mod:`training.results`.

    Args:
        trainer: the training.
        run: folder, length and intervals.
        validate: measures the trainer's current weights; called in the first process only.
        export: the result of the training; written in the first process only.

    Returns:
        Whether a stop was requested during the last step; the run is complete then.

    Raises:
        CheckpointError: the last checkpoint cannot be written. The message says where the result is.
        OutputError: there is no room for the result, or it cannot be written. The checkpoint has the weights.
        KeyboardInterrupt: a stop was requested by Ctrl-C or SIGTERM, and the state was saved.
    """
    world, first = trainer.world, trainer.step
    stop = False

    def save() -> None:
        save_checkpoint(trainer.state_dict(), run.checkpoint)

    batches = prefetch(trainer.batch, trainer.step, run.steps, run.workers, trainer.device.type == "cuda")
    with (
        Log(
            run.out / run.tensorboard_name,
            trainer.step,
            run.steps,
            run.name,
            run.shown,
            run.seconds_per_step,
            world.writes,
        ) as log,
        stop_requests() as requested,
        contextlib.closing(batches),
        keep_room(export if world.writes else None, run.out) as release,
    ):
        if run.compiled and trainer.step < run.steps:
            log.write(
                "compiling with torch.compile before the first step, which takes a few minutes on a CPU; compile=false "
                "starts at once, with slightly slower steps"
            )
        started = time.perf_counter() if run.compiled else None
        for batch in batches:
            skipped = trainer.skipped.total
            terms = trainer.run_step(batch)
            log.step()
            if started is not None:
                log.write(f"compiled; the first step took {time.perf_counter() - started:.0f} s")
                started = None
            if trainer.skipped.total > skipped:
                log.skipped(terms, trainer.skipped.total)
            stop, last = world.any(requested.is_set()), trainer.step == run.steps
            if world.writes and (last or trainer.step % run.log_every == 0):
                log.scalars(trainer.scalars(terms) | {"train/skipped_steps": trainer.skipped.total})
            if last:
                break
            if world.writes and (stop or trainer.step % run.checkpoint_every == 0):
                try:
                    save()
                except CheckpointError as error:
                    if stop:
                        raise
                    log.failed_checkpoint(error)
            if world.writes and validate is not None and trainer.step % run.validate_every == 0:
                log.validation(validate())
            if stop:
                log.write(f"interrupted; step {trainer.step} is saved to {run.checkpoint}")
                raise KeyboardInterrupt
        if world.writes:
            release()
            trained = trainer.step > first
            failure = write_results(save if trained else None, export, log.write, requested)
            if trained and validate is not None:
                log.validation(validate())
            if failure is not None:
                raise failure
    return stop
