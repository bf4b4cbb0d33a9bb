"""Compare models of all codebooks after equal training: ``python -m examples.speech_lm.codebooks data=DIR``.

Trains a depth transformer, heads with delays, and a sequence of all codes on the same crops, each for the same CPU time
or the same number of steps. Prints a Markdown table with the bits that each needs for a second of speech of the dev
split.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from examples.speech_lm import models
from examples.speech_lm.config import SpeechLmConfig, load_config, run
from examples.speech_lm.dataset import CropDataset, crop_frames
from examples.speech_lm.prepare import TokenizedUtterance, load_tokenizer, prepare
from examples.speech_lm.trainer import Trainer, total_nll
from speechtok.files import replacing

CONFIGS = Path(__file__).parent / "configs"
MODELS = {
    "depth": "depth transformer over the codebooks of a frame",
    "delay": "one head per codebook, with delays",
    "flatten": "one sequence of all codes",
}
"""Models by the names of their configs."""

_TRIAL_STEPS = 5
"""Steps by which the time of a step is estimated, after as many that are not timed."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Row of the table.

    Attributes:
        name: of the model.
        parameters: number of weights.
        steps: optimizer steps.
        cpu_minutes: CPU time of the steps.
        speech_minutes: speech that the model was trained on, with repetitions.
        bits_per_second: cross-entropy on dev, in bits for each second of speech.
    """

    name: str
    parameters: int
    steps: int
    cpu_minutes: float
    speech_minutes: float
    bits_per_second: float


def train_and_measure(config: SpeechLmConfig, name: str, minutes: float, steps: int = 0) -> Result:
    """Train a model for a CPU time, or for a number of steps above 0, and measure it on dev."""
    tokenizer = load_tokenizer(config)
    processor = models.make_processor(config, tokenizer)
    frames = crop_frames(config, processor.vocabulary)
    train, dev = (
        CropDataset(prepare(config, tokenizer, split), processor.vocabulary, frames, config.seed)
        for split in ("train", "dev")
    )
    steps = steps or _steps_within(Trainer(config, processor, train, dev), 60 * minutes)
    config = dataclasses.replace(config, steps=steps)
    trainer = Trainer(config, processor, train, dev)
    frames_seen, started = 0, time.process_time()
    for step in range(config.steps):
        frames_seen += sum(train.frames(index) for index in trainer.next_batch())
        loss = trainer.run_step()
        if step % max(1, config.steps // 20) == 0:
            print(f"{name}: step {step} of {config.steps}, loss {loss:.3f}", file=sys.stderr, flush=True)
    spent = time.process_time() - started
    trainer.model.eval()
    nats, _ = total_nll(trainer.model, dev, processor, config)["speech"]
    seconds = sum(dev.frames(index) for index in range(len(dev.lengths))) / tokenizer.frame_rate
    return Result(
        name,
        sum(p.numel() for p in trainer.model.parameters()),
        config.steps,
        spent / 60,
        frames_seen / tokenizer.frame_rate / 60,
        nats / math.log(2) / seconds,
    )


def _steps_within(trainer: Trainer, seconds: float) -> int:
    """Number of steps that take about this CPU time; the trainer is spent afterwards."""
    for _ in range(_TRIAL_STEPS):
        trainer.run_step()
    started = time.process_time()
    for _ in range(_TRIAL_STEPS):
        trainer.run_step()
    return max(1, round(seconds * _TRIAL_STEPS / (time.process_time() - started)))


def unigram_bits_per_second(train: Sequence[TokenizedUtterance], dev: Sequence[TokenizedUtterance]) -> float:
    """Bits per second of dev with one distribution for each codebook, counted on train with add-one smoothing."""
    size, frame_rate = train[0].tokens.codebook_size, train[0].tokens.frame_rate
    counts, codes = (torch.cat([one.tokens.codes[0] for one in split], 1) for split in (train, dev))
    bits = 0.0
    for of_train, of_dev in zip(counts, codes, strict=True):
        frequencies = torch.bincount(of_train, minlength=size).double() + 1
        bits -= float((frequencies / frequencies.sum()).log2()[of_dev].sum())
    return bits / codes.shape[1] * frame_rate


def table(results: Sequence[Result], unigram: float) -> str:
    """The Markdown table."""
    rows = [
        "| model | parameters, M | steps | CPU minutes | speech read, minutes | bits per second of speech |",
        "|---|---|---|---|---|---|",
        f"| frequencies of the codes | | | | | {unigram:.0f} |",
    ]
    rows += [
        f"| {MODELS[r.name]} | {r.parameters / 1e6:.1f} | {r.steps} | {r.cpu_minutes:.1f} | {r.speech_minutes:.0f} | "
        f"{r.bits_per_second:.0f} |"
        for r in results
    ]
    return "\n".join(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.speech_lm.codebooks", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes of each training (%(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="steps of each training, instead of a CPU time")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="models to train")
    parser.add_argument(
        "--out", default="runs/speech_lm/codebooks", help="folder of results; a model that has one is not trained again"
    )
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="changes to the configs, such as data=DIR")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results, folder = [], Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.models:
        config = load_config(str(CONFIGS / f"{name}.yaml"), arguments.overrides)
        path = folder / f"{name}.json"
        if path.is_file():
            result = Result(**json.loads(path.read_text(encoding="utf-8")))
        else:
            result = train_and_measure(config, name, arguments.minutes, arguments.steps)
            with replacing(path) as file:
                file.write(json.dumps(dataclasses.asdict(result)).encode())
        results.append(result)
    tokenizer = load_tokenizer(config)
    print(table(results, unigram_bits_per_second(*(prepare(config, tokenizer, split) for split in ("train", "dev")))))


if __name__ == "__main__":
    sys.exit(run(main))
