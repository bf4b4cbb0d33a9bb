"""``speechtok serve``: live conversations over a WebSocket, with a page for the browser."""

import argparse
import os
import sys

import torch

from speechtok.cli.arguments import Commands, non_empty
from speechtok.errors import FingerprintError, InputError, SpeechtokError, quoted
from speechtok.extras import install_hint
from speechtok.loaders import load
from speechtok.tokenizer import Tokenizer
from speechtok.voice.model import VoiceModel

TOKEN_VARIABLE = "SPEECHTOK_TOKEN"


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "serve live conversations over a WebSocket, with a page for the browser"
    parser = commands.add_parser("serve", help=text, description=f"{text.capitalize()} (extra 'live').")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=8998, help="port to listen at; 0 for any (default: 8998)")
    parser.add_argument("--model", metavar="MODEL", type=non_empty, help="tokenizer (default: the embedded one)")
    parser.add_argument(
        "--agent",
        default="none",
        metavar="AGENT",
        help="who answers callers that ask for nobody else: none, loopback, repeat, convert-voice, scripted, or "
        "module:function (default: none)",
    )
    parser.add_argument(
        "--voice-model",
        metavar="FILE",
        type=non_empty,
        help="voice model of the agent convert-voice (default: the one of the package)",
    )
    parser.add_argument("--max-callers", type=int, metavar="N", default=64, help="callers at a time (default: 64)")
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="origin of web pages that may connect, beside the server's own; * for all; repeatable",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=non_empty,
        help=f"file with the token that clients must send (default: the variable {TOKEN_VARIABLE}, or no check)",
    )
    parser.add_argument(
        "--share-weights",
        action="store_true",
        help="let browsers load the tokenizer of --model, to make the codes themselves; the embedded one is always "
        "shared",
    )
    parser.add_argument(
        "--moshi",
        action="store_true",
        help="speak with clients of Moshi: callers that ask for nothing else send and get Opus in Ogg, without events",
    )
    parser.add_argument("--certificate", metavar="FILE", type=non_empty, help="certificate chain for HTTPS, PEM")
    parser.add_argument("--key", metavar="FILE", type=non_empty, help="private key of the certificate, PEM")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of PyTorch (default: 1)")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes, and return the exit status."""
    try:
        from speechtok.live.config import ServerConfig
        from speechtok.live.server import LiveServer
        from speechtok.live.serving import make_server, tls_problem
    except ImportError as error:
        raise SpeechtokError(f"serve needs {error.name}: {install_hint('live')}") from error
    if not 0 <= args.port <= 65_535:
        args.parser.error(f"--port is {quoted(args.port)}; expected 0 to 65535")
    if not 1 <= args.threads <= 1_024:
        args.parser.error(f"--threads is {quoted(args.threads)}; expected 1 to 1024")
    if (args.key is not None and args.certificate is None) or (
        args.certificate is not None and (problem := tls_problem(args.certificate, args.key))
    ):
        args.parser.error(
            f"--certificate and --key cannot be used: {problem if args.certificate else 'no certificate'}"
        )
    config = ServerConfig(
        max_callers=args.max_callers,
        origins=tuple(args.origin),
        token=_read_token(args.token_file),
        moshi=args.moshi,
        share_weights=args.share_weights,
    )
    torch.set_num_threads(args.threads)
    tokenizer = load(args.model)
    live = LiveServer(tokenizer, config, args.agent, _load_voice(tokenizer, args.voice_model))
    server = make_server(live, args.host, args.port, args.certificate, args.key)
    scheme = "http" if args.certificate is None else "https"
    where = f"port {args.port}" if args.port == 0 else f"{scheme}://{args.host}:{args.port}/"
    print(f"listening at {where} (Ctrl-C ends)", file=sys.stderr)
    if args.host not in ("127.0.0.1", "localhost", "::1") and config.token is None:
        print("warning: anyone who reaches this address may connect; set a token with --token-file", file=sys.stderr)
    server.run()
    return 0 if server.started else 1


def _load_voice(tokenizer: Tokenizer, path: str | None) -> VoiceModel | None:
    """The voice model of a file, or that of the package if it has one for the tokenizer."""
    try:
        return VoiceModel(tokenizer, path)
    except FingerprintError:
        if path is None:
            return None
        raise


def _read_token(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(4_096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--token-file is {quoted(path)}, which cannot be read ({error}); expected a text file"
        ) from error
