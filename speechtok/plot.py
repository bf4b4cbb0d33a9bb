"""Figures of spectrograms and codes. The only module that needs matplotlib (the ``plot`` extra)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from speechtok.tokens import SpeechTokens

MIN_DB, MAX_DB = -90.0, -20.0
"""Range of the spectrograms' colour scale, in decibels relative to a full-scale tone."""

MAX_DIFFERENCE_DB = 30.0
"""End of the difference's colour scale, in decibels to either side of zero."""

_WINDOW, _HOP = 512, 128


def level(waveform: Tensor) -> Tensor:
    """Log-magnitude spectrogram.

    Args:
        waveform: ``(S,)``.

    Returns:
        Decibels relative to a full-scale tone, at least :data:`MIN_DB`: frequency bins from 0 to half the sample rate
        by frames of 128 samples.
    """
    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(waveform, _WINDOW, _HOP, window=window, pad_mode="constant", return_complex=True).abs()
    return (20 * torch.log10(2 * spectrum / window.sum() + 1e-9)).clamp_min(MIN_DB)


def spectrogram_figure(original: Tensor, decoded: Tensor, sample_rate: int) -> Figure:
    """Spectrograms of two waveforms ``(S,)``, one above the other, on one colour scale."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    _draw_level(upper, level(original), len(original) / sample_rate, sample_rate, "Original")
    image = _draw_level(lower, level(decoded), len(original) / sample_rate, sample_rate, "Decoded")
    lower.set_xlabel("time, s")
    figure.colorbar(image, ax=[upper, lower], label="level, dB relative to full scale", aspect=40, pad=0.01)
    return figure


def roundtrip_figure(
    original: Tensor,
    decoded: Tensor,
    tokens: SpeechTokens,
    title: str = "",
    scores: Sequence[tuple[str, str]] = (),
    vectors: Tensor | None = None,
) -> Figure:
    """Four panels over one time axis: both spectrograms, their difference, and the codes; 1300 pixels wide.

    Args:
        original: the waveform before encoding, ``(S,)``.
        decoded: the waveform after decoding, ``(S,)``.
        tokens: the codes of this one utterance.
        title: headline, such as the name of the file.
        scores: names and values to print beside the title.
        vectors: of :func:`codebook_vectors`. With them, entries with similar vectors get similar colours; without them,
            the colour shows the number of the entry.
    """
    seconds = len(original) / tokens.sample_rate
    levels = [level(x) for x in (original, decoded[: len(original)])]
    frames = min(x.shape[1] for x in levels)
    difference = levels[1][:, :frames] - levels[0][:, :frames]

    figure = Figure(figsize=(13, 11), dpi=100)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08, rect=(0, 0, 1, 0.95))  # the rest is for the title
    before, after, between, grid = figure.subplots(4, sharex=True, height_ratios=(1, 1, 1, 0.9))
    figure.suptitle(title or " ", fontsize=17, fontweight="bold", ha="left", va="center", x=0.01, y=0.97)
    line = "      ".join(f"{name} {value}" for name, value in scores)
    figure.text(0.985, 0.97, line, fontsize=14, ha="right", va="center")
    _draw_level(before, levels[0], seconds, tokens.sample_rate, "Original")
    image = _draw_level(after, levels[1], seconds, tokens.sample_rate, "Decoded")
    figure.colorbar(image, ax=[before, after], label="level, dB relative to full scale", aspect=30, pad=0.01)

    _title(between, "Difference: decoded minus original")
    image = between.imshow(
        difference.numpy(),
        origin="lower",
        aspect="auto",
        cmap="RdBu_r",
        vmin=-MAX_DIFFERENCE_DB,
        vmax=MAX_DIFFERENCE_DB,
        extent=(0, seconds, 0, tokens.sample_rate / 2000),
    )
    between.set_ylabel("frequency, kHz")
    figure.colorbar(image, ax=between, label="dB (red: decoded is louder)", extend="both", aspect=15, pad=0.01)

    _draw_codes(figure, grid, tokens, vectors)
    grid.set(xlabel="time, s", xlim=(0, seconds))
    return figure


def codebook_vectors(embed: Callable[[SpeechTokens, int], Tensor], tokens: SpeechTokens) -> Tensor:
    """Codebook vector of every code of one utterance.

    Args:
        embed: the method ``embed`` of the tokenizer that made the tokens.
        tokens: tokens of one utterance.

    Returns:
        ``(Q, T, D)``.
    """
    sums = torch.stack([embed(tokens, count)[0] for count in range(1, tokens.num_codebooks + 1)])
    return sums.diff(dim=0, prepend=torch.zeros_like(sums[:1])).cpu()


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=13, fontweight="bold")


def _draw_level(axes: Axes, decibels: Tensor, seconds: float, sample_rate: int, title: str) -> AxesImage:
    _title(axes, title)
    axes.set_ylabel("frequency, kHz")
    return axes.imshow(
        decibels.numpy(),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=MIN_DB,
        vmax=MAX_DB,
        extent=(0, seconds, 0, sample_rate / 2000),
    )


def _draw_codes(figure: Figure, axes: Axes, tokens: SpeechTokens, vectors: Tensor | None) -> None:
    codes = tokens.codes[0].numpy()
    codebooks, frames = codes.shape
    if vectors is None:
        values, meaning = codes / max(1, tokens.codebook_size - 1), "number of the entry"
    else:
        values, meaning = _similarity_order(codes, vectors.numpy()), "similar entries,\nsimilar colours"
    duration = f"{1000 / tokens.frame_rate:.3g} ms"
    books = f"{codebooks} codebook{'s' if codebooks > 1 else ''}"
    _title(axes, f"Codes: {frames} frames of {duration} × {books}, all that the decoder receives")
    image = axes.imshow(
        values,
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        vmin=0,
        vmax=1,
        extent=(0, frames / tokens.frame_rate, codebooks - 0.5, -0.5),
    )
    axes.set_yticks(range(0, codebooks, max(1, codebooks // 8)))
    axes.set_ylabel("codebook")
    bar = figure.colorbar(image, ax=axes, label=meaning, aspect=13, pad=0.01)
    bar.set_ticks([])


def _similarity_order(codes: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rank of every code's entry along the first principal component of its codebook's used vectors, 0 to 1."""
    values = np.zeros(codes.shape)
    for row, entries, features in zip(values, codes, vectors, strict=True):
        _, first, inverse = np.unique(entries, return_index=True, return_inverse=True)
        used = features[first] - features[first].mean(0)
        component = np.linalg.svd(used, full_matrices=False)[2][0]
        projected = used @ component * np.sign(component[np.abs(component).argmax()])  # same colours on every machine
        rank = np.argsort(np.argsort(projected))
        row[:] = rank[inverse] / max(1, len(first) - 1)
    return values
