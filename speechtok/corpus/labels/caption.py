"""A caption by rule from other labels."""

from collections.abc import Mapping
from typing import Any, ClassVar

from speechtok.corpus.labels.label import Clip, Label


class Caption(Label):
    """A description such as "a quick, high voice, lively, quiet room"; ``None`` without speech."""

    columns: ClassVar[Mapping[str, str]] = {"caption": "string"}
    needs = ("level", "prosody")

    def __call__(self, clip: Clip) -> Mapping[str, Any]:
        """See :class:`Label`."""
        return {"caption": describe(clip.values)}


def describe(values: Mapping[str, Any]) -> str | None:
    """Caption of an utterance, from the columns of ``level`` and ``prosody``."""
    pitch, rate = values.get("pitch"), values.get("rate")
    if pitch is None or rate is None:
        return None
    pace = "slow" if rate < 2.5 else "quick" if rate > 5.0 else ""
    height = "low" if pitch < 120 else "high" if pitch > 220 else "medium"
    parts = [f"a {', '.join(filter(None, [pace, height]))} voice"]
    spread = values.get("pitch_range")
    if spread is not None:
        parts += ["monotone"] if spread < 4 else ["lively"] if spread > 12 else []
    if (values.get("pauses") or 0) and (values.get("pause_seconds") or 0.0) > 1.0:
        parts.append("with pauses")
    snr = values.get("snr")
    if snr is not None:
        parts.append("quiet room" if snr > 30 else "noisy" if snr < 12 else "some background noise")
    if (values.get("clipped") or 0.0) > 1e-3:
        parts.append("distorted")
    return ", ".join(parts)
