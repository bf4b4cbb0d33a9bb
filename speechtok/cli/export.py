"""``speechtok export``: write a tokenizer in another format."""

import argparse

from speechtok.cli.arguments import Commands, non_empty
from speechtok.errors import SpeechtokError
from speechtok.extras import install_hint
from speechtok.loaders import load


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "write a tokenizer as ONNX files"
    parser = commands.add_parser(
        "export",
        help=text,
        description=f"{text.capitalize()}: encoder and decoder, for whole utterances and for streams. The files are "
        "run under onnxruntime, and must give the codes and the audio of the tokenizer to the bit.",
    )
    parser.add_argument("--onnx", metavar="DIR", type=non_empty, required=True, help="folder to write")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        type=non_empty,
        help="tokenizer: a folder, org/name on the Hugging Face hub, or the name of an embedded tokenizer "
        "(default: the newest embedded tokenizer)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export and return the exit status."""
    try:
        from speechtok.export import export_onnx
    except ImportError as error:
        raise SpeechtokError(f"export needs onnx and onnxruntime: {install_hint('onnx')}") from error
    for path in export_onnx(load(args.model), args.onnx):
        print(path)
    return 0
