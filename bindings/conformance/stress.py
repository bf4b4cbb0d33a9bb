"""The stress input: 32 s at 16 kHz that reach the edges of the arithmetic, made by whole numbers alone.

Every value is computed with unsigned integers of 32 bits and signed integers of 64 bits, so that any language can make
the input itself. The last step is exact: a whole number of at most 2**23 becomes a float32 and is divided by a power of
two; or the bits of a float32 are given.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

NOISE_LEVELS = 12
FULL_SCALE = 1 << 23


class Generator:
    """Linear congruential generator of Numerical Recipes; see Press et al. 1992, chapter 7.1."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def signed(self) -> int:
        """The next whole number from -2**23 to 2**23 - 1."""
        self.state = (1_664_525 * self.state + 1_013_904_223) & 0xFFFF_FFFF
        return (self.state >> 8) - FULL_SCALE


def stress_input() -> np.ndarray:
    """The input, float32 ``(S,)``."""
    bits = np.asarray([*_zeros(), *_denormals()], dtype=np.uint32)
    values = [*_noise(), *_clipped(), *_chirp(), *_steps(), *_impulses(), *_square(), *_voice(), *_tail()]
    numerators, denominators = np.asarray(values, dtype=np.int64).astype(np.float32).T
    return np.concatenate([bits.view(np.float32), numerators / denominators])


def sha256(samples: np.ndarray) -> str:
    """Hash of samples as little-endian float32."""
    return hashlib.sha256(samples.astype("<f4").tobytes()).hexdigest()


def fnv1a(data: bytes) -> int:
    """FNV-1a hash of 32 bits (Fowler, Noll and Vo; draft-eastlake-fnv)."""
    value = 2_166_136_261
    for byte in data:
        value = ((value ^ byte) * 16_777_619) & 0xFFFF_FFFF
    return value


def _zeros() -> Iterator[int]:
    """Silence: 3 200 samples of 0.0, and 800 of -0.0."""
    yield from [0] * 3_200
    yield from [0x8000_0000] * 800


def _denormals() -> Iterator[int]:
    """3 200 denormal numbers of alternating sign."""
    for i in range(3_200):
        yield ((i & 1) << 31) | (1 + (i * 2_654_435_761 & 0x007F_FFFE))


def _noise() -> Iterator[tuple[int, int]]:
    """24 000 samples of noise at each of 12 levels, each half the one before."""
    generator = Generator(1)
    for level in range(NOISE_LEVELS):
        for _ in range(24_000):
            yield generator.signed(), FULL_SCALE << level


def _clipped() -> Iterator[tuple[int, int]]:
    """16 000 samples of noise at four times full scale, clipped."""
    generator = Generator(2)
    for _ in range(16_000):
        yield max(-FULL_SCALE, min(FULL_SCALE, 4 * generator.signed())), FULL_SCALE


def _chirp() -> Iterator[tuple[int, int]]:
    """80 000 samples of parabolic arcs whose frequency rises from 0 to 8 kHz."""
    phase = step = 0
    for _ in range(80_000):
        step += 26_843
        phase = (phase + step) & 0xFFFF_FFFF
        arc = (phase >> 16) & 0x7FFF
        value = (arc * (0x8000 - arc)) >> 5
        yield -value if phase >> 31 else value, FULL_SCALE


def _steps() -> Iterator[tuple[int, int]]:
    """8 000 samples of 0.5, and 8 000 of nearly -1."""
    yield from [(FULL_SCALE // 2, FULL_SCALE)] * 8_000
    yield from [(1 - FULL_SCALE, FULL_SCALE)] * 8_000


def _impulses() -> Iterator[tuple[int, int]]:
    """16 000 samples with an impulse of full scale every 997 samples."""
    for i in range(16_000):
        yield 0 if i % 997 else FULL_SCALE, FULL_SCALE


def _square() -> Iterator[tuple[int, int]]:
    """16 000 samples of a square wave of 200 Hz."""
    for i in range(16_000):
        yield -5_872_025 if i // 40 % 2 else 5_872_025, FULL_SCALE


def _voice() -> Iterator[tuple[int, int]]:
    """80 000 samples of pulses of gliding pitch through two resonators, like a voice."""
    first = second = third = fourth = countdown = 0
    generator = Generator(3)
    for i in range(80_000):
        pulse = generator.signed() >> 9
        if countdown == 0:
            countdown, pulse = 80 + i // 400 % 120, FULL_SCALE // 4
        countdown -= 1
        # poles at 600 Hz and 1 700 Hz; coefficients in units of 2**-14
        first, second = pulse + ((31_000 * first - 15_600 * second) >> 14), first
        third, fourth = (first >> 3) + ((24_500 * third - 15_200 * fourth) >> 14), third
        yield max(-FULL_SCALE, min(FULL_SCALE, third)), FULL_SCALE


def _tail() -> Iterator[tuple[int, int]]:
    """123 samples of noise, so that the last frame is not whole."""
    generator = Generator(4)
    for _ in range(123):
        yield generator.signed(), FULL_SCALE
