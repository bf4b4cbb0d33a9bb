"""Measure the turn detector beside silero-vad, WebRTC's detector and silence timers: ``python -m benchmarks.events``.

Speech is scored on test utterances mixed with held-out noise, overlap on mixtures of two talkers, and the end of a turn
by the share of turns that are cut off against the delay at their end. Thresholds and policies are chosen on the
development split, which shares neither speakers nor noises with the test split. The data needs phones.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.events.detectors import load_silero, own_detector, silero, webrtc
from benchmarks.events.price import measure_prices
from benchmarks.events.speech import Mixture, best_threshold, mix_noise, score
from benchmarks.events.tables import write_tables
from benchmarks.events.turns import Watched, choose_policies, make_turn, timer_curve
from speechtok.files import make_folder, replacing
from training.events.config import EventsConfig
from training.events.scenes import SceneConfig, SceneSampler, Turn
from training.events.splits import Split, load_test_split
from training.events.train import load_tokenizer

SNRS = (None, 20.0, 10.0, 0.0)
DELAYS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description=__doc__)
    parser.add_argument("--data", required=True, help="folder with dev.jsonl and test.jsonl, with phones")
    parser.add_argument("--noise", default="", help="manifest of noise; coloured noise by default")
    parser.add_argument("--tokenizer", default="", help="tokenizer; the default one if not given")
    parser.add_argument("--detector", help="turns.safetensors of training.events; that of the package by default")
    parser.add_argument("--out", required=True, help="folder of events.json, events.md and packed audio")
    parser.add_argument("--limit", type=integer_from(1), help="utterances of each split, for a trial")
    parser.add_argument("--overlaps", type=integer_from(1), default=100, help="mixtures of two talkers, 10 s each")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    out = make_folder(arguments.out)
    results = measure(arguments)
    with replacing(out / "events.json") as file:
        file.write((json.dumps(results, indent=2) + "\n").encode())
    text = write_tables(results)
    with replacing(out / "events.md") as file:
        file.write(text.encode())
    print(text)
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All results, as plain values."""
    tokenizer = load_tokenizer(arguments.tokenizer)
    if arguments.detector:
        tokenizer.load_turn_detector(arguments.detector)
    config = EventsConfig(arguments.data, arguments.out, noise=arguments.noise)
    dev, test = (load_test_split(config, tokenizer.sample_rate, name) for name in ("dev", "test"))
    own, model, hop = own_detector(tokenizer), load_silero(), tokenizer.hop_length
    speech: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "speechtok": lambda x: own(x)[0],
        "silero-vad, window around the frame": silero(hop, False, model),
        "silero-vad, last complete window": silero(hop, True, model),
        "WebRTC, modes 0 to 3": webrtc(hop),
    }
    pairs = [list(recordings(split, arguments.limit)) for split in (dev, test)]
    results: dict[str, Any] = {
        "tokenizer": tokenizer.fingerprint,
        "utterances": [len(turns) for turns in pairs],
        "speech": speech_scores(speech, pairs, (dev, test), hop, tokenizer.sample_rate),
        "overlap": overlap_scores(own, (dev, test), hop, tokenizer.sample_rate, arguments.overlaps),
    }
    baselines = {
        "labels": None,
        "silero-vad": silero(hop, True, model),
        "WebRTC, mode 3": webrtc(hop, 3),
    }
    results["turns"] = {
        name: turn_scores(own, baselines, pairs, (dev, test), hop, tokenizer.sample_rate, snr)
        for name, snr in (("clean", None), ("10 dB", 10.0))
    }
    results["price"] = measure_prices(tokenizer)
    return results


def recordings(split: Split, limit: int | None) -> list[tuple[int, Turn]]:
    """Aligned utterances and their numbers."""
    found = [index for index, spans in enumerate(split.spans) if spans]
    return [(index, Turn(split.speech[index].numpy(), split.spans[index])) for index in found[:limit]]


def speech_scores(
    detectors: dict[str, Callable[[np.ndarray], np.ndarray]],
    pairs: Sequence[Sequence[tuple[int, Turn]]],
    splits: Sequence[Split],
    hop_length: int,
    sample_rate: int,
) -> dict[str, Any]:
    """Scores of each detector at each SNR; one threshold for all of them."""
    found: dict[str, list[dict[str, list[np.ndarray]]]] = {}
    labels: dict[str, list[list[np.ndarray]]] = {}
    for snr in SNRS:
        condition = "clean" if snr is None else f"{snr:g} dB"
        both = [
            [mix_noise(turn, split.noise, snr, hop_length, sample_rate, index) for index, turn in turns]
            for turns, split in zip(pairs, splits, strict=True)
        ]
        labels[condition] = [[mixture.labels.speech for mixture in mixtures] for mixtures in both]
        found[condition] = [
            {name: [detect(mixture.waveform) for mixture in mixtures] for name, detect in detectors.items()}
            for mixtures in both
        ]
        print(f"speech, {condition}: done", file=sys.stderr)
    results: dict[str, Any] = {}
    for name in detectors:
        threshold = best_threshold(
            [row for condition in found for row in labels[condition][0]],
            [row for condition in found for row in found[condition][0][name]],
        )
        results[name] = {
            condition: dataclasses.asdict(score(labels[condition][1], found[condition][1][name], threshold))
            for condition in found
        }
    return results


def overlap_scores(
    own: Callable[[np.ndarray], np.ndarray], splits: Sequence[Split], hop_length: int, sample_rate: int, count: int
) -> dict[str, float]:
    """Scores of overlap on mixtures of two talkers, without noise."""
    config = SceneConfig(overlap_share=1.0, silent_share=0.0, noise_share=0.0)
    labels, found = [], []
    for split in splits:
        sample = SceneSampler(config, split.speech, split.spans, None, hop_length, sample_rate, 5)
        scenes = [Mixture(*sample(number)) for number in range(count)]
        labels.append([scene.labels.overlap for scene in scenes])
        found.append([own(scene.waveform)[2] for scene in scenes])
    return dataclasses.asdict(score(labels[1], found[1], best_threshold(labels[0], found[0])))


def turn_scores(
    own: Callable[[np.ndarray], np.ndarray],
    baselines: dict[str, Callable[[np.ndarray], np.ndarray] | None],
    pairs: Sequence[Sequence[tuple[int, Turn]]],
    splits: Sequence[Split],
    hop_length: int,
    sample_rate: int,
    snr_db: float | None,
) -> dict[str, Any]:
    """For each wanted delay: the policy chosen on dev, on test, and timers with the same mean delay on test."""
    watched, timers = [], {}
    for turns, split in zip(pairs, splits, strict=True):
        made = [make_turn(turn, hop_length, sample_rate, index, split.noise, snr_db) for index, turn in turns]
        heard = [own(turn.waveform) for turn in made]
        watched.append(Watched(made, [row[0] for row in heard], [row[1] for row in heard], hop_length, sample_rate))
    for name, detect in {"speechtok's speech": None, **baselines}.items():
        if name == "speechtok's speech":
            decisions = [row[0] for row in heard]
        elif detect is None:
            decisions = [turn.labels.speech.astype(float) for turn in made]
        else:
            decisions = [detect(turn.waveform) for turn in made]
        timers[name] = Watched(made, decisions, None, hop_length, sample_rate)
    print(f"turns, {snr_db}: done", file=sys.stderr)
    rows = []
    for delay, policy in zip(DELAYS, choose_policies(watched[0], DELAYS), strict=True):
        result = watched[1].apply(policy)
        realised = float(result.delays.mean())
        row = {
            "wanted": delay,
            "policy": dataclasses.asdict(policy),
            "delay": realised,
            "cut_off": float(result.cut_off.mean()),
            "turns": len(result.cut_off),
            "timers": {},
        }
        for name, timer in timers.items():
            (same,) = timer_curve(timer, [realised])
            difference = same.cut_off.astype(float) - result.cut_off
            spread = np.random.default_rng(0).integers(0, len(difference), (2000, len(difference)))
            low, high = np.quantile(difference[spread].mean(1), [0.025, 0.975])
            row["timers"][name] = {
                "delay": float(same.delays.mean()),
                "cut_off": float(same.cut_off.mean()),
                "fewer": [float(low), float(high)],
            }
        rows.append(row)
    return {"rows": rows}


if __name__ == "__main__":
    sys.exit(main())
