"""What a training is made of: a YAML file, changed by ``name=value`` arguments."""

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from speechtok.config import from_mapping
from speechtok.errors import ConfigError, SpeechtokError
from training.config import read_values

STAGES = ("language", "voice")


@dataclass(frozen=True)
class SpeechLmConfig:
    """A training, complete: the same config, data and machine give the same weights.

    Attributes:
        data: folder with ``train.jsonl`` and ``dev.jsonl``: JSON lines with ``audio``, a path below the folder, and
            for what is to be read or spoken ``text``.
        out: folder of the run: checkpoint, log, and the trained model.
        steps: optimizer steps.
        stage: ``"language"`` learns text and codebook 0; ``"voice"`` learns the other codebooks of given codes of
            codebook 0.
        tokens: folder for the manifests as tokens; trainings share it.
        tokenizer: of speech, as :func:`speechtok.load` takes it; the embedded default if empty.
        pattern: of the vocabulary, see :mod:`speechtok.lm.patterns`.
        num_codebooks: of the vocabulary, from the first.
        model: a model of transformers from scratch: ``model_type``, and the fields of its configuration.
        pretrained: a model to go on from instead, a local directory or a name on the Hugging Face hub.
        lora_rank: train low-rank changes of ``pretrained`` and the new ids only (peft); 0: train everything.
        lexicon: a pronouncing dictionary as CMU's, to learn to say and to hear by phones, see ``phones.py``; if empty,
            text becomes speech at once, and speech text.
        utterances: train on so many, drawn by ``seed``, with a text each; 0: on all.
        crop_seconds: length of what the stage ``"voice"`` sees at a time; the other sees whole utterances.
        batch_ids: ids of a batch, at most (but one row at least).
        text_weight: of an id of the text in the loss; an id of speech has 1, and there are many more.
        learning_rate: peak rate of AdamW: linear warm-up, then linear decay to zero.
        warmup_steps: steps of warm-up.
        weight_decay: of AdamW.
        clip_norm: largest norm of the gradient.
        keep_best: export the weights of the best validation instead of the last ones.
        seed: of weights, batches and dropout.
        device: ``"cpu"``, ``"cuda"``, …
        bfloat16: matrix products in bfloat16 (autocast), where the device has instructions for it.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
    """

    data: str
    out: str
    steps: int
    stage: str = "language"
    tokens: str = "runs/speech_lm/tokens"
    tokenizer: str = ""
    pattern: dict = field(default_factory=lambda: {"name": "semantic", "longest_run": 16})  # type: ignore[type-arg]
    num_codebooks: int = 1
    model: dict = field(default_factory=dict)  # type: ignore[type-arg]
    pretrained: str = ""
    lora_rank: int = 0
    lexicon: str = ""
    utterances: int = 0
    crop_seconds: float = 3.0
    batch_ids: int = 4000
    text_weight: float = 1.0
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    keep_best: bool = False
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = True
    validate_every: int = 1000
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("data", "out", "tokens"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; expected a path, such as {name}=DIR")
        if self.stage not in STAGES:
            raise ConfigError(f"stage is {self.stage!r}; expected one of {', '.join(STAGES)}")
        for name, least in (("steps", 1), ("num_codebooks", 1), ("batch_ids", 1), ("validate_every", 1),
                            ("checkpoint_every", 1), ("utterances", 0), ("lora_rank", 0), ("warmup_steps", 0),
                            ("seed", 0), ("weight_decay", 0), ("text_weight", 0)):  # fmt: skip
            if not least <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {least}")
        for name in ("learning_rate", "clip_norm", "crop_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected above 0")
        if bool(self.model) == bool(self.pretrained):
            raise ConfigError(
                f"model is {self.model!r} and pretrained is {self.pretrained!r}; expected one of them: a model_type "
                "and its fields for a new model, or the directory of one to go on from"
            )
        if self.lora_rank and not self.pretrained:
            raise ConfigError(f"lora_rank is {self.lora_rank} without pretrained; expected 0: train all of a new model")
        if self.stage == "voice" and self.lexicon:
            raise ConfigError(f"lexicon is {self.lexicon!r} for the stage voice, which needs no text; expected ''")
        if self.stage == "voice" and self.num_codebooks < 2:
            raise ConfigError("num_codebooks is 1 for the stage voice; expected 2 or more: codebook 0 is given to it")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def load_config(path: str, overrides: Sequence[str] = ()) -> SpeechLmConfig:
    """Read a YAML file and apply ``name=value`` overrides, dots for nested fields: ``model.hidden_size=256``.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: the file is no YAML, or a field is unknown, missing or of the wrong type.
    """
    return from_mapping(SpeechLmConfig, read_values(path, overrides))


def add_config(parser: argparse.ArgumentParser) -> None:
    """The arguments of a config."""
    parser.add_argument("--config", required=True, help="YAML file; see examples/speech_lm/configs/")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="changes to the config, such as data=DIR")


def run(main: Callable[[], None]) -> int:
    """The exit status of a command line; the user's mistakes are one line."""
    try:
        main()
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
