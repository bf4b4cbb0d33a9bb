"""Batches for a voice model: a prompt, and another utterance of the same voice."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from speechtok.voice.network import PADDING, PROMPT, TARGET
from training.voice.config import VoiceTrainingConfig
from training.voice.encoding import EncodedVoices


class Batch(NamedTuple):
    """Sequences of a step.

    Attributes:
        codes: int64 ``(B, Q, T)``.
        kinds: of the frames, int64 ``(B, T)``; see :class:`speechtok.voice.network.Sequence`.
        seed: of the noise of the step.
    """

    codes: Tensor
    kinds: Tensor
    seed: int


class SequenceSampler:
    """Draws sequences; a batch depends on seed and step alone.

    A row is a crop of an utterance after a crop of another one of the same speaker at the same speed. An utterance of
    a speaker without others, or whose speaker is not named, stands alone, as a prompt does: so the network also learns
    to go on without a prompt.

    Args:
        config: the training.
        voices: encoded utterances.
        speakers: speaker of each utterance of the corpus; ``None`` if unknown.
        frame_rate: frames a second.
    """

    def __init__(
        self, config: VoiceTrainingConfig, voices: EncodedVoices, speakers: Sequence[str | None], frame_rate: float
    ) -> None:
        self.config, self.voices = config, voices
        self.frames = round(config.sequence_seconds * frame_rate)
        self.prompt_frames = [
            round(seconds * frame_rate) for seconds in (config.prompt_seconds_low, config.prompt_seconds_high)
        ]
        self.same_voice: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.voice_of: list[tuple[str, int] | None] = []
        for index in range(len(voices)):
            speaker = speakers[voices.utterances[index]]
            voice = None if speaker is None else (speaker, int(voices.speeds[index]))
            self.voice_of.append(voice)
            if voice is not None:
                self.same_voice[voice].append(index)
        # seconds of a voice count less the more there are, so that a few long ones do not take all steps
        total = defaultdict(int)
        lengths = np.diff(voices.offsets)
        for index, voice in enumerate(self.voice_of):
            total[voice] += int(lengths[index])
        weights = np.array(
            [
                length * (total[voice] ** -0.5 if voice else 0.1 * total[None] ** -0.5)
                for length, voice in zip(lengths, self.voice_of, strict=True)
            ]
        )
        self.cumulative = np.cumsum(weights / weights.sum())

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng((self.config.seed, step))
        rows = [self._row(rng) for _ in range(self.config.batch_size)]
        codes = np.zeros((len(rows), len(self.voices.codes), self.frames), np.int64)
        kinds = np.full((len(rows), self.frames), PADDING, np.int64)
        for i, (prompt, target) in enumerate(rows):
            at = prompt.shape[1]
            codes[i, :, :at], kinds[i, :at] = prompt, PROMPT
            end = at + target.shape[1]
            codes[i, :, at:end], kinds[i, at:end] = target, TARGET
        longest = int((kinds != PADDING).sum(1).max())
        return Batch(
            torch.from_numpy(codes[..., :longest]),
            torch.from_numpy(kinds[:, :longest]),
            int(rng.integers(2**62)),
        )

    def _row(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        index = min(int(np.searchsorted(self.cumulative, rng.random(), side="right")), len(self.voices) - 1)
        voice = self.voice_of[index]
        others = self.same_voice[voice] if voice else []
        target = self.voices[index]
        if len(others) < 2:
            return self._crop(target, self.frames, rng), target[:, :0]
        prompt = self._crop(self.voices[self._other(others, index, rng)], int(rng.integers(*self.prompt_frames)), rng)
        return prompt, self._crop(target, self.frames - prompt.shape[1], rng)

    def _other(self, others: list[int], index: int, rng: np.random.Generator) -> int:
        drawn = others[int(rng.integers(len(others) - 1))]
        return others[-1] if drawn == index else drawn

    def _crop(self, codes: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
        start = int(rng.integers(0, max(1, codes.shape[1] - frames + 1)))
        return codes[:, start : start + frames]
