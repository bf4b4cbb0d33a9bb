"""Batches for a voice model: a prompt, and another utterance of the same voice."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from speechtok.voice.network import PADDING, PROMPT, TARGET, contour_inputs
from speechtok.voice.prosody import pitch_contour
from speechtok.voice.style import QUANTITIES, steps_of
from training.voice.config import VoiceTrainingConfig
from training.voice.encoding import EncodedVoices


class Batch(NamedTuple):
    """Sequences of a step.

    Attributes:
        codes: int64 ``(B, Q, T)``.
        kinds: of the frames, int64 ``(B, T)``; see :class:`speechtok.voice.network.Sequence`.
        style: int64 ``(B, 4)``.
        contour: float32 ``(B, T, 3)``.
        seed: of the noise of the step.
    """

    codes: Tensor
    kinds: Tensor
    style: Tensor
    contour: Tensor
    seed: int


class Crop(NamedTuple):
    """Frames of an encoded utterance.

    Attributes:
        index: of the utterance.
        start: first frame, counted from the start of the utterance.
        frames: number of frames.
    """

    index: int
    start: int
    frames: int


class SequenceSampler:
    """Draws sequences; a batch depends on seed and step alone.

    A row is a crop of an utterance after a crop of another one of the same speaker at the same speed. An utterance of
    a speaker without others, or whose speaker is not named, stands alone, as a prompt does: so the network also learns
    to go on without a prompt.

    Most of a style can be heard in such a prompt already. So that the network follows a style against the prompt, some
    continuations have a prompt at another speed, or another balance than the prompt; the style then tells what differs.

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
            if voice is not None and voices.changed[index] < 0:
                self.same_voice[voice].append(index)
        self.speeds = sorted(set(voices.speeds.tolist()))
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
        self.steps = np.array([steps_of(values) for values in voices.prosody])

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        c, rng = self.config, np.random.default_rng((self.config.seed, step))
        rows = [self._row(rng) for _ in range(c.batch_size)]
        shape = len(rows), max(sum(crop.frames for crop in row) for row in rows)
        codes = np.zeros((len(rows), len(self.voices.codes), shape[1]), np.int64)
        kinds = np.full(shape, PADDING, np.int64)
        style, contour = np.zeros((len(rows), len(QUANTITIES)), np.int64), np.zeros((*shape, 3), np.float32)
        for i, row in enumerate(rows):
            at = 0
            for crop, kind in zip(row, (PROMPT, TARGET), strict=False):
                end = at + crop.frames
                codes[i, :, at:end], kinds[i, at:end] = self._codes(crop), kind
                at, last = end, at
            if len(row) == 2:
                asked = (rng.random(len(QUANTITIES)) < 0.5) & (rng.random() < c.style_share)
                style[i] = self.steps[row[1].index] * (asked | self._differing(*row))
                if rng.random() < c.contour_share:
                    contour[i, last:end] = self._contour(crop)
        tensors = (torch.from_numpy(array) for array in (codes, kinds, style, contour))
        return Batch(*tensors, int(rng.integers(2**62)))

    def _row(self, rng: np.random.Generator) -> list[Crop]:
        """The prompt, and what follows it if there is another utterance of the voice."""
        index = min(int(np.searchsorted(self.cumulative, rng.random(), side="right")), len(self.voices) - 1)
        others = self._others(index, rng)
        if not len(others):
            return [self._crop(index, self.frames, rng)]
        prompt = self._crop(int(rng.choice(others)), int(rng.integers(*self.prompt_frames)), rng)
        return [prompt, self._crop(index, self.frames - prompt.frames, rng)]

    def _others(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """Utterances that may be the prompt of one."""
        voice = self.voice_of[index]
        if voice is None:
            return np.empty(0, np.int64)
        speaker, speed = voice
        slower_or_faster = [s for s in self.speeds if s != speed]
        if slower_or_faster and self.voices.changed[index] < 0 and rng.random() < self.config.contrast_share:
            speed = int(rng.choice(slower_or_faster))
        others = np.array(self.same_voice[speaker, speed], np.int64)
        return others[self.voices.utterances[others] != self.voices.utterances[index]]

    def _differing(self, prompt: Crop, target: Crop) -> np.ndarray:
        """Quantities in which a continuation differs from its prompt on purpose, bool ``(4,)``."""
        differing = np.arange(len(QUANTITIES)) == self.voices.changed[target.index]
        if self.voices.speeds[prompt.index] != self.voices.speeds[target.index]:
            differing[QUANTITIES.index("pitch")] = True
        return differing

    def _crop(self, index: int, frames: int, rng: np.random.Generator) -> Crop:
        length = int(self.voices.offsets[index + 1] - self.voices.offsets[index])
        return Crop(index, int(rng.integers(0, max(1, length - frames + 1))), min(frames, length))

    def _codes(self, crop: Crop) -> np.ndarray:
        return self.voices[crop.index][:, crop.start : crop.start + crop.frames]

    def _contour(self, crop: Crop) -> np.ndarray:
        """Of the crop relative to the whole utterance, ``(T, 3)``."""
        begin, end = self.voices.offsets[crop.index : crop.index + 2]
        whole = contour_inputs(pitch_contour(torch.from_numpy(self.voices.pitch[begin:end].astype(np.float32))))
        return whole[crop.start : crop.start + crop.frames].numpy()
