"""Finish a decoder above 4 kHz: ``python -m training.high_bands --tokenizer DIR …``.

After a decoder stage, three things are wrong in the high bands, and none of them shows in the losses:

- What is left of the waveform there repeats itself from piece to piece, which is heard as a buzz. It is damped above
  ``--above``, by a projection of the head's rows.
- The rounding of the head's weights adds an error of its own to every piece, as loud at 7 kHz, where speech is quiet,
  as at 1 kHz. The weights are rounded again, with errors that are quieter at high frequencies.
- There is too little noise, because noise is never the noise of the original, so that losses favour less of it. The
  energy of each noise band is measured on speech, of the original, of what is decoded, and of what is decoded without
  noise, and the gains of the noise are scaled by one factor for each band above ``--above``. Further down, more noise
  costs more PESQ than a closer spectrum is worth.

Codes and fingerprint stay the same; the decoder becomes another one.
"""

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import speechtok
from speechtok import ConvNeXtTokenizer
from speechtok.errors import ConfigError, SpeechtokError
from speechtok.nn.convnext import hann_window
from speechtok.nn.exact import MAX_LEVEL
from speechtok.nn.noise import band_edges
from speechtok.resampling import resample
from training.manifest import find_utterances
from training.tokenizer import load_tokenizer

ABOVE = 4_000.0
"""Frequency in hertz from which on waveform and noise are changed by default."""
WAVEFORM = 0.3
"""Factor of the waveform above that frequency by default."""

_RAMP = 1_000.0
_FLAT = 1_500.0
_RISE_DB = 20.0
_WINDOW = 512
_MAX_GAIN_DB = 12.0


def damp_waveform(tokenizer: ConvNeXtTokenizer, factor: float = WAVEFORM, above: float = ABOVE) -> None:
    """Multiply the waveform that a decoder's head writes, without its noise, by a factor above a frequency.

    Each piece is transformed to frequencies and back (DCT-II), which is a matrix, and so are the head's rows that write
    the piece. Between 1 kHz below ``above`` and ``above``, the factor falls from 1 linearly.

    Args:
        tokenizer: its decoder is changed.
        factor: 0 leaves no waveform above ``above``, 1 all of it.
        above: in hertz.
    """
    head, cosines = tokenizer.decoder.head, _cosines(tokenizer)
    piece = len(cosines)
    factors = 1 + (factor - 1) * np.clip((_frequencies(tokenizer) - above) / _RAMP + 1, 0, 1)
    projection = torch.from_numpy(cosines.T * factors @ cosines).to(head.weight)
    with torch.no_grad():
        head.weight[:piece] = projection @ head.weight[:piece]
        head.bias[:piece] = projection @ head.bias[:piece]


def round_rows(tokenizer: ConvNeXtTokenizer) -> None:
    """Round the weights with which a decoder's head writes pieces to their levels, with little error where it is heard.

    The head computes with weights of 255 levels (:mod:`speechtok.nn.exact`). The errors of all samples of a piece come
    from the same input, so together they are a waveform. Rows are rounded in turn, and the rows that follow make up for
    each error. The windowed error becomes smallest by a spectral weight that rises by 20 dB from 1.5 kHz to half the
    sample rate. This is the rounding of GPTQ (Frantar et al. 2022, arXiv 2210.17323) with a spectral weight.

    Args:
        tokenizer: its decoder is changed.
    """
    head, cosines = tokenizer.decoder.head, _cosines(tokenizer)
    piece = len(cosines)
    rise = np.clip((_frequencies(tokenizer) - _FLAT) / (tokenizer.sample_rate / 2 - _FLAT), 0, 1)
    windowed = cosines * hann_window(piece, torch.device("cpu")).double().numpy()
    metric = windowed.T * 10 ** (_RISE_DB / 10 * rise) @ windowed
    metric += 1e-3 * np.trace(metric) / piece * np.eye(piece)  # the window is zero at its edges
    spread = np.linalg.cholesky(np.linalg.inv(metric)).T
    rows = head.weight[:piece].detach().double().numpy()
    rounded, left = np.empty_like(rows), rows.copy()
    for index, (row, peak) in enumerate(zip(rows, np.abs(rows).argmax(1), strict=True)):
        scale = abs(row[peak]) / MAX_LEVEL or 1.0
        levels = np.clip(np.rint(left[index] / scale), -MAX_LEVEL, MAX_LEVEL)
        levels[peak] = np.rint(row[peak] / scale)  # the scale stays what it is
        rounded[index] = levels * scale
        error = (left[index] - rounded[index]) / spread[index, index]
        left[index + 1 :] -= spread[index, index + 1 :, None] * error
    with torch.no_grad():
        head.weight[:piece] = torch.from_numpy(rounded)


def _cosines(tokenizer: ConvNeXtTokenizer) -> np.ndarray:
    """The orthonormal DCT-II of a piece of the decoder, ``(piece, piece)``."""
    piece = 2 * tokenizer.decoder.patch_length
    index = np.arange(piece)
    cosines = np.cos(np.pi / piece * (index + 0.5) * index[:, None]) * math.sqrt(2 / piece)
    cosines[0] /= math.sqrt(2)
    return cosines


def _frequencies(tokenizer: ConvNeXtTokenizer) -> np.ndarray:
    """The frequencies of :func:`_cosines` in hertz, ``(piece,)``."""
    piece = 2 * tokenizer.decoder.patch_length
    return np.arange(piece) * tokenizer.sample_rate / 2 / piece


def match_noise(tokenizer: ConvNeXtTokenizer, waveforms: Sequence[Tensor], above: float = ABOVE) -> np.ndarray:
    """Scale the gains of a decoder's noise, so that decoded speech has the energy of the original in each band.

    Args:
        tokenizer: its decoder is changed.
        waveforms: speech ``(S,)`` at its sample rate.
        above: lower edge of the lowest band that is changed, in hertz.

    Returns:
        By how many decibels the noise of each band became louder, ``(bands,)``; at most 12 either way.

    Raises:
        ConfigError: the decoder has no noise.
    """
    bands = tokenizer.config.noise_bands
    if not bands:
        raise ConfigError("the decoder writes no noise; expected a tokenizer with noise_bands above 0")
    head = tokenizer.decoder.head
    rows = torch.cat([head.weight[-bands:], head.bias[-bands:, None]], 1).clone()
    energies = []
    for waveform in tqdm(waveforms, desc="high bands", unit="file", disable=len(waveforms) < 4):
        tokens = tokenizer.encode(waveform, tokenizer.sample_rate)
        whole = tokenizer.decode(tokens)[0]
        _set_rows(head, torch.zeros_like(rows))
        bare = tokenizer.decode(tokens)[0]
        _set_rows(head, rows)
        energies.append([_band_energies(x, bands, tokenizer.sample_rate) for x in (waveform, whole, bare)])
    original, whole, bare = np.array(energies).transpose(1, 2, 0) + 1e-12  # (bands, N) each
    noise = np.maximum(whole - bare, 1e-12)
    gains = np.array([_gain(*band) for band in zip(original, noise, bare, strict=True)])
    gains[band_edges(bands, tokenizer.sample_rate)[:-1] < above] = 0
    # the gain of the noise is the square of a row's output, and its energy the fourth power
    factors = torch.from_numpy(10 ** (gains / 40)).to(rows)
    _set_rows(head, rows * factors[:, None])
    return gains


def _gain(original: np.ndarray, noise: np.ndarray, bare: np.ndarray) -> float:
    """Decibels of noise with which the mean level over the utterances, in decibels, is that of the original."""
    low, high = -_MAX_GAIN_DB, _MAX_GAIN_DB
    for _ in range(40):
        middle = (low + high) / 2
        short = np.log((bare + 10 ** (middle / 10) * noise) / original).mean() < 0
        low, high = (middle, high) if short else (low, middle)
    return (low + high) / 2


@torch.no_grad()
def _set_rows(head: torch.nn.Module, rows: Tensor) -> None:
    head.weight[-len(rows) :] = rows[:, :-1]
    head.bias[-len(rows) :] = rows[:, -1]


def _band_energies(waveform: Tensor, bands: int, sample_rate: int) -> np.ndarray:
    spectrum = torch.stft(waveform, _WINDOW, _WINDOW // 4, window=torch.hann_window(_WINDOW), return_complex=True)
    energies = spectrum.abs().square().sum(1).double().numpy()
    band = np.digitize(np.linspace(0, sample_rate / 2, len(energies)), band_edges(bands, sample_rate)) - 1
    band[-1] = bands - 1
    return np.bincount(band + 1, energies, bands + 1)[1:]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.high_bands",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="tokenizer of the convnext family")
    parser.add_argument("--data", required=True, help="speech: its dev split, or what is held out of a folder")
    parser.add_argument("--out", required=True, help="folder for the tokenizer with the new decoder")
    parser.add_argument("--above", type=float, default=ABOVE, help=f"lowest frequency in hertz ({ABOVE:g})")
    parser.add_argument(
        "--waveform", type=float, default=WAVEFORM, help=f"factor of the waveform above it, from 0 to 1 ({WAVEFORM:g})"
    )
    parser.add_argument("--limit", type=int, default=60, help="utterances, spread over the split (60)")
    arguments = parser.parse_args(argv)
    try:
        if not math.isfinite(arguments.above) or arguments.limit < 1 or not 0 <= arguments.waveform <= 1:
            raise ConfigError(
                f"--above is {arguments.above}, --waveform {arguments.waveform} and --limit {arguments.limit}; "
                "expected a number, one from 0 to 1, and a whole number from 1 on"
            )
        tokenizer = load_tokenizer(arguments.tokenizer)
        _, dev = find_utterances(arguments.data)
        chosen = dev[:: -(-len(dev) // arguments.limit)]
        recordings = [speechtok.read_audio(utterance.audio) for utterance in chosen]
        waveforms = [resample(waveform, rate, tokenizer.sample_rate) for waveform, rate in recordings]
        damp_waveform(tokenizer, arguments.waveform, arguments.above)
        round_rows(tokenizer)
        gains = match_noise(tokenizer, waveforms, arguments.above)
        tokenizer.round_weights()
        tokenizer.save(arguments.out)
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("noise, dB: " + " ".join(f"{gain:+.1f}" for gain in gains))
    print(f"wrote {arguments.out}, decoder {tokenizer.decoder_fingerprint}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
