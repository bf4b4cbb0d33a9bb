"""Match the noise of a decoder to the energy of speech: ``python -m training.noise_gains --tokenizer DIR …``.

The losses of a decoder stage leave too little energy above 2 kHz, because noise in the right band still differs from
the original's noise. This program measures the energy of each noise band on speech, of the original, of what is
decoded, and of what is decoded without noise, and scales the gains of the noise by one factor for each band above
``--above``. Further down, more noise costs more PESQ than a closer spectrum is worth. Codes and fingerprint stay the
same; the decoder becomes another one.
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
from speechtok.nn.noise import band_edges
from speechtok.resampling import resample
from training.manifest import find_utterances
from training.tokenizer import load_tokenizer

ABOVE = 4_000.0
"""Lower edge of the lowest band that is changed by default, in hertz."""

_WINDOW = 512
_MAX_GAIN_DB = 12.0


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
    for waveform in tqdm(waveforms, desc="noise gains", unit="file", disable=len(waveforms) < 4):
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
        prog="python -m training.noise_gains",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="tokenizer of the convnext family")
    parser.add_argument("--data", required=True, help="speech: its dev split, or what is held out of a folder")
    parser.add_argument("--out", required=True, help="folder for the tokenizer with the new decoder")
    parser.add_argument("--above", type=float, default=ABOVE, help=f"lowest frequency in hertz ({ABOVE:g})")
    parser.add_argument("--limit", type=int, default=60, help="utterances, spread over the split (60)")
    arguments = parser.parse_args(argv)
    try:
        if not math.isfinite(arguments.above) or arguments.limit < 1:
            raise ConfigError(
                f"--above is {arguments.above} and --limit {arguments.limit}; expected a number, and 1 or more"
            )
        tokenizer = load_tokenizer(arguments.tokenizer)
        _, dev = find_utterances(arguments.data)
        chosen = dev[:: -(-len(dev) // arguments.limit)]
        recordings = [speechtok.read_audio(utterance.audio) for utterance in chosen]
        waveforms = [resample(waveform, rate, tokenizer.sample_rate) for waveform, rate in recordings]
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
