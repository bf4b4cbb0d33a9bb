"""Bounds of the steps of a style: percentiles of the prosody of training speech.

Usage: ``python -m training.voice.style_bounds --data DATA/train.jsonl``
"""

import argparse
import random
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from speechtok.audio import read_audio
from speechtok.errors import AudioError, SpeechtokError
from speechtok.voice.prosody import Prosody
from speechtok.voice.style import QUANTITIES, measured_values
from training.manifest import Utterance, find_utterances

PERCENTILES = (5, 20, 40, 60, 80, 95)
"""The outer steps are rare on purpose: "very" means more than most voices do."""


def measure(utterances: Sequence[Utterance], count: int, seed: int) -> np.ndarray:
    """Prosody of a random subset: values of the quantities, ``(n, 4)``, NaN where one cannot be measured.

    Args:
        utterances: of the training speech. Those that cannot be read are left out.
        count: utterances to measure.
        seed: of the choice.
    """
    chosen = random.Random(seed).sample(utterances, min(count, len(utterances)))
    rows = []
    for utterance in tqdm(chosen, unit="utterance"):
        try:
            waveform, rate = read_audio(utterance.audio)
            rows.append(list(measured_values(Prosody.of(waveform, rate)).values()))
        except AudioError as error:
            print(f"left out: {error}", file=sys.stderr)
    return np.array(rows).reshape(-1, len(QUANTITIES))


def find_bounds(values: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Bounds of each quantity, from the result of :func:`measure`."""
    bounds = np.nanpercentile(values, PERCENTILES, axis=0).T.round(1)
    return {name: tuple(row.tolist()) for name, row in zip(QUANTITIES, bounds, strict=True)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.voice.style_bounds", description=__doc__)
    parser.add_argument("--data", required=True, help="manifest, or folder of audio files")
    parser.add_argument("--utterances", type=int, default=1000, help="how many to measure (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of utterances (default: 0)")
    arguments = parser.parse_args(argv)
    try:
        train, _ = find_utterances(arguments.data)
        values = measure(train, arguments.utterances, arguments.seed)
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if np.isnan(values).all(0).any():
        print(f"error: {arguments.data!r} has too little voice to measure; expected speech", file=sys.stderr)
        return 1
    for name, bounds in find_bounds(values).items():
        print(f"    {name!r}: {bounds},")
    return 0


if __name__ == "__main__":
    sys.exit(main())
