"""Baselines: the upper bound and the low anchor of every metric."""

from torch import Tensor

from benchmarks.codecs.interface import Reconstruction
from benchmarks.codecs.spec import Spec
from speechtok.errors import InputError
from speechtok.resampling import resample


class Identity:
    """Unchanged samples, counted as 16 bits each."""

    sample_rate = 16_000
    codebook_size = 0
    identity = "identity"

    def __init__(self, spec: Spec) -> None:
        if spec.number is not None:
            raise InputError(f"codec is identity:{spec.number:g}; expected identity alone, without a number")

    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Return ``(S,)`` unchanged."""
        return Reconstruction(waveform, 16.0 * len(waveform))


class Lowpass:
    """A low-pass filter. The number of the specification is the cutoff frequency in hertz."""

    sample_rate = 16_000
    codebook_size = 0
    MIN_CUTOFF, DEFAULT_CUTOFF = 500, 1000

    def __init__(self, spec: Spec) -> None:
        self.cutoff = spec.integer or self.DEFAULT_CUTOFF
        if not self.MIN_CUTOFF <= self.cutoff <= self.sample_rate // 2:
            raise InputError(
                f"lowpass:{self.cutoff} is in hertz; expected {self.MIN_CUTOFF} to {self.sample_rate // 2}"
            )
        self.identity = f"lowpass {self.cutoff}"

    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Resample ``(S,)`` to twice the cutoff frequency and back; the narrow signal counts as 16 bits a sample."""
        narrow = resample(waveform[None], self.sample_rate, 2 * self.cutoff)
        widened = resample(narrow, 2 * self.cutoff, self.sample_rate)[0][: len(waveform)]
        return Reconstruction(widened, 16.0 * narrow.numel())
