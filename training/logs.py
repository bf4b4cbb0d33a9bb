"""Logs of a training: progress bar and TensorBoard."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from speechtok.errors import CheckpointError

Media = Callable[[SummaryWriter, int], None]
"""Writes audio, pictures or histograms of a step to TensorBoard."""


@dataclass(frozen=True)
class Report:
    """Result of a validation.

    Attributes:
        values: scalars by name.
        media: what else goes to TensorBoard.
    """

    values: Mapping[str, float]
    media: Media | None = None


class Log:
    """Progress bar and TensorBoard files of a run.

    Errors of TensorBoard never end a training: after the first one, logging to TensorBoard stops with a warning.

    Args:
        tensorboard: folder of the TensorBoard files.
        step: step at which the training starts or resumes. Events of later steps, from a run that was killed, are
            hidden.
        steps: step at which the training ends.
        name: title of the progress bar.
        shown: scalars beside the progress bar.
        seconds_per_step: audio in a batch, in seconds, for the throughput.
        enabled: whether this process logs. If not, all methods do nothing.
    """

    def __init__(
        self,
        tensorboard: Path,
        step: int,
        steps: int,
        name: str,
        shown: Sequence[str],
        seconds_per_step: float,
        enabled: bool = True,
    ) -> None:
        self.current_step, self.shown, self.seconds_per_step, self.enabled = step, shown, seconds_per_step, enabled
        self.failed_checkpoints = 0
        self._writer: SummaryWriter | None = None
        with self._guarded():
            self._writer = SummaryWriter(str(tensorboard), purge_step=step + 1) if enabled else None
        self._bar = tqdm(total=steps, initial=step, desc=name, unit="step", dynamic_ncols=True, disable=not enabled)
        if step:
            self.write(f"resuming from step {step}")
        self._restart_clock()

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
        with self._guarded() as writer:
            if writer is not None:
                writer.close()

    def write(self, line: str) -> None:
        """Print a line above the progress bar."""
        if self.enabled:
            tqdm.write(line)

    def step(self) -> None:
        """Advance the progress bar by one step."""
        self.current_step += 1
        self._bar.update()

    def skipped(self, terms: Mapping[str, Tensor], total: int) -> None:
        """Report that the last step was skipped, the ``total``-th of the training, and why."""
        found = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
        self.write(f"step {self.current_step - 1} was skipped ({total} so far): not all finite: {found}")

    def scalars(self, scalars: Mapping[str, float]) -> None:
        """Log scalars of the last step, named ``"group/name"``, and the throughput since the previous call."""
        seconds = time.perf_counter() - self._since
        throughput = (self.current_step - self._since_step) * self.seconds_per_step / seconds
        extra = {"train/seconds_per_second": throughput, "train/failed_checkpoints": self.failed_checkpoints}
        self._add_scalars({**scalars, **extra})
        names = {name.rpartition("/")[2]: value for name, value in scalars.items()}
        self._bar.set_postfix(
            {name: f"{names[name]:.3g}" for name in self.shown if name in names}, audio=f"{throughput:.0f}s/s"
        )
        self._restart_clock()

    def validation(self, report: Report) -> None:
        """Log the result of a validation after the last step."""
        self._add_scalars({f"validation/{name}": value for name, value in report.values.items()})
        if report.media is not None:
            with self._guarded() as writer:
                if writer is not None:
                    report.media(writer, self.current_step)
        values = ", ".join(f"{name} {value:.4g}" for name, value in report.values.items())
        self.write(f"step {self.current_step}: {values}")
        self._restart_clock()

    def failed_checkpoint(self, error: CheckpointError) -> None:
        """Report a checkpoint that could not be written, after which training continues."""
        self.failed_checkpoints += 1
        self.write(f"warning ({self.failed_checkpoints} failed checkpoints so far): {error}")

    def _restart_clock(self) -> None:
        """Measure throughput from here: validation does not count."""
        self._since, self._since_step = time.perf_counter(), self.current_step

    def _add_scalars(self, scalars: Mapping[str, float]) -> None:
        with self._guarded() as writer:
            if writer is not None:
                for name, value in scalars.items():
                    writer.add_scalar(name, value, self.current_step)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[SummaryWriter | None]:
        """The writer; given up at its first error, since a full disk must not end a training."""
        try:
            yield self._writer
        except OSError as error:
            self._writer = None
            self.write(f"warning: TensorBoard files cannot be written ({error}); training continues without them")
