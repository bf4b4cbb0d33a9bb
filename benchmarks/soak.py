"""Soak test: many interleaved streams whose callers come and go, for hours.

``python -m benchmarks.soak --minutes 60``. Each caller opens a stream or takes over one that another caller left, sends
an utterance in small chunks at one of several sample rates, and ends it or hangs up in the middle. Codes and audio of
each utterance are compared with those of the whole utterance. Memory is sampled over time. The exit status is 1 if an
utterance differs.
"""

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import speechtok
from benchmarks.arguments import integer_from, one_line_errors, positive
from benchmarks.data import read_utterances
from speechtok.resampling import resample

RATES = 16_000, 16_000, 48_000, 44_100, 24_000, 8_000
"""Sample rates of the callers; half of them are resampled from a higher rate."""
SECONDS = 0.05, 6.0
"""Shortest and longest utterance."""
HANG_UP = 0.2
"""Share of the callers that hang up in the middle of their utterance."""
WARM_UP = 0.1
"""Share of the time before memory is compared: caches fill, and the allocator takes its pools."""
SAMPLES = 2_000
"""Most samples of memory, so that the program itself does not grow."""


class Latencies:
    """A histogram of durations with bins of one percent, which needs the same memory for any number of them."""

    def __init__(self) -> None:
        self._edges = 1e-6 * 1.01 ** np.arange(2_100)  # to 1000 s
        self._counts = np.zeros(len(self._edges) + 1, np.int64)
        self.worst = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self._counts[np.searchsorted(self._edges, seconds)] += 1
        self.worst = max(self.worst, seconds)

    @property
    def count(self) -> int:
        """Number of durations."""
        return int(self._counts.sum())

    def percentile(self, share: float) -> float:
        """Duration in seconds that ``share`` percent do not exceed, within one percent."""
        place = int(np.searchsorted(self._counts.cumsum(), share / 100 * self.count))
        return float(self._edges[min(place, len(self._edges) - 1)])


@dataclass
class Result:
    """Outcome of a soak.

    Attributes:
        utterances: utterances that ended.
        hung_up: utterances that a caller left in the middle.
        opened: streams opened.
        frames: frames encoded.
        different: utterances whose codes or audio differ from those of the whole.
        latencies: of each chunk, encoded and decoded, by sample rate.
        memory: seconds since the start, and resident memory in megabytes.
    """

    utterances: int = 0
    hung_up: int = 0
    opened: int = 0
    frames: int = 0
    different: int = 0
    latencies: dict[int, Latencies] = field(default_factory=lambda: {rate: Latencies() for rate in sorted(set(RATES))})
    memory: list[tuple[float, float]] = field(default_factory=list)

    def growth(self) -> tuple[float, float]:
        """Growth of memory after the warm-up: by a fitted line, in megabytes an hour; and its range, in megabytes."""
        end = self.memory[-1][0]
        times, sizes = np.array([m for m in self.memory if m[0] >= WARM_UP * end]).T
        slope = float(np.polyfit(times, sizes, 1)[0]) if len(times) > 1 else 0.0
        return slope * 3600, float(np.ptp(sizes))

    def __str__(self) -> str:
        slope, spread = self.growth()
        lines = [
            f"{self.utterances} utterances ended and {self.hung_up} were left in the middle, in {self.opened} streams; "
            f"{self.frames} frames, {self.different} utterances differ",
            f"memory: {self.memory[-1][1]:.1f} MB, {slope:+.2f} MB an hour, range {spread:.1f} MB after the warm-up",
            "",
            "| sample rate, Hz | chunks | median, ms | 99th percentile, ms | 99.9th percentile, ms | maximum, ms |",
            "|---|---|---|---|---|---|",
        ]
        for rate, some in self.latencies.items():
            values = [*(some.percentile(share) for share in (50, 99, 99.9)), some.worst]
            lines.append(f"| {rate} | {some.count} | {' | '.join(f'{1e3 * value:.2f}' for value in values)} |")
        return "\n".join(lines)


class Caller:
    """Sends one utterance to a stream, and keeps what comes back: codes, and a hash of the audio."""

    def __init__(self, stream: speechtok.Stream, waveform: Tensor, rng: random.Random) -> None:
        self.stream, self.waveform, self._rng = stream, waveform, rng
        self._place = 0
        self._codes: list[Tensor] = []
        self._hash = hashlib.sha256()
        self._samples = 0
        hangs_up = rng.random() < HANG_UP
        self._stop = rng.randrange(1, len(waveform)) if hangs_up else len(waveform)

    @property
    def hung_up(self) -> bool:
        """Whether the caller leaves before the end of the utterance."""
        return self._stop < len(self.waveform)

    def send(self, latencies: Latencies) -> bool:
        """Send the next chunk; true if it was the last."""
        rate = self.stream.sample_rate
        size = rate // 50 if self._rng.random() < 0.9 else self._rng.choice([1, rate // 100, rate // 17, rate // 8])
        chunk = self.waveform[self._place : min(self._place + size, self._stop)]
        self._place += len(chunk)
        start = time.perf_counter()
        codes = self.stream.encode(chunk, sample_rate=rate)
        audio = self.stream.decode(codes)
        duration = time.perf_counter() - start
        if len(chunk) == rate // 50:
            latencies.add(duration)
        self._keep(codes, audio)
        if self._place < self._stop:
            return False
        if not self.hung_up:
            codes = self.stream.flush()
            self._keep(codes, self.stream.decode(codes))
            self._keep(codes[:, :, :0], self.stream.drain())
        return True

    def _keep(self, codes: Tensor, audio: Tensor) -> None:
        self._codes.append(codes)
        self._hash.update((audio + 0.0).numpy().tobytes())  # -0.0 equals 0.0
        self._samples += audio.shape[1]

    @property
    def frames(self) -> int:
        """Frames encoded so far."""
        return sum(codes.shape[2] for codes in self._codes)

    def agrees_with(self, tok: speechtok.ConvNeXtTokenizer) -> bool:
        """Whether the results are those of the whole utterance, as far as it was sent."""
        tokens = tok.encode(self.waveform, self.stream.sample_rate)
        codes = torch.cat(self._codes, 2)
        audio = tok.decode(tokens.codes)[:, : self._samples]
        return (
            (self.hung_up or codes.shape == tokens.codes.shape)
            and torch.equal(codes, tokens.codes[:, :, : self.frames])
            and self._hash.digest() == hashlib.sha256((audio + 0.0).numpy().tobytes()).digest()
        )


def soak(
    tok: speechtok.ConvNeXtTokenizer, audio: Tensor, streams: int, seconds: float, seed: int = 0, utterances: int = 1
) -> Result:
    """Run callers for some time.

    Args:
        tok: the tokenizer.
        audio: ``(S,)`` that utterances are cut from, at whatever rate their caller has.
        streams: streams at a time.
        seconds: duration.
        seed: of all that is random.
        utterances: go on until so many ended, even if it takes longer.
    """
    rng, result, began = random.Random(seed), Result(), time.monotonic()
    left: dict[int, list[speechtok.Stream]] = {rate: [] for rate in RATES}  # by callers that went

    def new_caller() -> Caller:
        rate = rng.choice(RATES)
        samples = min(len(audio), round(rate * SECONDS[0] * (SECONDS[1] / SECONDS[0]) ** rng.random()))
        start = rng.randrange(len(audio) - samples + 1)
        if left[rate] and rng.random() < 0.5:
            stream = left[rate].pop()
            stream.reset()
        else:
            stream = tok.stream(sample_rate=rate)
            result.opened += 1
        return Caller(stream, audio[start : start + samples], rng)

    callers = [new_caller() for _ in range(streams)]
    interval, due = seconds / SAMPLES, 0.0
    while (now := time.monotonic() - began) < seconds or result.utterances < utterances:
        if now >= due or not result.memory:
            result.memory.append((now, resident_megabytes()))
            due = now + interval
        index = rng.randrange(streams)
        caller = callers[index]
        if not caller.send(result.latencies[caller.stream.sample_rate]):
            continue
        result.utterances += not caller.hung_up
        result.hung_up += caller.hung_up
        result.frames += caller.frames
        result.different += not caller.agrees_with(tok)
        kept = left[caller.stream.sample_rate]
        if len(kept) < streams // 10:
            kept.append(caller.stream)
        else:
            caller.stream.close()
        callers[index] = new_caller()
    result.memory.append((time.monotonic() - began, resident_megabytes()))
    return result


def resident_megabytes() -> float:
    """Resident memory of this process; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS:")) / 1024


def _read(data: str | None, sample_rate: int) -> Tensor:
    """A minute of speech at least, with silence, noise and clipping between."""
    files = [utterance.audio for utterance in read_utterances(data)[:50]] if data else [_SAMPLE]
    rng, parts = np.random.default_rng(0), []
    while sum(map(len, parts)) < 60 * sample_rate:
        for index, file in enumerate(files):
            waveform, rate = speechtok.read_audio(file)
            speech = resample(waveform[None], rate, sample_rate)[0]
            loud = (speech * 10).clamp(-1, 1)
            hiss = torch.from_numpy(rng.standard_normal(8_000).astype(np.float32)).mul(0.1 ** (index % 5)).clamp(-1, 1)
            parts += [speech, torch.zeros(8_000), loud, hiss]
    return torch.cat(parts)


_SAMPLE = Path(speechtok.__file__).parent / "assets" / "sample.flac"


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=positive, default=60.0, help="duration (60)")
    parser.add_argument("--streams", type=integer_from(1), default=100, help="streams at a time (100)")
    parser.add_argument("--data", help="manifest or folder of audio (the sample of the package)")
    parser.add_argument("--model", help="tokenizer (default: the default tokenizer)")
    parser.add_argument("--threads", type=integer_from(1), default=1, help="threads of PyTorch (1)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    tok = speechtok.load(arguments.model)
    audio = _read(arguments.data, tok.sample_rate)
    result = soak(tok, audio, arguments.streams, 60 * arguments.minutes, arguments.seed)
    print(f"{arguments.streams} streams, {arguments.minutes:g} minutes, {arguments.threads} threads\n\n{result}")
    return int(result.different > 0)


if __name__ == "__main__":
    sys.exit(main())
