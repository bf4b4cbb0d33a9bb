"""Golden files: the codes and the audio of the stress input, as lines of text that any language can read."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bindings.conformance.stress import fnv1a, sha256, stress_input
from speechtok.tokenizer import Tokenizer

FORMAT = "speechtok-conformance-1"

KNOWN_ANSWER = 431_200, 16_000
"""First sample and length of the part of the stress input that implementations encode when they load a tokenizer."""


@dataclass(frozen=True)
class Golden:
    """Contents of a golden file.

    Attributes:
        fields: names and values of its header.
        codes: codes, int64 ``(Q, T)``.
        hashes: hash of the audio of each frame, ``T`` numbers.
    """

    fields: dict[str, str]
    codes: np.ndarray
    hashes: list[int]


def make_golden(tokenizer: Tokenizer, name: str) -> Golden:
    """Encode and decode the stress input with a tokenizer called ``name``."""
    samples = stress_input()
    codes, hashes = _pass_through(tokenizer, samples)
    fields = {
        "format": FORMAT,
        "tokenizer": name,
        "fingerprint": tokenizer.fingerprint,
        "decoder_fingerprint": tokenizer.decoder_fingerprint,
        "sample_rate": str(tokenizer.sample_rate),
        "hop_length": str(tokenizer.hop_length),
        "num_codebooks": str(tokenizer.num_codebooks),
        "codebook_size": str(tokenizer.codebook_size),
        "samples": str(len(samples)),
        "input_sha256": sha256(samples),
        **known_answer(tokenizer, samples),
        "frames": str(codes.shape[1]),
    }
    return Golden(fields, codes, hashes)


def known_answer(tokenizer: Tokenizer, samples: np.ndarray) -> dict[str, str]:
    """Fields of the known answer; ``samples`` is the stress input."""
    start, length = KNOWN_ANSWER
    codes, hashes = _pass_through(tokenizer, samples[start : start + length])
    return {
        "known_answer_start": str(start),
        "known_answer_samples": str(length),
        "known_answer_codes": f"{fnv1a(codes.T.astype('<u2').tobytes()):08x}",
        "known_answer_audio": f"{fnv1a(np.asarray(hashes, dtype='<u4').tobytes()):08x}",
    }


def write_golden(golden: Golden, path: Path) -> None:
    """Write a golden file."""
    lines = [f"{name} {value}" for name, value in golden.fields.items()]
    for frame, value in zip(golden.codes.T.tolist(), golden.hashes, strict=True):
        lines.append(" ".join(map(str, frame)) + f" {value:08x}")
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def read_golden(path: Path) -> Golden:
    """Read a golden file."""
    lines = path.read_text(encoding="ascii").split("\n")[:-1]
    header = list(itertools.takewhile(lambda line: line[0].isalpha(), lines))
    rows = [line.split(" ") for line in lines[len(header) :]]
    codes = np.asarray([[int(code) for code in row[:-1]] for row in rows]).T
    return Golden(dict(line.split(" ") for line in header), codes, [int(row[-1], 16) for row in rows])


def audio_hashes(audio: np.ndarray, hop_length: int) -> list[int]:
    """Hash of each frame of audio ``(S,)`` as little-endian float32; the last frame may be short.

    0 is added to the samples first, so that 0.0 and -0.0 hash alike.
    """
    samples = audio.astype("<f4") + np.float32(0)
    return [fnv1a(samples[start : start + hop_length].tobytes()) for start in range(0, len(samples), hop_length)]


def _pass_through(tokenizer: Tokenizer, samples: np.ndarray) -> tuple[np.ndarray, list[int]]:
    tokens = tokenizer.encode(torch.from_numpy(samples), tokenizer.sample_rate)
    audio = tokenizer.decode(tokens)[0].numpy()
    return tokens.codes[0].numpy(), audio_hashes(audio, tokenizer.hop_length)
