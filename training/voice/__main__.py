"""Train a voice model: ``python -m training.voice --config training/configs/voice.yaml data=DIR``.

The model generates the acoustic codes of one tokenizer from its semantic codes, in the voice of a prompt. Utterances
are encoded once, at several speeds, and a causal transformer is trained on their codes. The result,
``voice.safetensors``, belongs to the tokenizer's fingerprint.

A training that is interrupted resumes from its last checkpoint when the same command is run again, and reaches the
weights of an uninterrupted one.
"""

import sys
from collections.abc import Sequence

from training.command import run_command
from training.voice.config import VoiceTrainingConfig, load_config
from training.voice.train import train_voice


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    return run_command("training.voice", __doc__ or "", VoiceTrainingConfig, load_config, train_voice, argv)


if __name__ == "__main__":
    sys.exit(main())
