"""The source signals that test files are made from, and the comparison of what was read with them."""

import numpy as np


def voice(seconds: float = 1.5, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """A gliding tone with harmonics, float32 ``(S,)``: no two moments of it are alike, and every codec keeps it."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    vibrato = 0.15 * np.sin(2 * np.pi * 3.3 * time + seed)
    pitch = rng.uniform(140, 180) * 2 ** (rng.choice([-0.6, 0.6]) * time + vibrato)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in (1, 2, 3, 5))
    knots = rng.uniform(0.15, 1, int(12 * seconds) + 3)
    return (0.3 * tone * np.interp(12 * time, np.arange(len(knots)), knots)).astype(np.float32)


def find_lost(read: np.ndarray, source: np.ndarray, rate: int, similarity: float, slack: float) -> str | None:
    """Find what of ``source`` is missing in ``read``, or is not in order.

    Args:
        read: the samples of the file.
        source: the samples that the file was made from.
        rate: of both.
        similarity: the least correlation of each tenth of a second with its place in ``read``.
        slack: seconds by which a codec may delay its output, or lengthen it.

    Returns:
        ``None`` if every block of the source was found.
    """
    extra = (len(read) - len(source)) / rate
    if not -0.002 <= extra <= slack + 0.002:
        return f"{len(read)} samples instead of {len(source)}"
    block = rate // 10
    reach = int(slack * rate) + rate // 500
    earliest = -rate // 250
    for start in range(0, len(source) - block // 2, block):
        wanted = source[start : start + block]
        low = max(start + earliest, 0)
        window = read[low : start + len(wanted) + reach]
        if len(window) < len(wanted):
            window = np.pad(window, (0, len(wanted) - len(window)))
        size = 1 << int(np.ceil(np.log2(len(window) + len(wanted))))
        products = np.fft.irfft(np.fft.rfft(window, size) * np.fft.rfft(wanted, size).conj(), size)
        products = products[: len(window) - len(wanted) + 1]
        energy = np.cumsum(np.pad(window.astype(np.float64) ** 2, (1, 0)))
        norms = np.sqrt((energy[len(wanted) :] - energy[: -len(wanted)]).clip(1e-12))
        match = products / norms / np.linalg.norm(wanted)
        if match.max() < similarity:
            return f"{start / rate:.1f} s of the source is not there (correlation {match.max():.3f})"
    return None
