"""``speechtok convert``: rewrite a published checkpoint as ``config.json`` and ``model.safetensors``."""

import argparse
from pathlib import Path

from speechtok.checkpoint import CONFIG_NAME
from speechtok.cli.arguments import Commands, non_empty
from speechtok.errors import OutputError
from speechtok.loaders import load


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "convert a published checkpoint to speechtok's format"
    parser = commands.add_parser(
        "convert", help=text, description=f"{text.capitalize()}: config.json and model.safetensors."
    )
    parser.add_argument(
        "model", metavar="MODEL", type=non_empty, help="tokenizer: a folder, or org/name on the Hugging Face hub"
    )
    parser.add_argument("-o", "--out", metavar="DIR", type=non_empty, required=True, help="folder to write")
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit on the hub (default: the newest)")
    parser.add_argument("--force", action="store_true", help="replace a tokenizer that is in the folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert the checkpoint and return the exit status."""
    out = Path(args.out)
    if (out / CONFIG_NAME).exists() and not args.force:
        raise OutputError(f"{out} holds a tokenizer; choose another folder, or replace it with --force")
    tokenizer = load(args.model, revision=args.revision)
    tokenizer.save(out)
    print(f"{args.model} -> {out}: {tokenizer.config.family}, fingerprint {tokenizer.fingerprint}")
    return 0
