"""One waveform through one codec, at the sample rate of the metrics."""

import dataclasses

from torch import Tensor

from benchmarks.codecs.interface import Codec, Reconstruction
from benchmarks.metrics.speech import SAMPLE_RATE
from speechtok.errors import InputError
from speechtok.resampling import resample


def reconstruct(codec: Codec, waveform: Tensor, sample_rate: int) -> Reconstruction:
    """Encode and decode a waveform, and resample the result to 16 kHz.

    Args:
        codec: the codec.
        waveform: ``(S,)``.
        sample_rate: of ``waveform``, in hertz.

    Raises:
        InputError: the codec does not return a waveform ``(S,)`` of finite samples.
    """
    result = codec(resample(waveform[None], sample_rate, codec.sample_rate)[0])
    decoded = result.waveform.detach().float()
    if decoded.ndim != 1 or not len(decoded) or not decoded.isfinite().all():
        raise InputError(
            f"the codec returned shape {tuple(decoded.shape)}, {int((~decoded.isfinite()).sum())} samples not finite; "
            "expected a waveform (S,) of finite samples"
        )
    at_16_khz = resample(decoded[None], codec.sample_rate, SAMPLE_RATE)[0].clamp(-1, 1)
    return dataclasses.replace(result, waveform=at_16_khz)
