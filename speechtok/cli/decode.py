"""``speechtok decode``: tokens files to audio files."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechtok.audio import as_waveform
from speechtok.cli.arguments import TOKENS_SUFFIX, Commands, add_file_arguments, add_jobs_argument
from speechtok.cli.batch import process_files
from speechtok.cli.chunks import Replacing, Work
from speechtok.cli.sources import Job
from speechtok.cli.text import duration, generated_comment, path_text
from speechtok.errors import TokensError
from speechtok.media.writer import encode_file
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "decode tokens files to audio files"
    parser = commands.add_parser("decode", help=text, description=f"{text.capitalize()}.")
    add_file_arguments(
        parser,
        "tokens files, folders to search, or patterns such as '*.tokens'",
        "audio file, or folder for several (default: beside each input, with the suffix .wav)",
    )
    add_jobs_argument(parser)
    parser.set_defaults(run=run, parser=parser, plot=None)


def run(args: argparse.Namespace) -> int:
    """Decode the inputs and return the exit status."""
    return process_files(args, _Decode(args.num_codebooks), (TOKENS_SUFFIX,), ".wav", searches_audio=False)


@dataclass(frozen=True)
class _Decode(Work):
    num_codebooks: int | None

    def warm_up(self, tokenizer: Tokenizer) -> None:
        tokenizer.decode(torch.zeros(1, tokenizer.num_codebooks, 1, dtype=torch.int64, device="cpu"))

    def read(self, source: Path) -> Any:
        return SpeechTokens.load(source)

    def compute(self, tokenizer: Tokenizer, group: list[Any]) -> list[Any]:
        return [self._decode(tokenizer, tokens) for tokens in group]

    def _decode(self, tokenizer: Tokenizer, tokens: SpeechTokens) -> tuple[SpeechTokens, Tensor]:
        if len(tokens) != 1:
            raise TokensError(
                f"it holds {len(tokens)} utterances; expected one: split the batch in Python with tokens[i]"
            )
        return tokens, as_waveform(tokenizer.decode(tokens, self.num_codebooks))[0]

    def write(self, tokenizer: Tokenizer, job: Job, result: Any, replacing: Replacing) -> str:
        tokens, waveform = result
        source, target = path_text(job.source), path_text(job.target)
        comment = generated_comment(tokens)
        encoded = encode_file(target, job.target.suffix, waveform.cpu().numpy(), tokenizer.sample_rate, comment)
        with replacing(job.target) as file:
            file.write(encoded)
        return f"{source} -> {target}: {duration(tokens)} at {tokens.sample_rate} Hz"
