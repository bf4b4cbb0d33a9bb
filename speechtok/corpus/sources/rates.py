"""Durations guessed from sizes, for planning alone."""

_BYTES_PER_SECOND = {
    ".wav": 32_000,
    ".flac": 17_000,
    ".mp3": 12_000,
    ".m4a": 12_000,
    ".aac": 12_000,
    ".ogg": 8_000,
    ".opus": 4_000,
    ".tokens": 800,
}


def seconds_of_bytes(suffix: str, size: int) -> float:
    """Seconds of audio that a file of ``size`` bytes may hold."""
    return round(size / _BYTES_PER_SECOND.get(suffix, 16_000), 3)
