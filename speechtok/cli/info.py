"""``speechtok info``: describe a tokens file or a tokenizer."""

import argparse
import dataclasses
from pathlib import Path

import torch

from speechtok.cli.arguments import TOKENS_SUFFIX, Commands, non_empty
from speechtok.cli.text import Rows, bitrate, duration, shape, table
from speechtok.loaders import load
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "describe a tokens file or a tokenizer"
    parser = commands.add_parser("info", help=text, description=f"{text.capitalize()}.")
    parser.add_argument(
        "path",
        nargs="?",
        metavar="FILE|MODEL",
        type=non_empty,
        help="tokens file; or tokenizer: a folder, org/name on the Hugging Face hub, or the name of an embedded "
        "tokenizer (default: the newest embedded tokenizer)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the description and return the exit status."""
    path = None if args.path is None else Path(args.path)
    # a name that is not a file may be a repository on the hub, unless it ends like a tokens file
    if path is not None and (path.suffix == TOKENS_SUFFIX or (path.is_file() and path.suffix != ".pt")):
        rows = _describe_tokens(SpeechTokens.load(path))
    else:
        rows = _describe_tokenizer(load(args.path))
    print(table(rows))
    return 0


def _describe_tokenizer(tokenizer: Tokenizer) -> Rows:
    parts = {
        "codebooks" if name == "quantizer" else name: sum(t.numel() for t in (*part.parameters(), *part.buffers()))
        for name, part in tokenizer.named_children()
    }
    rows = [
        ("fingerprint", tokenizer.fingerprint),
        ("aliases", ", ".join(tokenizer.aliases) or "none"),
        ("decoder fingerprint", tokenizer.decoder_fingerprint),
        ("frame rate", f"{tokenizer.frame_rate:g} Hz"),
        ("bitrate", bitrate(tokenizer)),
        ("parameters", f"{sum(parts.values()):,} ({', '.join(f'{name} {n:,}' for name, n in parts.items())})"),
    ]
    for name, value in dataclasses.asdict(tokenizer.config).items():
        if isinstance(value, dict):
            rows += [(f"{name}.{inner}", str(v)) for inner, v in value.items()]
        else:
            rows.append((name, str(value)))
    return rows


def _describe_tokens(tokens: SpeechTokens) -> Rows:
    # padding frames hold code 0, which does not count as used
    valid = torch.arange(tokens.codes.shape[2]) < tokens.lengths[:, None]
    used = [len(set(codes[valid].tolist())) for codes in tokens.codes.unbind(1)]
    return [
        ("utterances", str(len(tokens))),
        ("duration", duration(tokens)),
        ("frames", f"{int(tokens.lengths.sum())} at {tokens.frame_rate:g} Hz"),
        ("codes", shape(tokens)),
        ("sample rate", f"{tokens.sample_rate} Hz"),
        ("bitrate", bitrate(tokens)),
        ("fingerprint", tokens.fingerprint),
        *((f"codebook {q}", f"{n} of {tokens.codebook_size} entries used") for q, n in enumerate(used)),
    ]
