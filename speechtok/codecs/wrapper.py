"""The part that all codecs of transformers share."""

import os
from abc import abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from speechtok.checkpoint import check_finite
from speechtok.codecs.checks import check_sizes, first_line, read_codec_config
from speechtok.errors import CheckpointError, InputError, MissingFileError, OutputError, quoted
from speechtok.tokenizer import UtteranceTokenizer


@dataclass(frozen=True)
class CodecConfig:
    """Architecture of a wrapped codec.

    Attributes:
        family: name of the codec.
        sample_rate: in hertz.
        hop_length: samples per frame.
        num_codebooks: number of codebooks ``Q``.
        codebook_size: entries ``N`` of each.
        architecture: config of transformers, without the fields that do not describe the codec.
    """

    family: str
    sample_rate: int
    hop_length: int
    num_codebooks: int
    codebook_size: int
    architecture: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    codes_dict = decoder_dict = to_dict


_PASSING = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


class WrappedCodec(UtteranceTokenizer):
    """A model of transformers as a tokenizer.

    These models do not mask padding, so in a padded batch the codes of an utterance would depend on the others.

    Args:
        model: an instance of :meth:`model_class`.
    """

    EXAMPLE: ClassVar[str]
    """A model on the hub, for error messages."""

    config: CodecConfig

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.eval().requires_grad_(False)
        architecture = {k: v for k, v in model.config.to_dict().items() if k not in _PASSING}
        self.config = CodecConfig(model.config.model_type, *self.sizes(model), architecture)

    @staticmethod
    @abstractmethod
    def model_class() -> Any:
        """Class in transformers."""

    @staticmethod
    @abstractmethod
    def sizes(model: Any) -> tuple[int, int, int, int]:
        """Sample rate, hop length, ``Q`` and ``N`` of a model.

        Raises:
            InputError: the model is of a kind that cannot be used.
        """

    @classmethod
    def from_directory(cls, directory: Path) -> "WrappedCodec":
        """Read files written by transformers or :meth:`save`; weights only as safetensors.

        Raises:
            MissingFileError: a file is missing.
            CheckpointError: the weights are damaged, or do not fit the config.
        """
        for name in ("config.json", "model.safetensors"):
            if not list(directory.glob(name.replace("model.", "model*."))):
                raise MissingFileError(f"there is no file {directory / name}; a codec needs both; fetch it again")
        config = read_codec_config(directory, cls.model_class())
        try:
            with torch.device("cpu"):  # whatever the default device
                model, info = cls.model_class().from_pretrained(
                    directory,
                    config=config,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                    dtype=torch.float32,  # whatever the dtype of the file
                )
        except Exception as error:  # transformers passes on any exception of its parts
            reason = quoted(first_line(error))
            raise CheckpointError(f"{directory} cannot be loaded ({reason}); fetch or save it again") from error
        if info["missing_keys"] or info["unexpected_keys"]:
            missing, unknown = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
            what = f"lacks {missing[0]}, which" if missing else f"holds {unknown[0]}, which not"
            raise CheckpointError(f"{directory} {what} its config asks for; fetch or save both again")
        check_finite(model.state_dict(), directory)
        try:
            tokenizer = cls(model)
        except InputError:
            raise
        except Exception as error:  # rates of 0, lists without entries, and others that a model does not need
            raise CheckpointError(
                f"{directory} does not describe a codec ({quoted(first_line(error))}); fetch or save it again"
            ) from error
        c = tokenizer.config
        check_sizes(directory, c.sample_rate, c.hop_length, c.num_codebooks, c.codebook_size)
        return tokenizer

    def __reduce__(self) -> tuple[Any, ...]:
        # PyTorch cannot pickle modules whose weights are parametrized, as those of EnCodec are
        return _rebuild, (type(self), self.model.config, self.model.state_dict(), self._aliases, self._aliased)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write files of transformers into ``directory``, for :func:`speechtok.load`.

        Raises:
            OutputError: the files cannot be written.
        """
        try:
            Path(directory).mkdir(parents=True, exist_ok=True)
            self.model.save_pretrained(directory)
        except (OSError, SafetensorError) as error:  # the latter on a full disk
            raise OutputError(f"cannot write to {directory}: {error}; choose a writable place with room") from error


def _rebuild(
    kind: type[WrappedCodec], config: Any, weights: dict[str, Tensor], aliases: tuple[str, ...], aliased: str
) -> WrappedCodec:
    """Make a codec from its pickle."""
    with torch.random.fork_rng(devices=[]):
        model = kind.model_class()(config)
    model.to(next(iter(weights.values())).device)
    model.load_state_dict(weights, assign=True)
    tokenizer = kind(model)
    tokenizer._aliases, tokenizer._aliased = aliases, aliased
    return tokenizer
