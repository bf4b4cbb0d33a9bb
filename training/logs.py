"""What a training tells: a progress bar, and scalars, audio and pictures in TensorBoard."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from speechtok.errors import CheckpointError
from speechtok.plot import spectrogram_figure
from training.validation import Validation, missing_scores, perplexity

if TYPE_CHECKING:
    from training.train import Trainer

_TOLD = "mel", "spectrum", "labels", "acoustic"
"""Losses beside the progress bar."""


class Log:
    """The progress bar and the TensorBoard files of a training; silent in all processes but the first.

    Args:
        out: folder of the training.
        trainer: the training, at the step where it goes on.
    """

    def __init__(self, out: Path, trainer: "Trainer") -> None:
        self.trainer = trainer
        self.failed_checkpoints = 0
        self._skipped = trainer.skipped_steps
        writes, step = trainer.world.writes, trainer.step
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1) if writes else None
        self._bar = tqdm(
            total=trainer.config.steps,
            initial=step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            disable=not writes,
        )
        if step:
            self.write(f"going on from step {step}")
        for name, library in missing_scores().items():
            self.write(f"validation goes without {name}: pip install {library}")
        self._rest()

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
        with self._on_disk() as writer:
            if writer is not None:
                writer.close()

    def write(self, line: str) -> None:
        """A line above the progress bar."""
        if self.trainer.world.writes:
            tqdm.write(line)

    def step(self, terms: dict[str, Tensor]) -> None:
        """A step was run, and gave ``terms``; see :meth:`training.train.Trainer.run_step`."""
        trainer, config = self.trainer, self.trainer.config
        self._bar.update()
        if trainer.skipped_steps > self._skipped:
            self._skipped = trainer.skipped_steps
            found = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
            self.write(f"step {trainer.step - 1} is skipped, the {self._skipped}. so far: {found}")
        if self._writer is None or (trainer.step % config.log_every and trainer.step != config.steps):
            return
        values = {name: float(value) for name, value in terms.items() if name != "counts"}
        steps, seconds = trainer.step - self._since_step, time.perf_counter() - self._since
        values["seconds_per_second"] = (
            steps * config.batch_size * config.crop_frames / config.model.frame_rate / seconds
        )
        values["learning_rate"] = float(trainer.optimizers[0][0].param_groups[0]["lr"])
        values["skipped_steps"] = trainer.skipped_steps
        values["failed_checkpoints"] = self.failed_checkpoints
        self._scalars("train", values)
        if "counts" in terms:
            self._scalars("batch_perplexity", {str(q): v for q, v in enumerate(perplexity(terms["counts"]))})
        told = {name: f"{values[name]:.3f}" for name in _TOLD if name in values}
        self._bar.set_postfix(told, audio=f"{values['seconds_per_second']:.0f}s/s")
        self._rest()

    def validation(self, validation: Validation) -> None:
        """The tokenizer was validated."""
        step, model = self.trainer.step, self.trainer.config.model
        self._scalars("validation", validation.values)
        with self._on_disk() as writer:
            if writer is not None:
                edges = np.linspace(0, model.codebook_size, min(64, model.codebook_size) + 1)
                for stage, codes in enumerate(validation.codes):
                    writer.add_histogram(f"codes/{stage}", codes, step, bins=edges)
                for index, (original, decoded) in enumerate(validation.pairs[:4]):
                    writer.add_audio(f"original/{index}", original, step, model.sample_rate)
                    writer.add_audio(f"decoded/{index}", decoded, step, model.sample_rate)
                    figure = spectrogram_figure(original, decoded, model.sample_rate)
                    writer.add_figure(f"spectrogram/{index}", figure, step)
        self.write(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in validation.values.items()))
        self._rest()

    def failed_checkpoint(self, error: CheckpointError) -> None:
        """A checkpoint could not be written, and training goes on."""
        self.failed_checkpoints += 1
        self.write(f"warning, the {self.failed_checkpoints}. of its kind: {error}")

    def _rest(self) -> None:
        """Speed is counted from here: validation is no training."""
        self._since, self._since_step = time.perf_counter(), self.trainer.step

    def _scalars(self, group: str, values: dict[str, float]) -> None:
        with self._on_disk() as writer:
            if writer is not None:
                for name, value in values.items():
                    writer.add_scalar(f"{group}/{name}", value, self.trainer.step)

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[SummaryWriter | None]:
        """The writer, given up at its first error: a full disk costs the pictures, not the training."""
        try:
            yield self._writer
        except OSError as error:
            self._writer = None
            self.write(f"warning: TensorBoard files cannot be written ({error}); training goes on without them")
