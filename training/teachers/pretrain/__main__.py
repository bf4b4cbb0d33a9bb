"""Pretrain a teacher: ``python -m training.teachers.pretrain --config training/configs/teacher.yaml data=DIR``.

The teacher is a small HuBERT. It is trained in two iterations: masked prediction of k-means clusters of MFCCs, then of
clusters of its own features. If the manifest aligns phones with the audio, the network also learns to classify them.

A pretraining that is interrupted resumes from its last checkpoint when the same command is run again, and reaches the
weights of an uninterrupted one.
"""

import sys
from collections.abc import Sequence

from training.command import run_command
from training.teachers.pretrain.config import PretrainingConfig, load_config
from training.teachers.pretrain.pretraining import pretrain


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    return run_command("training.teachers.pretrain", __doc__ or "", PretrainingConfig, load_config, pretrain, argv)


if __name__ == "__main__":
    sys.exit(main())
