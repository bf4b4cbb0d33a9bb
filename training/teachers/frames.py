"""Frame grids: the times of frames, and features moved from one grid to another."""

import torch
from torch import Tensor


def frame_centres(frames: int, hop_length: float, sample_rate: int, start: float = 0) -> Tensor:
    """Centres of consecutive frames, in seconds.

    Args:
        frames: number of frames ``T``.
        hop_length: samples per frame.
        sample_rate: in hertz.
        start: first sample of the first frame.

    Returns:
        Float64 ``(T,)``.
    """
    return (start + (torch.arange(frames, dtype=torch.float64) + 0.5) * hop_length) / sample_rate


def interpolate(features: Tensor, frame_rate: float, offset: float, times: Tensor) -> Tensor:
    """Interpolate features linearly in time.

    Args:
        features: ``(B, T, D)``; frame ``t`` is centred at ``offset + t / frame_rate`` seconds.
        frame_rate: in hertz.
        offset: centre of the first frame, in seconds.
        times: in seconds, ``(T',)``. Times outside the first and last centre get the nearest frame.

    Returns:
        ``(B, T', D)``, with the dtype of ``features``.
    """
    last = features.shape[1] - 1
    position = ((times.double() - offset) * frame_rate).clamp(0, last)
    left = position.floor().long()
    weight = (position - left).to(features.dtype).to(features.device)[:, None]
    left = left.to(features.device)
    right = (left + 1).clamp_max(last)
    return torch.lerp(features[:, left], features[:, right], weight)
