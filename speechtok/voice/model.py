"""Voice models: acoustic codes for semantic ones, in the voice of a prompt."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.companions import Companion, Kind, find_companion, write_companion
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.errors import CheckpointError, FingerprintError, InputError, StreamError, TokensError, quoted
from speechtok.nn.inference import inference
from speechtok.nn.native.library import current_isa, load_library
from speechtok.nn.skip_init import SkipInit
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens, check_codes
from speechtok.version import __version__
from speechtok.voice.config import VoiceConfig
from speechtok.voice.generation import Generator, Sampling, windows_of
from speechtok.voice.latents import AcousticLatents
from speechtok.voice.native import NativeSteps
from speechtok.voice.network import VoiceNetwork, contour_inputs
from speechtok.voice.prosody import check_contour
from speechtok.voice.steps import ExactSteps
from speechtok.voice.style import Style, as_style

FILE_NAME = "voice.safetensors"
"""Name of the file of a voice model, beside the weights of its tokenizer."""

KIND = Kind(
    "voice model",
    FILE_NAME,
    "speechtok-voice-1",
    "train one: python -m training.voice --config training/configs/voice.yaml data=DIR tokenizer=DIR",
)

MIN_PROMPT_SECONDS, MAX_PROMPT_SECONDS = 0.5, 10.0
"""Length of a prompt."""

AnyStyle = Style | Mapping[str, str] | str | Sequence[Style] | None
"""A style for all utterances, by itself, by name or by a sentence; or one for each."""

_SILENCE_DBFS = -55.0
"""A prompt whose loudest 20 ms are quieter has no voice."""


class VoiceModel:
    """Generates the acoustic codes of semantic codes, in the voice of a prompt.

    The result depends on the codes, the prompt, the style and the seed alone.

    Args:
        tokenizer: one of the ``convnext`` family.
        path: a file written by ``training.voice``; the model that the package has for the tokenizer by default.

    Raises:
        FingerprintError: the model was trained on the codes of another tokenizer, the package has none for this one, or
            it is of another family.
        MissingFileError: the file does not exist.
        CheckpointError: the file is damaged.
    """

    def __init__(self, tokenizer: Tokenizer, path: str | os.PathLike[str] | None = None) -> None:
        if not isinstance(tokenizer, ConvNeXtTokenizer):
            raise FingerprintError(
                f"a {type(tokenizer).__name__} has no voice models; expected speechtok's own tokenizer"
            )
        companion = find_companion(tokenizer, KIND, path)
        self.tokenizer = tokenizer
        self.config, self.network = _make(companion)
        self._exact = ExactSteps(self.network)
        compiled = load_library()
        self._native = None if compiled is None else NativeSteps(self.network, compiled)
        self.latents = AcousticLatents(tokenizer.quantizer, self.network.mean, self.network.deviation)
        count, size, dim = self.latents.shape
        c = self.config
        if (count, size, dim) != (c.num_codebooks, c.codebook_size, c.latent_dim):
            raise CheckpointError(
                f"{companion.path} generates {c.num_codebooks} codebooks of {c.codebook_size} entries and "
                f"{c.latent_dim} acoustic dimensions, and the tokenizer has {count}, {size} and {dim}; {KIND.train}"
            )
        self.name = f"speechtok-voice {__version__}"

    @inference
    def complete(
        self,
        semantic: SpeechTokens,
        prompt: SpeechTokens,
        style: AnyStyle = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        contour: Tensor | None = None,
    ) -> SpeechTokens:
        """Generate the acoustic codes of utterances.

        Args:
            semantic: what is said: tokens of which codebook 0 is used.
            prompt: who says it: tokens of a few seconds of the voice, with all codebooks; one utterance for all, or one
                for each. Prompts longer than 10 s are cut.
            style: see :class:`~speechtok.voice.style.Style`; a sentence or a mapping is parsed.
            seed: the same seed gives the same codes. Row ``b`` has the noise of seed ``seed + b``.
            sampling: how the flow is solved.
            contour: how the pitch moves, ``(T, 2)`` for all or ``(B, T, 2)``; see
                :func:`~speechtok.voice.prosody.pitch_contour`.

        Returns:
            Tokens with all codebooks; codebook 0 is that of ``semantic``. They say what generated them.

        Raises:
            TokensError: a prompt is too short, has too few codebooks, or is silent.
            FingerprintError: ``semantic`` or ``prompt`` are of another tokenizer.
            InputError: numbers of utterances do not fit, or the style or the seed cannot be used.
        """
        self._check_tokens("semantic", semantic)
        codes, lengths = semantic.codes[:, :1].cpu(), semantic.lengths.cpu()
        past_end = torch.arange(codes.shape[2]) >= lengths[:, None]
        generator = self._generator(prompt, style, seed, sampling, len(semantic))
        windows = windows_of(codes[:, 0].masked_fill(past_end, self.network.no_code), self.network)
        contours = None if contour is None else self._contours(contour, *codes[:, 0].shape)
        acoustic = generator.run(windows, contours).masked_fill(past_end[:, None], 0)
        return dataclasses.replace(
            semantic, codes=torch.cat([codes, acoustic], 1).to(semantic.codes.device), generated_by=self.name
        )

    def stream(
        self,
        prompt: SpeechTokens,
        style: AnyStyle = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        batch_size: int = 1,
    ) -> "VoiceStream":
        """Open a stream, which generates while semantic codes arrive; arguments as for :meth:`complete`.

        The codes are those of :meth:`complete`, and come :attr:`lookahead` frames late.
        """
        return VoiceStream(self, self._generator(prompt, style, seed, sampling, batch_size))

    @property
    def steps(self) -> ExactSteps:
        """What computes: compiled code where there is some."""
        return self._exact if self._native is None or current_isa() < 0 else self._native

    @property
    def lookahead(self) -> int:
        """Semantic codes after a frame that decide how it sounds, in frames."""
        return self.network.lookahead

    def _generator(
        self,
        prompt: SpeechTokens,
        style: AnyStyle,
        seed: int,
        sampling: Sampling | None,
        batch: int,
    ) -> Generator:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise InputError(f"seed is {quoted(seed)}; expected a whole number")
        return Generator(
            self.steps,
            self.latents,
            sampling or Sampling(),
            self._prompts(prompt, batch),
            self._styles(style, batch),
            [seed + row for row in range(batch)],
        )

    def _check_tokens(self, name: str, tokens: Any) -> None:
        if not isinstance(tokens, SpeechTokens):
            raise TokensError(f"{name} is a {type(tokens).__name__}; expected SpeechTokens, such as tok.encode returns")
        if not self.tokenizer.made(tokens.fingerprint):
            raise FingerprintError(
                f"{name} was made by tokenizer {tokens.fingerprint:.80}, and this voice model is for "
                f"{self.tokenizer.fingerprint}; encode the audio again with that tokenizer"
            )

    def _prompts(self, prompt: SpeechTokens, batch: int) -> list[Tensor]:
        """Codes of the prompts, each ``(Q, T)``."""
        self._check_tokens("prompt", prompt)
        if len(prompt) not in (1, batch):
            raise InputError(f"prompt has {len(prompt)} utterances and semantic {batch}; expected 1 or {batch}")
        if prompt.num_codebooks < self.config.num_codebooks:
            raise TokensError(
                f"prompt has {prompt.num_codebooks} codebooks; expected {self.config.num_codebooks}: encode it without "
                "num_codebooks"
            )
        rate, prompts = prompt.frame_rate, []
        waveform = self.tokenizer.decode(prompt)
        loudness = F.avg_pool1d(waveform[:, None].square(), prompt.hop_length, ceil_mode=True)[:, 0]
        for row, length in enumerate(prompt.lengths.tolist()):
            if length < MIN_PROMPT_SECONDS * rate:
                raise TokensError(
                    f"prompt {row} has {length / rate:.2f} s; expected {MIN_PROMPT_SECONDS} s of speech, better 3 s"
                )
            if float(loudness[row, :length].max()) < 10 ** (_SILENCE_DBFS / 10):
                raise TokensError(f"prompt {row} is silent; expected some seconds of a voice")
            codes = prompt.codes[row, : self.config.num_codebooks, : min(length, round(MAX_PROMPT_SECONDS * rate))]
            prompts.append(codes.cpu())
        return prompts * (batch if len(prompts) == 1 else 1)

    def _styles(self, style: AnyStyle, batch: int) -> Tensor:
        """Steps of the styles, ``(B, 4)``."""
        if style is None or isinstance(style, (Style, str, Mapping)):
            return as_style(style).steps().expand(batch, -1)
        styles = [as_style(some).steps() for some in style]
        if len(styles) != batch:
            raise InputError(f"style has {len(styles)} styles for {batch} utterances; expected one for each")
        return torch.stack(styles)

    def _contours(self, contour: Tensor, batch: int, frames: int) -> Tensor:
        """Contours ``(B, T, 3)``, in octaves, with a sign that they are given."""
        if isinstance(contour, Tensor) and contour.ndim == 3 and len(contour) == batch:
            rows = torch.stack([check_contour(row, frames) for row in contour])
        else:
            rows = check_contour(contour, frames).expand(batch, -1, -1)
        return contour_inputs(rows)


class VoiceStream:
    """Generates codes while semantic codes arrive; :meth:`VoiceModel.stream` opens one.

    Attributes:
        generated_by: for the metadata of tokens that are made of these codes.
    """

    def __init__(self, model: VoiceModel, generator: Generator) -> None:
        self.generator, self._network, self.generated_by = generator, model.network, model.name
        self._codebook_size = model.config.codebook_size
        self._codes = torch.full((generator.batch, self._network.history), self._network.no_code)
        self._ended = False

    @inference
    def push(self, semantic: Tensor) -> Tensor:
        """Take semantic codes, and generate the frames whose lookahead is there.

        Args:
            semantic: int64 ``(B, T)``, any number of frames.

        Returns:
            Codes of all codebooks, int64 ``(B, Q, T')``.

        Raises:
            TokensError: the codes are of another shape or out of range.
            StreamError: the stream has ended.
        """
        if self._ended:
            raise StreamError("the stream has ended; open another one with VoiceModel.stream")
        if not isinstance(semantic, Tensor):
            raise TokensError(f"semantic is a {type(semantic).__name__}; expected a tensor (B, T), such as codes[:, 0]")
        if semantic.ndim != 2:
            raise TokensError(f"semantic has shape {tuple(semantic.shape)}; expected (B, T), such as codes[:, 0]")
        check_codes(semantic[:, None], self._codebook_size)
        if len(semantic) != self.generator.batch:
            raise TokensError(f"semantic has {len(semantic)} rows; expected {self.generator.batch}, as the stream has")
        return self._advance(semantic.cpu())

    @inference
    def flush(self) -> Tensor:
        """End the utterance. Returns the codes of the last frames, ``(B, Q, T')``.

        Raises:
            StreamError: the stream has ended.
        """
        if self._ended:
            raise StreamError("the stream has ended; open another one with VoiceModel.stream")
        self._ended = True
        return self._advance(torch.full((self.generator.batch, self._network.lookahead), self._network.no_code))

    def _advance(self, semantic: Tensor) -> Tensor:
        codes = torch.cat([self._codes, semantic], 1)
        width = self._network.history + 1 + self._network.lookahead
        windows = codes.unfold(1, width, 1) if codes.shape[1] >= width else codes.new_zeros(len(codes), 0, width)
        self._codes = codes[:, windows.shape[1] :].clone()
        acoustic = self.generator.run(windows)
        return torch.cat([windows[:, None, :, self._network.history], acoustic], 1)


def write_voice(path: str | os.PathLike[str], config: VoiceConfig, network: VoiceNetwork, fingerprint: str) -> None:
    """Write the file of a voice model for the codes of the tokenizer with a fingerprint; matrices as levels.

    Raises:
        OutputError: the file cannot be written.
    """
    network.tabulate()
    matrices = [f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    write_companion(path, KIND, config, network.state_dict(), fingerprint, matrices)


def _make(companion: Companion) -> tuple[VoiceConfig, VoiceNetwork]:
    config: VoiceConfig = companion.config(VoiceConfig)
    companion.check_number(5 * config.depth + 2 * config.head_depth)
    with torch.device("meta"), SkipInit():
        network = VoiceNetwork(config)
    companion.load_into(network)
    return config, network.eval().requires_grad_(False)
