"""Training of a turn detector: from a manifest and a tokenizer to ``turns.safetensors``."""

import copy
import dataclasses
from pathlib import Path

from speechtok.convnext import ConvNeXtTokenizer
from speechtok.turn_detector import FILE_NAME, round_weights, write_turns
from training.checkpoints import make_folder
from training.dataset import Corpus
from training.events.config import EventsConfig
from training.events.encoding import EncodedScenes, encode_scenes
from training.events.scenes import SceneSampler
from training.events.splits import Split, load_splits
from training.events.trainer import EventsTrainer
from training.events.validation import validate
from training.harness import Run, fit, resume
from training.logs import Report
from training.results import Export
from training.tokenizer import load_tokenizer


def train_events(config: EventsConfig) -> Path:
    """Train from the start, or from the last checkpoint, and write the detector.

    Returns:
        The file of the detector.

    Raises:
        SpeechtokError: the config, the data, the tokenizer or a checkpoint cannot be used.
        KeyboardInterrupt: a stop was requested, and the state was saved.
    """
    out = Path(config.out)
    make_folder(out)
    tokenizer = load_tokenizer(config.tokenizer)
    splits = load_splits(config, tokenizer.sample_rate)
    train, dev = (
        encode_split(config, tokenizer, split, count, name)
        for split, count, name in zip(splits, (config.scenes, config.dev_scenes), ("train", "dev"), strict=True)
    )
    trainer = EventsTrainer(config, tokenizer.quantizer, tokenizer.fingerprint, train)
    path = out / FILE_NAME

    def export() -> None:
        network = round_weights(copy.deepcopy(trainer.network))
        write_turns(path, config.model(trainer.codebooks.shape[2]), network, tokenizer.fingerprint)

    run = Run(
        out=out,
        steps=config.steps,
        log_every=config.log_every,
        validate_every=config.validate_every,
        checkpoint_every=config.checkpoint_every,
        seconds_per_step=config.batch_size * config.scene.seconds,
        name="turn detector",
        shown=("loss", "speech_loss", "end_of_turn_loss", "overlap_loss"),
    )
    resume(trainer, run)
    size = 2 * sum(parameter.numel() for parameter in trainer.network.parameters())
    stopped = fit(
        trainer, run, lambda: Report(validate(trainer.network, trainer.codebooks, dev)), Export(path, export, size)
    )
    if stopped:
        raise KeyboardInterrupt
    return path


def encode_split(
    config: EventsConfig, tokenizer: ConvNeXtTokenizer, split: Split, count: int, name: str
) -> EncodedScenes:
    """Scenes of a split, encoded."""
    sampler = SceneSampler(
        config.scene,
        split.speech,
        split.spans,
        split.noise,
        tokenizer.hop_length,
        tokenizer.sample_rate,
        config.seed + (0 if name == "train" else 1_000_003),
    )
    description = {
        "scene": dataclasses.asdict(config.scene),
        "seed": config.seed,
        "split": name,
        "speech": _identity(split.speech),
        "spans": split.spans,
        "noise": _identity(split.noise),
    }
    return encode_scenes(tokenizer, sampler, count, description, Path(config.out) / "scenes", f"encoding {name}")


def _identity(corpus: Corpus | None) -> list[int] | None:
    """Numbers that differ between corpora."""
    return (
        None if corpus is None else [len(corpus), corpus.size, *corpus.samples[:: max(1, corpus.size // 64)].tolist()]
    )
