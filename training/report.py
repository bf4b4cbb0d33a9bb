"""Pictures for TensorBoard."""

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

matplotlib.use("Agg")


def spectrogram_figure(original: Tensor, decoded: Tensor, sample_rate: int) -> Figure:
    """Log spectrograms of two waveforms, ``(S,)`` each, one above the other."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    for axes, waveform, title in zip(
        figure.subplots(2, sharex=True), (original, decoded), ("original", "decoded"), strict=True
    ):
        window = torch.hann_window(512)
        spectrum = torch.stft(waveform, 512, 128, window=window, return_complex=True).abs()
        decibels = 20 * torch.log10(spectrum / window.sum() + 1e-5)
        seconds = len(waveform) / sample_rate
        axes.imshow(
            decibels.numpy(),
            origin="lower",
            aspect="auto",
            vmin=-100,
            vmax=-20,
            extent=(0, seconds, 0, sample_rate / 2000),
        )
        axes.set_title(title)
        axes.set_ylabel("kHz")
    axes.set_xlabel("s")
    return figure
