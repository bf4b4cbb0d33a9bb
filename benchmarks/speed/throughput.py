"""Throughput of whole utterances: the tokenizer and its peers."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import speechtok
from benchmarks.speed.noise import noise


@dataclass(frozen=True)
class Codec:
    """A codec to time.

    Attributes:
        name: for the table.
        sample_rate: in hertz.
        encode: encodes ``(B, S)``.
        decode: decodes the output of ``encode``.
    """

    name: str
    sample_rate: int
    encode: Callable[[Tensor], Any]
    decode: Callable[[Any], Any]


@dataclass(frozen=True)
class OfflineSpeed:
    """Throughput in seconds of audio per second.

    Attributes:
        codec: name of the codec.
        threads: PyTorch threads.
        batch: batch size ``B``.
        encode: encoding, as a multiple of real time.
        decode: decoding, as a multiple of real time.
    """

    codec: str
    threads: int
    batch: int
    encode: float
    decode: float


def ours(model: str | None) -> Codec:
    """A tokenizer of this package, with all codebooks."""
    tok = speechtok.load(model)
    return Codec("speechtok", tok.sample_rate, lambda x: tok.encode(x, tok.sample_rate), tok.decode)


def peers() -> list[Codec]:
    """EnCodec, Mimi and DAC of transformers, at 6, 1.1 and 6 kbit/s.

    They are called directly. The wrappers of :mod:`speechtok.codecs` encode the rows of a batch one by one, as these
    models do not mask padding, which would make batches slower than necessary.
    """
    from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

    encodec = EncodecModel(EncodecConfig()).eval()
    mimi = MimiModel(MimiConfig()).eval()
    dac = DacModel(DacConfig(sampling_rate=16_000, n_codebooks=12, downsampling_ratios=[2, 4, 5, 8])).eval()
    return [
        Codec(
            "EnCodec",
            24_000,
            lambda x: encodec.encode(x[:, None], bandwidth=6.0),
            lambda e: encodec.decode(e.audio_codes, e.audio_scales),
        ),
        Codec(
            "Mimi",
            24_000,
            lambda x: mimi.encode(x[:, None], num_quantizers=8),
            lambda e: mimi.decode(e.audio_codes),
        ),
        Codec(
            "DAC",
            16_000,
            lambda x: dac.encode(x[:, None]),
            lambda e: dac.decode(e.quantized_representation),
        ),
    ]


def median_seconds(call: Callable[[], object], min_runs: int = 3, min_seconds: float = 1.0) -> float:
    """Median duration of a call, after one run of warm-up.

    Args:
        call: the call to time.
        min_runs: smallest number of timed runs; one is enough for calls of more than 10 s.
        min_seconds: smallest total duration of the timed runs.
    """
    start = time.perf_counter()
    call()
    if time.perf_counter() - start > 10:
        min_runs = 1
    durations: list[float] = []
    while len(durations) < min_runs or sum(durations) < min_seconds:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations))


@torch.no_grad()
def offline(codec: Codec, threads: int, batch: int, seconds: float) -> OfflineSpeed:
    """Measure the throughput of whole utterances of ``seconds``."""
    torch.set_num_threads(threads)
    waveform = noise(batch, int(seconds * codec.sample_rate))
    encoded = codec.encode(waveform)
    encode = median_seconds(lambda: codec.encode(waveform))
    decode = median_seconds(lambda: codec.decode(encoded))
    return OfflineSpeed(codec.name, threads, batch, batch * seconds / encode, batch * seconds / decode)
