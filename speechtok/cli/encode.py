"""``speechtok encode``: audio files to tokens files."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speechtok.audio import AUDIO_SUFFIXES, read_audio
from speechtok.cli.arguments import TOKENS_SUFFIX, Commands, add_file_arguments, add_jobs_argument
from speechtok.cli.batch import process_files
from speechtok.cli.chunks import Replacing, Work
from speechtok.cli.sources import Job
from speechtok.cli.text import bitrate, duration, path_text, shape
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens

_MAX_GROUP = 16
_MAX_GROUP_SAMPLES = 2_000_000
"""Bounds of a batch, with padding. A tokenizer computes in pieces of some seconds; more rows are not faster."""


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "encode audio files to tokens files"
    parser = commands.add_parser("encode", help=text, description=f"{text.capitalize()}.")
    add_file_arguments(
        parser,
        "audio files, folders to search, or patterns such as '*.wav'",
        f"tokens file, or folder for several (default: beside each input, with the suffix {TOKENS_SUFFIX})",
    )
    add_jobs_argument(parser)
    parser.set_defaults(run=run, parser=parser, plot=None)


def run(args: argparse.Namespace) -> int:
    """Encode the inputs and return the exit status."""
    return process_files(args, _Encode(args.num_codebooks), AUDIO_SUFFIXES, TOKENS_SUFFIX)


@dataclass(frozen=True)
class _Encode(Work):
    num_codebooks: int | None

    def warm_up(self, tokenizer: Tokenizer) -> None:
        tokenizer.encode(torch.zeros(tokenizer.hop_length, device="cpu"), tokenizer.sample_rate)

    def read(self, source: Path) -> Any:
        return read_audio(source)

    def may_join(self, group: list[Any], contents: Any) -> bool:
        longest = max(len(waveform) for waveform, _ in [*group, contents])
        rates = {rate for _, rate in [*group, contents]}
        return len(rates) == 1 and len(group) < _MAX_GROUP and (len(group) + 1) * longest <= _MAX_GROUP_SAMPLES

    def compute(self, tokenizer: Tokenizer, group: list[Any]) -> list[Any]:
        waveforms = [waveform for waveform, _ in group]
        batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        tokens = tokenizer.encode(batch, group[0][1], [len(row) for row in waveforms], self.num_codebooks).to("cpu")
        return [tokens[row] for row in range(len(tokens))]

    def write(self, tokenizer: Tokenizer, job: Job, result: Any, replacing: Replacing) -> str:
        tokens: SpeechTokens = result
        with replacing(job.target) as file:
            file.write(tokens.to_bytes())
        names = f"{path_text(job.source)} -> {path_text(job.target)}"
        return f"{names}: {duration(tokens)}, codes {shape(tokens)}, {bitrate(tokens)}"
