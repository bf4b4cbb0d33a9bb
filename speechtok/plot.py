"""Pictures of waveforms, spectrograms and codes; the only module that needs matplotlib (the ``plot`` extra)."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from speechtok.tokens import SpeechTokens


def draw_spectrogram(axes: Axes, waveform: Tensor, sample_rate: int, title: str) -> None:
    """Draw the log magnitude spectrum of ``(S,)``, from -100 to -20 dB under a full-scale tone."""
    window = torch.hann_window(512)
    spectrum = torch.stft(waveform, 512, 128, window=window, pad_mode="constant", return_complex=True).abs()
    decibels = 20 * torch.log10(spectrum / window.sum() + 1e-5)
    extent = (0, len(waveform) / sample_rate, 0, sample_rate / 2000)
    axes.imshow(decibels.numpy(), origin="lower", aspect="auto", vmin=-100, vmax=-20, extent=extent)
    axes.set(title=title, ylabel="kHz")


def spectrogram_figure(before: Tensor, after: Tensor, sample_rate: int) -> Figure:
    """Spectrograms of two waveforms, ``(S,)`` each, one above the other."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    draw_spectrogram(upper, before, sample_rate, "before")
    draw_spectrogram(lower, after, sample_rate, "after")
    lower.set(xlabel="s")
    return figure


def roundtrip_figure(before: Tensor, after: Tensor, tokens: SpeechTokens) -> Figure:
    """Waveforms and spectrograms of ``(S,)`` before and after, and the codes of one utterance, over one time axis."""
    figure = Figure(figsize=(10, 9), layout="constrained")
    wave, original, decoded, grid = figure.subplots(4, sharex=True)
    seconds = int(tokens.num_samples[0]) / tokens.sample_rate
    times = np.arange(len(before)) / tokens.sample_rate
    wave.plot(times, before.numpy(), linewidth=0.5, label="before")
    wave.plot(times, after.numpy(), linewidth=0.5, alpha=0.7, label="after")
    wave.set(title="waveform", ylim=(-1, 1))
    wave.legend(loc="upper right")
    draw_spectrogram(original, before, tokens.sample_rate, "spectrogram before")
    draw_spectrogram(decoded, after, tokens.sample_rate, "spectrogram after")
    frames, codebooks = tokens.codes.shape[2], tokens.num_codebooks
    grid.imshow(
        tokens.codes[0].numpy(),
        aspect="auto",
        interpolation="nearest",
        extent=(0, frames / tokens.frame_rate, codebooks - 0.5, -0.5),
    )
    grid.set(title=f"codes {codebooks} x {frames}", ylabel="codebook", xlabel="s", xlim=(0, seconds))
    return figure
