"""The interface of labels."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from speechtok.speech_frames import Frames, analyse
from speechtok.tokenizer import Tokenizer


@dataclass(frozen=True)
class Clip:
    """An utterance as a label sees it.

    Attributes:
        waveform: float32 ``(S,)`` at ``sample_rate``; ``None`` if the source has tokens in place of audio.
        sample_rate: in hertz, of the tokenizer.
        original: float32 ``(S',)``, the waveform before it was resampled; ``None`` as for ``waveform``.
        original_rate: its sample rate.
        codes: uint16 ``(Q, T)``.
        frame_rate: of the codes, in hertz.
        values: columns of the labels before this one.
    """

    waveform: np.ndarray | None
    sample_rate: int
    original: np.ndarray | None
    original_rate: int
    codes: np.ndarray
    frame_rate: float
    values: Mapping[str, Any]

    @functools.cached_property
    def frames(self) -> Frames | None:
        """Levels and pitch; ``None`` without a waveform."""
        return None if self.waveform is None else analyse(self.waveform, self.sample_rate)


class Label(ABC):
    """One or more columns. An instance is made in each worker; the result must depend on the clip alone.

    To write your own, subclass it and pass ``--labels your_module:YourLabel``. A tagger of audio events, for example::

        class Tags(Label):
            columns = {"tags": "list<string>"}

            def __call__(self, clip):
                return {"tags": my_model(clip.waveform, clip.sample_rate)}
    """

    columns: ClassVar[Mapping[str, str]]
    """Type of each column: ``"float32"``, ``"int32"``, ``"bool"``, ``"string"``, ``"list<string>"``, or
    ``"list<float32>"``."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Labels whose columns it reads in :attr:`Clip.values`."""

    def bind(self, tokenizer: Tokenizer) -> None:  # noqa: B027, most labels do not need it
        """Take the tokenizer whose codes the clips have."""

    @abstractmethod
    def __call__(self, clip: Clip) -> Mapping[str, Any]:
        """Values of the columns; ``None`` where there is no value."""


class CorpusLabel(ABC):
    """Columns that depend on the whole corpus. They are added when all utterances are encoded."""

    columns: ClassVar[Mapping[str, str]]
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def observe(self, table: Any) -> None:
        """See the rows of the next shard, a table of pyarrow. Shards come in order."""

    @abstractmethod
    def values(self, table: Any) -> Mapping[str, Any]:
        """Columns of the next shard, when all have been seen. Shards come in the same order."""
