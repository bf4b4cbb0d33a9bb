"""The config of a training: a YAML file, with ``name=value`` overrides from the command line."""

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from speechtok.errors import ConfigError, SpeechtokError
from speechtok.mapping import from_mapping
from training.command import describe_fields
from training.config import read_values

STAGES = ("language", "speech")


@dataclass(frozen=True)
class SpeechLmConfig:
    """A complete training. The same config, data and machine give the same weights.

    Attributes:
        data: folder with ``train.jsonl`` and ``dev.jsonl``; a manifest as in :mod:`training.manifest`.
        out: folder of the run: checkpoint, log and exported model.
        steps: optimizer steps.
        stage: ``"language"`` learns text and codebook 0; ``"speech"`` learns all codebooks, without text.
        tokens: folder for the tokenized utterances, shared by trainings.
        tokenizer: speech tokenizer, as for :func:`speechtok.load`; the default tokenizer if empty.
        pattern: codebook pattern of the vocabulary; see :mod:`speechtok.lm.patterns`.
        num_codebooks: codebooks of the vocabulary, from the first.
        model: a new model: ``model_type`` and configuration fields of transformers.
        heads: for a pattern with a grid of ids, ``{"name": "depth"}`` and arguments of
            :class:`speechtok.lm.DepthTransformer`, or ``{"name": "parallel"}``.
        pretrained: a model to start from instead, a local directory or a name on the Hugging Face hub.
        lora_rank: train LoRA matrices of this rank on ``pretrained``, and the new ids; 0 trains all weights.
        lexicon: pronouncing dictionary in CMU format, to speak and transcribe through phones (see ``phones.py``); if
            empty, text and speech alternate directly.
        utterances: train on this number of utterances with distinct texts, drawn by ``seed``; 0 uses all utterances.
        crop_seconds: length of the crops of the stage ``"speech"``; ``"language"`` has whole utterances.
        batch_ids: largest number of ids in a batch, which has at least one row.
        text_weight: weight of a text id in the loss; a speech id has weight 1, and there are many more of them.
        learning_rate: peak rate of AdamW: linear warm-up, then linear decay to zero.
        warmup_steps: steps of warm-up.
        weight_decay: of AdamW.
        clip_norm: largest gradient norm.
        keep_best: export the weights with the lowest validation loss instead of the last ones.
        seed: of weights, batches and dropout.
        device: PyTorch device, such as ``"cpu"`` or ``"cuda"``.
        bfloat16: use autocast to bfloat16 where the device has instructions for it.
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
    heads: dict = field(default_factory=dict)  # type: ignore[type-arg]
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
        for name, minimum in (("steps", 1), ("num_codebooks", 1), ("batch_ids", 1), ("validate_every", 1),
                              ("checkpoint_every", 1), ("utterances", 0), ("lora_rank", 0), ("warmup_steps", 0),
                              ("seed", 0), ("weight_decay", 0), ("text_weight", 0)):  # fmt: skip
            if not minimum <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {minimum}")
        for name in ("learning_rate", "clip_norm", "crop_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected above 0")
        if bool(self.model) == bool(self.pretrained):
            raise ConfigError(
                f"model is {self.model!r} and pretrained is {self.pretrained!r}; expected exactly one of them: "
                "model_type and fields for a new model, or the directory of a pretrained one"
            )
        if self.lora_rank and not self.pretrained:
            raise ConfigError(f"lora_rank is {self.lora_rank} without pretrained; expected 0: train all of a new model")
        if self.stage != "language" and self.lexicon:
            raise ConfigError(
                f"lexicon is {self.lexicon!r} for the stage {self.stage}; expected '', as it uses no text"
            )
        if self.heads and (self.stage != "speech" or self.heads.get("name") not in ("depth", "parallel")):
            raise ConfigError(
                f"heads is {self.heads!r} for the stage {self.stage}; expected {{'name': 'depth'}} or "
                "{'name': 'parallel'} for the stage speech, and nothing for others"
            )
        if self.heads and self.pretrained:
            raise ConfigError(f"pretrained is {self.pretrained!r} with heads; expected a new model")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def load_config(path: str, overrides: Sequence[str] = ()) -> SpeechLmConfig:
    """Read a YAML file and apply overrides.

    Args:
        path: of the file.
        overrides: ``name=value``, with dots for nested fields: ``model.hidden_size=256``.

    Raises:
        MissingFileError: the file does not exist.
        ConfigError: the file is not valid YAML, or a field is unknown, missing or of the wrong type.
    """
    return from_mapping(SpeechLmConfig, read_values(path, overrides))


def config_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Create a parser for a program that takes a config; ``--help`` lists the fields.

    Args:
        program: name of the module below ``examples.speech_lm``.
        description: text above the arguments.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.speech_lm.{program}",
        description=description,
        epilog=describe_fields(SpeechLmConfig),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="YAML file; see examples/speech_lm/configs/")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="changes to the config, such as data=DIR")
    return parser


def run(main: Callable[[], None]) -> int:
    """Run a command line. Returns the exit status; errors of the user are printed on one line."""
    try:
        main()
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
