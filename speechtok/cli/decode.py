"""``speechtok decode``: tokens files to audio files."""

import argparse
from pathlib import Path

from speechtok.audio import write_audio
from speechtok.cli.arguments import TOKENS_SUFFIX, Commands, add_file_arguments
from speechtok.cli.batch import process_files
from speechtok.cli.text import duration
from speechtok.errors import TokensError
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
    parser.set_defaults(run=run, parser=parser, plot=None)


def run(args: argparse.Namespace) -> int:
    """Decode the inputs and return the exit status."""

    def decode(tokenizer: Tokenizer, source: Path, target: Path) -> str:
        tokens = SpeechTokens.load(source)
        if len(tokens) != 1:
            raise TokensError(
                f"{source} holds {len(tokens)} utterances; expected one: split the batch in Python with tokens[i]"
            )
        write_audio(target, tokenizer.decode(tokens, args.num_codebooks), tokenizer.sample_rate)
        return f"{source} -> {target}: {duration(tokens)} at {tokens.sample_rate} Hz"

    return process_files(args, decode, (TOKENS_SUFFIX,), ".wav")
