"""A tokenizer as a model of transformers, with the calls of EnCodec, DAC and Mimi."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedAudioTokenizerBase
from transformers.utils.generic import ModelOutput

from speechtok.auto_classes import add_auto_classes
from speechtok.errors import AudioError, InputError, TokensError, quoted
from speechtok.loaders import build, load
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens, check_codes
from speechtok.transformers.configuration import SpeechtokConfig, architecture


@dataclass
class SpeechtokEncoderOutput(ModelOutput):
    """Result of :meth:`SpeechtokModel.encode`.

    Attributes:
        audio_codes: codes, int64 ``(B, Q, T)``; 0 after the last frame of a row.
        audio_codes_mask: 1 for each frame of a row, int64 ``(B, T)``.
    """

    audio_codes: Tensor | None = None
    audio_codes_mask: Tensor | None = None


@dataclass
class SpeechtokDecoderOutput(ModelOutput):
    """Result of :meth:`SpeechtokModel.decode`.

    Attributes:
        audio_values: waveforms, float32 ``(B, 1, S)``; 0 after the last sample of a row.
    """

    audio_values: Tensor | None = None


@dataclass
class SpeechtokOutput(ModelOutput):
    """Result of a call of :class:`SpeechtokModel`.

    Attributes:
        audio_codes: codes, int64 ``(B, Q, T)``.
        audio_values: decoded waveforms, float32 ``(B, 1, S)``.
    """

    audio_codes: Tensor | None = None
    audio_values: Tensor | None = None


class SpeechtokModel(PreTrainedAudioTokenizerBase):  # type: ignore[no-untyped-call]
    """A tokenizer of speechtok as a model of transformers. Codes and audio equal those of :attr:`tokenizer`.

    Args:
        config: config of the model; the weights are random. Use :meth:`from_pretrained` for a trained one.

    Attributes:
        tokenizer: the tokenizer.
    """

    config_class = SpeechtokConfig
    base_model_prefix = "speechtok"
    main_input_name = "input_values"
    input_modalities = "audio"
    all_tied_weights_keys: dict[str, str] = {}  # noqa: RUF012  transformers 5 reads it from the class

    tokenizer: Tokenizer

    def __init__(self, config: SpeechtokConfig) -> None:
        super().__init__(config)
        self.tokenizer = build(architecture(config.config))
        self.train(False)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        device_map: Any = None,
        **options: Any,
    ) -> "SpeechtokModel":
        """Load a tokenizer by whatever name :func:`speechtok.load` takes.

        Args:
            pretrained_model_name_or_path: folder of a tokenizer, ``org/name`` on the hub, or ``"speechtok-v2"``.
            revision: branch, tag or commit on the hub.
            dtype: must be float32 or ``"auto"``; other types change the codes.
            torch_dtype: former name of ``dtype``.
            device_map: device of the model, such as ``"cuda"``; ``"auto"`` takes a GPU if there is one.
            **options: other options of transformers, which concern files that a tokenizer does not have.

        Raises:
            InputError: the type or the device cannot be used.
            MissingFileError, ConfigError, CheckpointError: as :func:`speechtok.load`.
        """
        wanted = dtype if dtype is not None else torch_dtype
        if wanted not in (None, "auto", "float32", torch.float32):
            raise InputError(f"dtype is {quoted(wanted)}; expected float32: codes are exact in float32 only")
        if isinstance(device_map, dict):
            device_map = device_map.get("")
        if device_map == "auto":
            device_map = "cuda" if torch.cuda.is_available() else "cpu"
        tokenizer = load(pretrained_model_name_or_path, revision=None if revision == "main" else revision)
        model = cls.from_tokenizer(tokenizer)
        if device_map is not None:
            model.to(device_map)
        return model

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> "SpeechtokModel":
        """Wrap a tokenizer of the families ``convnext`` and ``seanet``, such as :func:`speechtok.load` returns."""
        config = SpeechtokConfig(tokenizer.config.to_dict(), architectures=[cls.__name__])
        with torch.device("meta"):
            model = cls(config)
        model.tokenizer = tokenizer
        model.train(False)
        return model

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **options: Any
    ) -> None:
        """Write a folder for :meth:`from_pretrained`, the auto classes, and :func:`speechtok.load`.

        Args:
            save_directory: folder to write to.
            push_to_hub: whether to upload as well, to the repository ``repo_id`` in ``options``.
            **options: ``repo_id``, ``revision`` and ``private`` for the upload.

        Raises:
            OutputError: a file cannot be written.
        """
        self.tokenizer.save(save_directory)
        add_auto_classes(Path(save_directory), self.tokenizer.sample_rate)
        if push_to_hub:
            upload = {name: options[name] for name in ("repo_id", "revision", "private") if name in options}
            self.push_to_hub(**{"repo_id": Path(save_directory).name, **upload})

    def push_to_hub(self, repo_id: str, revision: str | None = None, private: bool = False) -> str:  # type: ignore[override]
        """Upload to the Hugging Face hub with a model card; see :meth:`speechtok.tokenizer.Tokenizer.push_to_hub`."""
        return self.tokenizer.push_to_hub(repo_id, revision, private)

    @torch.no_grad()
    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
        return_dict: bool = True,
    ) -> SpeechtokEncoderOutput | tuple[Tensor, Tensor]:
        """Turn audio into codes.

        Args:
            input_values: waveforms at the sample rate of the model, ``(B, 1, S)`` or ``(B, S)``.
            padding_mask: ``(B, S)`` or ``(B, 1, S)``, 1 for samples and 0 for padding on either side of a row.
            num_quantizers: codebooks to keep, from the first; all by default.
            return_dict: whether to return an output with names instead of a tuple.

        Raises:
            AudioError: the waveforms or the mask cannot be used.
            InputError: ``num_quantizers`` is out of range.
        """
        waveform = _mono(input_values)
        lengths = None
        if padding_mask is not None:
            waveform, lengths = _align_left(waveform, padding_mask)
        tokens = self.tokenizer.encode(waveform, self.tokenizer.sample_rate, lengths, num_quantizers)
        frames = torch.arange(tokens.codes.shape[2], device=tokens.codes.device)
        mask = (frames < tokens.lengths[:, None]).long()
        output = SpeechtokEncoderOutput(tokens.codes, mask)
        return output if return_dict else output.to_tuple()

    @torch.no_grad()
    def decode(
        self, audio_codes: Tensor, padding_mask: Tensor | None = None, return_dict: bool = True
    ) -> SpeechtokDecoderOutput | tuple[Tensor]:
        """Turn codes into audio.

        Args:
            audio_codes: codes, int64 ``(B, Q, T)``; fewer codebooks than the model has are completed with silence.
            padding_mask: that of the encoded audio; the result is cut and padded to it, and each row is decoded as if
                it were alone.
            return_dict: whether to return an output with names instead of a tuple.

        Raises:
            TokensError: the codes or the mask cannot be used.
        """
        if padding_mask is None:
            audio = self.tokenizer.decode(audio_codes)[:, None]
        else:
            mask = padding_mask.reshape(len(padding_mask), -1).bool()
            tokens = self._tokens(audio_codes, mask)
            audio = _place(self.tokenizer.decode(tokens)[:, None], mask.to(self.tokenizer.device))
        output = SpeechtokDecoderOutput(audio)
        return output if return_dict else output.to_tuple()

    def _tokens(self, audio_codes: Tensor, mask: Tensor) -> SpeechTokens:
        """Tokens with the lengths of a mask ``(B, S)``."""
        tok = self.tokenizer
        check_codes(audio_codes, tok.codebook_size)
        if len(mask) != len(audio_codes):
            raise TokensError(
                f"padding_mask has {len(mask)} rows; expected {len(audio_codes)}, one for each row of audio_codes"
            )
        num_samples = mask.sum(1).clamp_max(audio_codes.shape[2] * tok.hop_length).to(audio_codes.device)
        lengths = -(-num_samples // tok.hop_length)
        return SpeechTokens(
            audio_codes, lengths, num_samples, tok.sample_rate, tok.hop_length, tok.codebook_size, tok.fingerprint
        )

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
        audio_codes: Tensor | None = None,
        return_dict: bool = True,
    ) -> SpeechtokOutput | tuple[Tensor, ...]:
        """Encode and decode; see :meth:`encode` and :meth:`decode`. Given ``audio_codes`` are only decoded."""
        if audio_codes is None:
            audio_codes = self.encode(input_values, padding_mask, num_quantizers)[0]
        if padding_mask is None and input_values is not None:
            padding_mask = torch.ones(len(input_values), input_values.shape[-1], device=input_values.device)
        output = SpeechtokOutput(audio_codes, self.decode(audio_codes, padding_mask)[0])
        return output if return_dict else output.to_tuple()


def _mono(input_values: Tensor) -> Tensor:
    if isinstance(input_values, Tensor) and input_values.ndim == 3:
        if input_values.shape[1] != 1:
            raise AudioError(
                f"input_values has shape {tuple(input_values.shape)}; expected (B, 1, S): average the channels first"
            )
        return input_values[:, 0]
    return input_values


def _align_left(waveform: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the samples of each row to its start; return the rows and their lengths."""
    mask = padding_mask.reshape(len(padding_mask), -1).to(waveform.device).bool()
    if mask.shape != waveform.shape:
        raise AudioError(
            f"padding_mask has shape {tuple(padding_mask.shape)}; expected {tuple(waveform.shape)}, a mark for each "
            "sample"
        )
    lengths = mask.sum(1)
    starts = mask.int().argmax(1)
    positions = torch.arange(mask.shape[1], device=mask.device)
    expected = (positions >= starts[:, None]) & (positions < (starts + lengths)[:, None])
    if not torch.equal(mask, expected):
        raise AudioError("padding_mask has gaps inside a row; expected padding at the start or the end only")
    if int(starts.max()):
        waveform = waveform.gather(1, (positions + starts[:, None]).clamp_max(mask.shape[1] - 1))
    return waveform, lengths


def _place(audio: Tensor, mask: Tensor) -> Tensor:
    """Put ``audio``, ``(B, 1, S)``, where ``mask``, ``(B, S)``, has samples; 0 elsewhere."""
    starts = mask.int().argmax(1)
    positions = torch.arange(mask.shape[1], device=mask.device) - starts[:, None]
    padded = torch.nn.functional.pad(audio[:, 0], (0, max(0, mask.shape[1] - audio.shape[2])))
    placed = padded.gather(1, positions.clamp(0, padded.shape[1] - 1))
    return placed.masked_fill(~mask, 0.0)[:, None]
