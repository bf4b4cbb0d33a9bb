"""Ways to encode and decode utterances in this process: alone, in batches, and in streams."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import speechtok

Waveforms = list[torch.Tensor]
"""One waveform ``(S,)`` per utterance."""

Codes = list[torch.Tensor]
"""Codes ``(Q, T)`` of each utterance."""

Result = tuple[Codes, list[str] | None]
"""Codes, and a hash of the decoded audio of each utterance; ``None`` if nothing was decoded."""


def alone(tok: speechtok.ConvNeXtTokenizer, waveforms: Waveforms, threads: int = 1) -> Result:
    """Encode and decode each utterance by itself, on a number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    codes = [tok.encode(x, tok.sample_rate).codes[0] for x in waveforms]
    audio = [hash_audio(tok.decode(c[None])[:, : len(x)]) for c, x in zip(codes, waveforms, strict=True)]
    torch.set_num_threads(before)
    return codes, audio


def hash_audio(audio: torch.Tensor) -> str:
    """Hash of all samples; -0.0 equals 0.0."""
    return hashlib.sha256((audio + 0.0).numpy().tobytes()).hexdigest()


def batched(tok: speechtok.ConvNeXtTokenizer, waveforms: Waveforms, max_batch: int = 64) -> Result:
    """Encode and decode random batches of random sizes, padded with noise."""
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    order = rng.sample(range(len(waveforms)), len(waveforms))
    codes: dict[int, torch.Tensor] = {}
    audio: dict[int, str] = {}
    while order:
        batch_size = rng.randint(1, max_batch)
        rows, order = order[:batch_size], order[batch_size:]
        lengths = [len(waveforms[row]) for row in rows]
        batch = torch.rand(len(rows), max(lengths) + rng.randint(0, 5_000), generator=generator) - 0.5
        for x, row in zip(batch, rows, strict=True):
            x[: len(waveforms[row])] = waveforms[row]
        tokens = tok.encode(batch, tok.sample_rate, lengths=lengths)
        codes |= {row: tokens.codes[i, :, : tokens.lengths[i]] for i, row in enumerate(rows)}
        decoded = tok.decode(tokens)
        audio |= {row: hash_audio(decoded[i : i + 1, : len(waveforms[row])]) for i, row in enumerate(rows)}
    return [codes[row] for row in range(len(waveforms))], [audio[row] for row in range(len(waveforms))]


def streamed(tok: speechtok.ConvNeXtTokenizer, waveforms: Waveforms) -> Codes:
    """Encode in chunks of random lengths up to 2 s, the first utterance one sample at a time."""
    rng = random.Random(0)
    codes = []
    for index, x in enumerate(waveforms):
        parts, start = [], 0
        with tok.stream() as stream:
            while start < len(x):
                length = 1 if index == 0 else int(2 ** rng.uniform(0, 15))
                parts.append(stream.encode(x[start : start + length]))
                start += length
            parts.append(stream.flush())
        codes.append(torch.cat(parts, 2)[0])
    return codes


def decoded_streamed(tok: speechtok.ConvNeXtTokenizer, codes: Codes, waveforms: Waveforms) -> list[str]:
    """Decode in chunks of random lengths, and hash the audio."""
    rng = random.Random(0)
    hashes = []
    for row, x in zip(codes, waveforms, strict=True):
        parts, start = [], 0
        with tok.stream() as stream:
            while start < row.shape[1]:
                frames = rng.randint(1, 100)
                parts.append(stream.decode(row[None, :, start : start + frames]))
                start += frames
            parts.append(stream.drain())
        hashes.append(hash_audio(torch.cat(parts, 1)[:, : len(x)]))
    return hashes


def interleaved(tok: speechtok.ConvNeXtTokenizer, waveforms: Waveforms, num_streams: int = 100) -> Codes:
    """Encode by several open streams that take turns in random order."""
    rng = random.Random(0)
    codes: Codes = []
    for first in range(0, len(waveforms), num_streams):
        group = waveforms[first : first + num_streams]
        streams = [tok.stream() for _ in group]
        parts: list[Codes] = [[] for _ in group]
        positions = [0] * len(group)
        while remaining := [i for i, x in enumerate(group) if positions[i] < len(x)]:
            for i in rng.sample(remaining, len(remaining)):
                length = rng.choice([320, 480, 1_280, 4_000])
                parts[i].append(streams[i].encode(group[i][positions[i] : positions[i] + length]))
                positions[i] += length
        codes += [torch.cat([*p, s.flush()], 2)[0] for p, s in zip(parts, streams, strict=True)]
    return codes


def by_command_line(model: str | None, files: Sequence[Path], folder: Path) -> Codes:
    """Encode files by ``speechtok encode``.

    Args:
        model: tokenizer; the default tokenizer if ``None``.
        files: audio files.
        folder: new folder for links and tokens.
    """
    folder.mkdir()
    links = [folder / f"{i:06}{file.suffix}" for i, file in enumerate(files)]
    for link, file in zip(links, files, strict=True):  # files of different folders may have the same name
        link.symlink_to(file.resolve())
    command = [sys.executable, "-m", "speechtok", "encode", *map(str, links), "-o", str(folder)]
    subprocess.run(command + (["--model", model] if model else []), check=True, capture_output=True)
    return [speechtok.SpeechTokens.load(folder / f"{link.stem}.tokens").codes[0] for link in links]
