"""``speechtok encode``: audio files to tokens files."""

import argparse
from pathlib import Path

from speechtok.audio import AUDIO_SUFFIXES, read_audio
from speechtok.cli.arguments import TOKENS_SUFFIX, Commands, add_file_arguments
from speechtok.cli.batch import process_files
from speechtok.cli.text import bitrate, duration, shape
from speechtok.tokenizer import Tokenizer


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "encode audio files to tokens files"
    parser = commands.add_parser("encode", help=text, description=f"{text.capitalize()}.")
    add_file_arguments(
        parser,
        "audio files, folders to search, or patterns such as '*.wav'",
        f"tokens file, or folder for several (default: beside each input, with the suffix {TOKENS_SUFFIX})",
    )
    parser.set_defaults(run=run, parser=parser, plot=None)


def run(args: argparse.Namespace) -> int:
    """Encode the inputs and return the exit status."""

    def encode(tokenizer: Tokenizer, source: Path, target: Path) -> str:
        tokens = tokenizer.encode(*read_audio(source), num_codebooks=args.num_codebooks)
        tokens.save(target)
        return f"{source} -> {target}: {duration(tokens)}, codes {shape(tokens)}, {bitrate(tokens)}"

    return process_files(args, encode, AUDIO_SUFFIXES, TOKENS_SUFFIX)
