"""Labels and phones of the same frames, for many aligned utterances."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

import speechtok
from speechtok.errors import InputError, SpeechtokError
from training.manifest import SILENCE, Utterance, phones_at
from training.teachers.frames import frame_centres

Labeller = Callable[[Tensor, int, Tensor], Tensor]
"""Computes labels ``(Q, T)`` from a waveform ``(S,)``, its sample rate, and the frame centres in seconds ``(T,)``."""


@dataclass(frozen=True)
class LabelledUtterances:
    """Utterances with labels and phones.

    Attributes:
        utterances: the utterances.
        labels: of each utterance, ``(Q, T)``.
        phones: indices of the phones that the labels are compared with, ``(T,)`` for each utterance.
        undelayed: indices of the phones in the frames themselves, ``(T,)`` for each utterance.
        seconds: total duration.
    """

    utterances: list[Utterance]
    labels: list[np.ndarray]
    phones: list[np.ndarray]
    undelayed: list[np.ndarray]
    seconds: float

    @property
    def joined(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels ``(Q, T)`` and phones ``(T,)`` of all utterances, concatenated."""
        return np.concatenate(self.labels, 1), np.concatenate(self.phones)

    @property
    def speakers(self) -> list[str | None]:
        """Speaker of each utterance, if known."""
        return [utterance.speaker for utterance in self.utterances]


class AlignedUtterances:
    """Utterances with a forced alignment, on the frame grid of a tokenizer.

    Args:
        utterances: utterances; those without phones are ignored.
        hop_length: of the tokenizer, in samples.
        sample_rate: of the tokenizer, in hertz.
    """

    def __init__(self, utterances: Sequence[Utterance], hop_length: int, sample_rate: int) -> None:
        self.utterances = [utterance for utterance in utterances if utterance.phones]
        self.hop_length, self.sample_rate = hop_length, sample_rate
        names = {phone.name for utterance in self.utterances for phone in utterance.phones or ()}
        self.names = sorted(names | {SILENCE})
        self.failures: dict[Path, str] = {}

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def silence(self) -> int:
        """Index of silence among the phones."""
        return self.names.index(SILENCE)

    def frame_centres(self, waveform: Tensor, rate: int) -> Tensor:
        """Centres in seconds ``(T,)`` of the frames of a waveform ``(S,)``."""
        samples = -(-len(waveform) * self.sample_rate // rate)
        return frame_centres(-(-samples // self.hop_length), self.hop_length, self.sample_rate)

    def phones(self, utterance: Utterance, centres: Tensor, delay: int) -> np.ndarray:
        """Indices of the phones spoken ``delay`` frames before each frame, ``(T,)``."""
        return phones_at(utterance.phones, centres.numpy() - delay * self.hop_length / self.sample_rate, self.names)

    def label(self, labeller: Labeller, name: str, delay: int = 0) -> LabelledUtterances:
        """Label every frame of every utterance. Utterances that fail are left out and added to ``failures``.

        Args:
            labeller: computes the labels.
            name: for the progress bar.
            delay: number of frames by which labels lag behind the phones they represent.

        Raises:
            InputError: all utterances failed.
        """
        found, labels, phones, undelayed, seconds = [], [], [], [], 0.0
        for utterance in tqdm(self.utterances, desc=name, unit="file"):
            try:
                waveform, rate = speechtok.read_audio(utterance.audio)
                centres = self.frame_centres(waveform, rate)
                grid = labeller(waveform, rate, centres)
            except (SpeechtokError, RuntimeError) as error:
                self.failures[utterance.audio] = str(error)
                continue
            found.append(utterance)
            labels.append(grid.numpy())
            phones.append(self.phones(utterance, centres, delay))
            undelayed.append(self.phones(utterance, centres, 0))
            seconds += len(waveform) / rate
        if not found:
            reason = next(iter(self.failures.values()), "there are none")
            raise InputError(f"none of {len(self.utterances)} aligned utterances could be labelled: {reason}")
        return LabelledUtterances(found, labels, phones, undelayed, seconds)
