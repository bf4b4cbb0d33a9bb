"""Process of a fuzzer: ``python -m tests.fuzz.child KIND SEED START STOP FOLDER``; see :mod:`tests.fuzz.runner`."""

import faulthandler
import sys
from pathlib import Path

import torch

from tests.fuzz.runner import run_child

if __name__ == "__main__":
    faulthandler.enable()
    torch.set_num_threads(1)
    kind, seed, start, stop, folder = sys.argv[1:]
    run_child(kind, int(seed), int(start), int(stop), Path(folder))
