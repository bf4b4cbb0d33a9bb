"""Cutting long recordings at pauses."""

import numpy as np

_WINDOW = 0.02
"""Seconds of a level."""
_SMOOTH = 10
"""Levels that are averaged: a pause is longer than a stop consonant."""


def cut_at_pauses(waveform: np.ndarray, rate: int, max_seconds: float) -> list[tuple[int, int]]:
    """Cut ``(S,)`` into pieces of at most ``max_seconds``, each as long as its last pause allows.

    A cut lies in the middle of the quietest fifth of a second in the second half of the time that is left. Nothing is
    dropped: the pieces cover the waveform.

    Returns:
        First sample and sample after the last one of each piece.
    """
    window = max(1, round(_WINDOW * rate))
    count = len(waveform) // window
    levels = np.square(waveform[: count * window].reshape(count, window), dtype=np.float32).mean(1)
    sums = np.concatenate([[0.0], np.cumsum(levels, dtype=np.float64)])
    most = max(2 * _SMOOTH, int(max_seconds * rate) // window)
    pieces, start = [], 0
    while (len(waveform) - start) > most * window:
        first = start // window + most // 2
        last = start // window + most - _SMOOTH
        quiet = sums[first + _SMOOTH : last + _SMOOTH] - sums[first:last]
        # the latest of equally quiet places: digital silence has many
        place = first + len(quiet) - 1 - int(quiet[::-1].argmin()) + _SMOOTH // 2
        pieces.append((start, place * window))
        start = place * window
    pieces.append((start, len(waveform)))
    return pieces
