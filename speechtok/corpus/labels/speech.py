"""Where somebody speaks, by three ways of telling."""

import importlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from speechtok.corpus.labels.label import Clip, Label
from speechtok.errors import InputError
from speechtok.resampling import resample
from speechtok.speech_frames import fill_gaps, runs
from speechtok.tokenizer import Tokenizer

_SILERO_RATE = 16_000


class _Segments(Label):
    """Columns ``speech``, the share of the time that is speech, and ``speech_segments``: start, end, start, end."""

    columns: ClassVar[Mapping[str, str]] = {"speech": "float32", "speech_segments": "list<float32>"}

    def __call__(self, clip: Clip) -> Mapping[str, Any]:
        """See :class:`Label`."""
        segments = self.segments(clip)
        if segments is None:
            return {}
        seconds = clip.codes.shape[1] / clip.frame_rate
        spoken = sum(end - start for start, end in segments)
        return {
            "speech": min(1.0, spoken / max(seconds, 1e-3)),
            "speech_segments": [round(time, 3) for segment in segments for time in segment],
        }

    @abstractmethod
    def segments(self, clip: Clip) -> list[tuple[float, float]] | None:
        """Start and end of each stretch of speech, in seconds; ``None`` if it cannot be told."""


class Speech(_Segments):
    """Speech by loudness and periodicity. Fast; takes music with a pitch for speech."""

    def segments(self, clip: Clip) -> list[tuple[float, float]] | None:
        """See :class:`_Segments`."""
        return None if clip.frames is None else clip.frames.segments


class Turns(_Segments):
    """Speech by the turn detector of the tokenizer, from the codes alone: also of sources with tokens."""

    def __init__(self) -> None:
        self._detector: Any = None

    def bind(self, tokenizer: Tokenizer) -> None:
        """See :meth:`Label.bind`."""
        from speechtok.turn_detector import TurnDetector

        owner: Any = tokenizer  # one without a quantizer is refused there
        self._detector = TurnDetector(owner)

    def segments(self, clip: Clip) -> list[tuple[float, float]] | None:
        """See :class:`_Segments`."""
        codes = torch.from_numpy(clip.codes.astype(np.int64))[None]
        is_speech = self._detector.detect(codes).speech[0].cpu().numpy() > 0.5
        step = 1 / clip.frame_rate
        return [(start * step, end * step) for start, end in runs(fill_gaps(is_speech, round(0.2 / step)))]


class Silero(_Segments):
    """Speech by the Silero detector, of the library ``silero-vad``."""

    def __init__(self) -> None:
        try:
            self._library: Any = importlib.import_module("silero_vad")
        except ImportError as error:
            raise InputError(f"the label silero needs silero-vad ({error}); run pip install silero-vad") from error
        self._model = self._library.load_silero_vad()

    def segments(self, clip: Clip) -> list[tuple[float, float]] | None:
        """See :class:`_Segments`."""
        if clip.waveform is None:
            return None
        waveform = resample(torch.from_numpy(clip.waveform)[None], clip.sample_rate, _SILERO_RATE)[0]
        found = self._library.get_speech_timestamps(waveform, self._model, sampling_rate=_SILERO_RATE)
        return [(one["start"] / _SILERO_RATE, one["end"] / _SILERO_RATE) for one in found]
