"""Speaker embeddings, and groups of utterances with one voice."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from speechtok.corpus.labels.label import Clip, CorpusLabel, Label
from speechtok.errors import InputError
from speechtok.extras import install_hint
from speechtok.metrics import speaker_embedding

_SAME_VOICE = 0.78
"""Cosine similarity with the mean of a group from which an utterance joins it."""

_MAX_SECONDS = 30.0
"""An embedding is that of the first seconds."""


class Voice(Label):
    """``voice``: embedding of the speaker, 256 numbers, of the library resemblyzer."""

    columns: ClassVar[Mapping[str, str]] = {"voice": "list<float32>"}

    def __init__(self) -> None:
        try:
            import resemblyzer  # noqa: F401
        except ImportError as error:
            raise InputError(f"the label voice needs resemblyzer ({error}); {install_hint('bench')}") from error

    def __call__(self, clip: Clip) -> Mapping[str, Any]:
        """See :class:`Label`."""
        if clip.waveform is None:
            return {}
        first = clip.waveform[: round(_MAX_SECONDS * clip.sample_rate)]
        embedding = speaker_embedding(torch.from_numpy(first), clip.sample_rate)
        return {} if embedding is None else {"voice": embedding.astype(np.float32).tolist()}


class Speakers(CorpusLabel):
    """``speaker_group``: number of the group of utterances with a similar voice, in the order of first utterances.

    An utterance joins the group whose mean is nearest, or begins a new one (leader clustering): one pass, and the same
    groups for the same shards.
    """

    columns: ClassVar[Mapping[str, str]] = {"speaker_group": "int32"}
    needs = ("voice",)

    def __init__(self) -> None:
        self._sums = np.zeros((0, 0), np.float64)
        self._means = np.zeros((0, 0), np.float64)
        self._groups: list[int | None] = []
        self._given = 0

    def observe(self, table: Any) -> None:
        """See :class:`CorpusLabel`."""
        for value in table.column("voice").to_pylist():
            self._groups.append(None if value is None else self._join(np.asarray(value, np.float64)))

    def values(self, table: Any) -> Mapping[str, Any]:
        """See :class:`CorpusLabel`."""
        start, self._given = self._given, self._given + len(table)
        return {"speaker_group": self._groups[start : self._given]}

    def _join(self, voice: np.ndarray) -> int:
        if len(self._sums):
            similarity = self._means @ voice
            best = int(similarity.argmax())
            if similarity[best] >= _SAME_VOICE:
                self._sums[best] += voice
                self._means[best] = self._sums[best] / np.linalg.norm(self._sums[best])
                return best
        self._sums = np.vstack([self._sums.reshape(-1, len(voice)), voice])
        self._means = np.vstack([self._means.reshape(-1, len(voice)), voice / np.linalg.norm(voice)])
        return len(self._sums) - 1
