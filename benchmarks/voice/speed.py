"""Speed of a voice model: CPU time, and how soon the first audio is there when semantic codes arrive one by one."""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.voice.cases import Case
from benchmarks.voice.studio import Studio
from speechtok import SpeechTokens


@dataclass(frozen=True)
class Speed:
    """CPU time of one thread, in seconds; medians over utterances.

    Attributes:
        utterances: how many were generated.
        complete: for a second of speech.
        open: to read the prompt, before the first semantic code.
        frames: semantic codes that the first audio waits for.
        real_time: from the first semantic code to the first audio, if the codes arrive at the rate of the frames.
        at_once: likewise, if they all arrive at the same time.
    """

    utterances: int
    complete: float
    open: float
    frames: float
    real_time: float
    at_once: float


def measure_speed(studio: Studio, cases: Sequence[Case]) -> Speed:
    """Generate each utterance on one thread, as a whole and from a stream; the first one is a warm-up, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for case in (cases[0], *cases):
            tokens, (prompt, _) = studio.tokens(case.source), studio.prompt(case.voice)
            start = time.process_time()
            studio.model.complete(_semantic(tokens), prompt, seed=studio.seed, sampling=studio.sampling)
            seconds = int(tokens.num_samples[0]) / tokens.sample_rate
            complete = (time.process_time() - start) / seconds
            rows.append((complete, *first_audio(studio, tokens.codes[:, 0], prompt)))
        return Speed(len(cases), *map(float, np.nanmedian(np.array(rows[1:]), axis=0)))
    finally:
        torch.set_num_threads(threads)


def first_audio(studio: Studio, semantic: Tensor, prompt: SpeechTokens) -> tuple[float, float, float, float]:
    """Time to open a stream, frames before the first audio, and the time to it: in real time, and at once.

    The codes arrive in a simulated time, so that the load of the machine does not count: work on a code begins when
    the code is there and the work on the codes before it is done, and takes its CPU time.
    """
    frame_rate, finished = prompt.frame_rate, 0.0
    stream = _OpenStream(studio, prompt)
    for t in range(semantic.shape[1]):
        spent, samples = stream.push(semantic[:, t : t + 1])
        finished = max(finished, t / frame_rate) + spent
        if samples:
            spent, _ = _OpenStream(studio, prompt).push(semantic[:, : t + 1])
            return stream.opened, t + 1, finished, spent
    return stream.opened, math.nan, math.nan, math.nan  # shorter than the lookahead


class _OpenStream:
    """A voice model and a decoder after it."""

    def __init__(self, studio: Studio, prompt: SpeechTokens) -> None:
        start = time.process_time()
        self._voice = studio.model.stream(prompt, seed=studio.seed, sampling=studio.sampling)
        self._decoder = studio.tokenizer.stream()
        self.opened = time.process_time() - start

    def push(self, semantic: Tensor) -> tuple[float, int]:
        """CPU time for semantic codes ``(1, T)``, and samples of audio that they give."""
        start = time.process_time()
        audio = self._decoder.decode(self._voice.push(semantic))
        return time.process_time() - start, audio.shape[1]


def _semantic(tokens: SpeechTokens) -> SpeechTokens:
    return dataclasses.replace(tokens, codes=tokens.codes[:, :1])
