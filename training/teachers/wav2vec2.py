"""What wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477), HuBERT and WavLM share, whatever their library.

All of them begin with a stack of unpadded convolutions on the waveform, and many take standardized waveforms.
"""

from collections.abc import Sequence

from torch import Tensor


def receptive_field(convolutions: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Receptive field and stride of a stack of unpadded convolutions, in samples.

    Args:
        convolutions: kernel size and stride of each, from the first to the last.
    """
    width, hop = 1, 1
    for kernel_size, stride in convolutions:
        width += (kernel_size - 1) * hop
        hop *= stride
    return width, hop


def standardize(waveform: Tensor) -> Tensor:
    """Shift and scale each row of ``(B, S)`` to mean 0 and variance 1."""
    mean = waveform.mean(1, keepdim=True)
    return (waveform - mean) / (waveform.var(1, keepdim=True, unbiased=False) + 1e-7).sqrt()
