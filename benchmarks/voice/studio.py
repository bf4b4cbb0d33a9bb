"""Recordings, prompts, and what the voice model and the tokenizer make of them, at the sample rate of the metrics."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import speechtok
from benchmarks.metrics.speech import SAMPLE_RATE, Speech
from benchmarks.voice.cases import PROMPT_SECONDS, Voice
from speechtok import SpeechTokens
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.errors import InputError
from speechtok.resampling import resample
from speechtok.voice.generation import Sampling
from speechtok.voice.model import VoiceModel
from speechtok.voice.prosody import Prosody
from speechtok.voice.style import Style
from training.manifest import Utterance


class Studio:
    """See the module.

    Args:
        tokenizer: of the voice model.
        model: the voice model.
        sampling: how it draws.
        seed: of its noise.
    """

    def __init__(self, tokenizer: ConvNeXtTokenizer, model: VoiceModel, sampling: Sampling, seed: int = 0) -> None:
        self.tokenizer, self.model, self.sampling, self.seed = tokenizer, model, sampling, seed
        self._embeddings: dict[str, np.ndarray | None] = {}

    def recording(self, utterance: Utterance) -> Speech:
        """The utterance as it was recorded."""
        waveform = resample(self._read(utterance)[None], self.tokenizer.sample_rate, SAMPLE_RATE)[0]
        return Speech(waveform, utterance.text, utterance.lang)

    def tokens(self, utterance: Utterance) -> SpeechTokens:
        """Its true codes."""
        return self.tokenizer.encode(self._read(utterance), self.tokenizer.sample_rate)

    def contour(self, utterance: Utterance) -> Tensor:
        """Its pitch contour, on the frames of its codes."""
        return Prosody.of(self._read(utterance), self.tokenizer.sample_rate, self.tokenizer).contour()

    def prompt(self, voice: Voice, seconds: float = PROMPT_SECONDS) -> tuple[SpeechTokens, Speech]:
        """The first ``seconds`` of the utterances for prompts, or what there is of them: codes and recording."""
        rate, waveform = self.tokenizer.sample_rate, torch.zeros(0)
        for utterance in voice.prompts:
            waveform = torch.cat([waveform, self._read(utterance)])[: round(seconds * rate)]
        return self.tokenizer.encode(waveform, rate), Speech(resample(waveform[None], rate, SAMPLE_RATE)[0])

    def decode(self, tokens: SpeechTokens, original: Speech, num_codebooks: int | None = None) -> Speech:
        """Tokens as audio of the length of ``original``."""
        waveform = self.tokenizer.decode(tokens, num_codebooks=num_codebooks)
        return Speech(_fit(resample(waveform, self.tokenizer.sample_rate, SAMPLE_RATE)[0], original))

    def complete(
        self,
        tokens: SpeechTokens,
        prompt: SpeechTokens,
        original: Speech,
        contour: Tensor | None = None,
        sampling: Sampling | None = None,
    ) -> Speech:
        """What the voice model makes of codebook 0 of ``tokens``."""
        semantic = dataclasses.replace(tokens, codes=tokens.codes[:, :1])
        completed = self.model.complete(
            semantic, prompt, seed=self.seed, sampling=sampling or self.sampling, contour=contour
        )
        return self.decode(completed, original)

    def styled(
        self, tokens: SpeechTokens, prompt: SpeechTokens, original: Speech, styles: Sequence[Style]
    ) -> list[Speech]:
        """What the voice model makes of codebook 0 of ``tokens`` in each style."""
        count = len(styles)
        semantic = dataclasses.replace(
            tokens,
            codes=tokens.codes[:, :1].repeat(count, 1, 1),
            lengths=tokens.lengths.repeat(count),
            num_samples=tokens.num_samples.repeat(count),
        )
        completed = self.model.complete(semantic, prompt, list(styles), self.seed, self.sampling)
        return [self.decode(completed[row], original) for row in range(count)]

    def likeness(self, speech: Speech, others: Sequence[Utterance]) -> float:
        """Mean similarity of the voice to that of recordings; NaN without voice."""
        embeddings = [self._embedding(utterance) for utterance in others]
        return float(np.mean([similarity(speech.speaker_embedding, embedding) for embedding in embeddings]))

    def _embedding(self, utterance: Utterance) -> np.ndarray | None:
        if utterance.id not in self._embeddings:
            self._embeddings[utterance.id] = self.recording(utterance).speaker_embedding
        return self._embeddings[utterance.id]

    def _read(self, utterance: Utterance) -> Tensor:
        """The utterance at the sample rate of the tokenizer, ``(S,)``."""
        waveform, rate = speechtok.read_audio(utterance.audio)
        if not len(waveform):
            raise InputError(f"{utterance.audio} has no samples; expected at least one")
        return resample(waveform[None], rate, self.tokenizer.sample_rate)[0]


def similarity(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """Cosine similarity of two speaker embeddings; NaN if there is no voice in one of the two."""
    return float("nan") if a is None or b is None else float(a @ b)


def _fit(waveform: Tensor, original: Speech) -> Tensor:
    """Cut or pad by the samples that rounding of sample rates makes."""
    length = len(original.waveform)
    return F.pad(waveform[:length], (0, max(0, length - len(waveform)))).contiguous()
