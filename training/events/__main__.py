"""Train a turn detector: ``python -m training.events --config training/configs/events.yaml data=DIR``.

The detector hears speech, ends of turns and overlapping speech in the codes of one tokenizer. Scenes are put together
from aligned utterances, their room tone, and noise; they are encoded once, and a small causal network is trained on
their codes. The result, ``turns.safetensors``, belongs to the tokenizer's fingerprint.

A training that is interrupted resumes from its last checkpoint when the same command is run again, and reaches the
weights of an uninterrupted one.
"""

import sys
from collections.abc import Sequence

from training.command import run_command
from training.events.config import EventsConfig, load_config
from training.events.train import train_events


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    return run_command("training.events", __doc__ or "", EventsConfig, load_config, train_events, argv)


if __name__ == "__main__":
    sys.exit(main())
