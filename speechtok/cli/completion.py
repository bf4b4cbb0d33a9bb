"""``speechtok completion``: completion of commands, options and file names in a shell."""

import argparse

from speechtok.cli.arguments import Commands
from speechtok.errors import SpeechtokError
from speechtok.extras import install_hint

SHELLS = "bash", "zsh", "tcsh"
PATHS = {"inputs", "out", "model", "onnx", "plot", "path"}
"""Arguments that file names complete."""


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "print a script that completes speechtok's commands in a shell"
    parser = commands.add_parser(
        "completion",
        help=text,
        description=f"{text.capitalize()}.",
        epilog="For bash: speechtok completion bash > ~/.local/share/bash-completion/completions/speechtok",
    )
    parser.add_argument("shell", choices=SHELLS, help="shell that runs the script")
    parser.set_defaults(run=run, commands=commands)


def run(args: argparse.Namespace) -> int:
    """Print the script and return the exit status."""
    try:
        import shtab
    except ImportError as error:
        raise SpeechtokError(f"completion needs shtab: {install_hint('completion')}") from error
    for command in args.commands.choices.values():
        for action in command._actions:
            if action.dest in PATHS:
                action.complete = shtab.FILE
    print(shtab.complete(args.root, args.shell))
    return 0
