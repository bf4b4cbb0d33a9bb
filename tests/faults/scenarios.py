"""What runs while faults happen, and what must be true of its files afterwards."""

import json
import shutil
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch

import speechtok
from speechtok.cli import main as speechtok_main
from speechtok.errors import SpeechtokError
from speechtok.files import replacing
from tests.conftest import make_speech, make_tokenizer
from tests.training.conftest import TINY_MODEL
from tests.training.test_harness import Line
from training import results
from training.checkpoints import make_folder
from training.harness import Run, fit, resume
from training.train import main as train_main


class Scenario(ABC):
    """A program that writes files below ``out``.

    Args:
        folder: an empty folder.
        files: number of input files.
    """

    def __init__(self, folder: Path, files: int) -> None:
        self.folder, self.files, self.out = folder, files, folder / "out"

    @abstractmethod
    def prepare(self) -> None:
        """Make the inputs, and the files in ``out`` before the first run."""

    @abstractmethod
    def run(self) -> int:
        """Run the program, in a process of its own, and return its exit status."""

    @abstractmethod
    def remember(self) -> None:
        """Remember the files of a run without faults."""

    @abstractmethod
    def check(self, complete: bool) -> list[str]:
        """List what is wrong with the files, after a fault or, if ``complete``, after the run that follows."""


def _visible(folder: Path) -> dict[str, bytes]:
    """Files below a folder, temporary ones left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".tmp")
    }


class Encode(Scenario):
    """``speechtok encode`` of a folder. Every file that it wrote is whole, whatever happened to the others."""

    def prepare(self) -> None:
        make_tokenizer().save(self.folder / "model")
        (self.folder / "in").mkdir()
        for number in range(self.files):
            waveform = make_speech(0.05 + 0.01 * (number % 7), seed=number % 50)
            speechtok.write_audio(self.folder / "in" / f"{number:05d}.wav", waveform, 16_000)
        self.out.mkdir()

    def run(self) -> int:
        command = ["encode", str(self.folder / "in"), "-o", str(self.out), "--model", str(self.folder / "model")]
        return speechtok_main(command)

    def remember(self) -> None:
        self.expected = _visible(self.out)
        assert len(self.expected) == self.files

    def check(self, complete: bool) -> list[str]:
        found = _visible(self.out)
        faults = [f"{name} is not what was expected" for name in found if found[name] != self.expected.get(name)]
        if complete:
            faults += [f"{name} is missing" for name in self.expected.keys() - found.keys()]
        return faults


class Export(Scenario):
    """A tokenizer that is saved over another."""

    def prepare(self) -> None:
        make_tokenizer(seed=0).save(self.out)
        self.old = _visible(self.out)
        self.tokenizer = make_tokenizer(seed=1)

    def run(self) -> int:
        self.tokenizer.save(self.out)
        return 0

    def remember(self) -> None:
        self.new = _visible(self.out)

    def check(self, complete: bool) -> list[str]:
        found = _visible(self.out)
        if found == self.new or (found == self.old and not complete):
            return []
        # between the two renames, with the old config
        between = {"model.safetensors": self.new["model.safetensors"], "config.json": self.old["config.json"]}
        if found != between or complete:
            return ["the tokenizer is neither the old one nor the new one"]
        try:
            speechtok.load(self.out)
        except SpeechtokError:
            return []
        return ["files of two tokenizers are loaded as one"]


class _Training(Scenario):
    """A training: its last checkpoint and its result are whole, and it reaches the weights of one without faults."""

    def remember(self) -> None:
        self.expected = _weights(self.out)
        self.exported = (self.out / self.result).read_bytes()

    result: str
    """File that the training exports."""

    def check(self, complete: bool) -> list[str]:
        faults = []
        try:
            weights = _weights(self.out)
        except Exception as error:  # any way in which a checkpoint can be damaged
            return [f"the checkpoint is damaged: {error!r:.200}"]
        exported = self.out / self.result
        if exported.exists() and exported.read_bytes() != self.exported:
            faults.append(f"{self.result} is not what was expected")
        if complete:
            if weights != self.expected:
                faults.append("the weights differ from those of a training without faults")
            if not exported.exists():
                faults.append(f"{self.result} is missing")
        return faults


def _weights(out: Path) -> dict[str, bytes] | None:
    path = out / "checkpoint.pt"
    if not path.exists():
        return None
    return {name: tensor.numpy().tobytes() for name, tensor in _tensors(torch.load(path, weights_only=True))}


def _tensors(state: Any, name: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(state, torch.Tensor):
        return [(name, state)]
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    return [found for key, value in items for found in _tensors(value, f"{name}/{key}")]


class Loop(_Training):
    """The harness of all trainings, with a model of a few numbers."""

    result = "model.pt"

    def prepare(self) -> None:
        self.out.mkdir()

    def run(self) -> int:
        results.RETRY_SECONDS = 0.01
        trainer, path = Line(), self.out / self.result
        run = Run(out=self.out, steps=10, log_every=2, validate_every=4, checkpoint_every=3)

        def write() -> None:
            with replacing(path) as file:
                torch.save(trainer.model.state_dict(), file)

        try:
            make_folder(self.out)
            resume(trainer, run)
            fit(trainer, run, export=results.Export(path, write, weight_bytes=1_000))
        except SpeechtokError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0


class Training(_Training):
    """``python -m training.train``."""

    result = "tokenizer/model.safetensors"

    def prepare(self) -> None:
        (self.folder / "in").mkdir()
        for number in range(self.files):
            speechtok.write_audio(self.folder / "in" / f"{number}.flac", make_speech(0.5, seed=number), 16_000)
        config = {
            "data": str(self.folder / "in"),
            "out": str(self.out),
            "steps": 8,
            "batch_size": 4,
            "crop_seconds": 0.3,
            "bfloat16": False,
            "compile": False,
            "validate_every": 100,
            "validation_utterances": 1,
            "checkpoint_every": 3,
            "model": TINY_MODEL,
            "quantizer": {"start_step": 2},
            "optimizer": {"warmup_steps": 2},
        }
        (self.folder / "config.yaml").write_text(json.dumps(config))
        self.out.mkdir()

    def run(self) -> int:
        results.RETRY_SECONDS = 0.01
        return train_main(["--config", str(self.folder / "config.yaml")])


SCENARIOS: dict[str, type[Scenario]] = {"encode": Encode, "export": Export, "loop": Loop, "training": Training}


def restore(scenario: Scenario, before: Path) -> None:
    """Put the files back that stood in ``out`` before the first run."""
    shutil.rmtree(scenario.out)
    shutil.copytree(before, scenario.out)
