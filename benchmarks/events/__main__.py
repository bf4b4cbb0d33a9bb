"""Measure the turn detector beside silero-vad, WebRTC's detector and silence timers: ``python -m benchmarks.events``.

Speech is scored on test utterances mixed with held-out noise, overlap on mixtures of two talkers, and the end of a turn
by the share of turns that are cut off against the delay at their end. Thresholds and policies are chosen on the
development split, which shares neither speakers nor noises with the test split. The data needs phones.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.events.cache import Cache
from benchmarks.events.detectors import Detector, at_frames, load_silero, own_detector, silero, webrtc
from benchmarks.events.price import measure_prices
from benchmarks.events.speech import Mixture, best_threshold, mix_noise, score
from benchmarks.events.tables import write_tables
from benchmarks.events.turns import Watched, choose_policies, compare_timer, make_turn, timer_at
from speechtok.files import make_folder, replacing
from training.events.config import EventsConfig
from training.events.scenes import SceneConfig, SceneSampler, Turn
from training.events.splits import Split, load_test_split
from training.tokenizer import load_tokenizer

SNRS = (20.0, 10.0, 0.0)
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
    bench = Bench(
        own_detector(tokenizer),
        Cache(Path(arguments.out) / "baselines", arguments.limit),
        {"dev": dev, "test": test},
        {name: recordings(split, arguments.limit) for name, split in (("dev", dev), ("test", test))},
        tokenizer.hop_length,
        tokenizer.sample_rate,
    )
    return {
        "tokenizer": tokenizer.fingerprint,
        "utterances": [len(turns) for turns in bench.turns.values()],
        "speech": speech_scores(bench),
        "overlap": overlap_scores(bench, arguments.overlaps),
        "turns": {name: turn_scores(bench, snr) for name, snr in (("clean", None), ("10 dB", 10.0))},
        "price": measure_prices(tokenizer),
    }


def recordings(split: Split, limit: int | None) -> list[tuple[int, Turn]]:
    """Aligned utterances and their numbers."""
    found = [index for index, spans in enumerate(split.spans) if spans]
    return [(index, Turn(split.speech[index].numpy(), split.spans[index])) for index in found[:limit]]


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the measurements share.

    Attributes:
        own: the turn detector.
        cache: results of the baselines.
        splits: ``dev`` and ``test``.
        turns: their utterances.
        hop_length: samples per frame.
        sample_rate: in hertz.
    """

    own: Detector
    cache: Cache
    splits: dict[str, Split]
    turns: dict[str, list[tuple[int, Turn]]]
    hop_length: int
    sample_rate: int

    def baselines(self, name: str, waveforms: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
        """Results of the baselines at the frames of each waveform; ``name`` tells the waveforms from others."""
        windows = self.cache(f"{name}-silero", lambda: map(silero(load_silero()), waveforms))
        votes = self.cache(f"{name}-webrtc", lambda: map(webrtc(self.hop_length), waveforms))
        pairs = list(zip(windows, map(len, waveforms), strict=True))
        return {
            "silero-vad, window around the frame": [at_frames(x, n, self.hop_length, False) for x, n in pairs],
            "silero-vad, last complete window": [at_frames(x, n, self.hop_length, True) for x, n in pairs],
            "WebRTC, modes 0 to 3": votes,
        }


def speech_scores(bench: Bench) -> dict[str, Any]:
    """Scores of each detector at each SNR; one threshold for all of them."""
    found: dict[str, dict[str, dict[str, list[np.ndarray]]]] = {}
    labels: dict[str, dict[str, list[np.ndarray]]] = {}
    for snr in SNRS:
        condition = f"{snr:g} dB"
        found[condition], labels[condition] = {}, {}
        for name, split in bench.splits.items():
            mixtures = [
                mix_noise(turn, split.noise, snr, bench.hop_length, bench.sample_rate, index)
                for index, turn in bench.turns[name]
            ]
            waveforms = [mixture.waveform for mixture in mixtures]
            labels[condition][name] = [mixture.labels.speech for mixture in mixtures]
            found[condition][name] = {
                "speechtok": [bench.own(waveform)[0] for waveform in waveforms],
                **bench.baselines(f"speech-{name}-{snr:g}", waveforms),
            }
        print(f"speech at {condition}: done", file=sys.stderr, flush=True)
    results: dict[str, Any] = {}
    for name in found[condition]["test"]:
        threshold = best_threshold(
            [row for condition in found for row in labels[condition]["dev"]],
            [row for condition in found for row in found[condition]["dev"][name]],
        )
        results[name] = {
            condition: dataclasses.asdict(score(labels[condition]["test"], found[condition]["test"][name], threshold))
            for condition in found
        }
    return results


def overlap_scores(bench: Bench, count: int) -> dict[str, float]:
    """Scores of overlap on mixtures of two talkers, without noise."""
    config = SceneConfig(overlap_share=1.0, silent_share=0.0, noise_share=0.0)
    labels, found = [], []
    for split in bench.splits.values():
        sample = SceneSampler(config, split.speech, split.spans, None, bench.hop_length, bench.sample_rate, 5)
        scenes = [Mixture(*sample(number)) for number in range(count)]
        labels.append([scene.labels.overlap for scene in scenes])
        found.append([bench.own(scene.waveform)[2] for scene in scenes])
    print("overlap: done", file=sys.stderr, flush=True)
    return dataclasses.asdict(score(labels[1], found[1], best_threshold(labels[0], found[0])))


def turn_scores(bench: Bench, snr_db: float | None) -> list[dict[str, Any]]:
    """For each wanted delay: the policy that was chosen on dev, on test, and timers of its mean delay on test."""
    hop, rate, watched = bench.hop_length, bench.sample_rate, {}
    for name, split in bench.splits.items():
        made = [make_turn(turn, hop, rate, index, split.noise, snr_db) for index, turn in bench.turns[name]]
        heard = [bench.own(turn.waveform) for turn in made]
        speech = [row[0] for row in heard]
        watched[name] = Watched(made, speech, [row[1] for row in heard], hop, rate)
    others = bench.baselines(f"turns-{snr_db}", [turn.waveform for turn in made])
    decisions = {
        "alignment": [turn.labels.speech.astype(float) for turn in made],
        "speechtok": speech,
        "silero-vad": others["silero-vad, last complete window"],
        "WebRTC": [(votes >= 1.0).astype(float) for votes in others["WebRTC, modes 0 to 3"]],
    }
    timers = {name: Watched(made, rows, None, hop, rate) for name, rows in decisions.items()}
    print(f"turns at {snr_db} dB: done", file=sys.stderr, flush=True)
    rows = []
    for delay, policy in zip(DELAYS, choose_policies(watched["dev"], DELAYS), strict=True):
        result = watched["test"].apply(policy)
        same = {name: timer_at(timer, float(result.delays.mean())) for name, timer in timers.items()}
        rows.append(
            {
                "wanted": delay,
                "policy": dataclasses.asdict(policy),
                "delay": float(result.delays.mean()),
                "cut_off": float(result.cut_off.mean()),
                "turns": len(result.cut_off),
                "timers": {name: compare_timer(result, timer) for name, timer in same.items()},
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
