"""Codec 2 (Rowe): a parametric speech codec at 0.7 to 3.2 kbit/s, by its command-line programs."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.codecs.interface import Reconstruction
from benchmarks.codecs.spec import Spec
from speechtok.errors import InputError


class Codec2:
    """Codec 2 at 8 kHz. The number of the specification is the mode, in bit/s."""

    sample_rate = 8_000
    codebook_size = 0
    MODES = (3200, 2400, 1600, 1400, 1300, 1200, 700)

    def __init__(self, spec: Spec) -> None:
        mode = spec.integer or self.MODES[0]
        if mode not in self.MODES:
            raise InputError(f"codec2:{mode} is not a mode of Codec 2; expected one of {self.MODES}")
        for program in ("c2enc", "c2dec"):
            if not shutil.which(program):
                raise InputError(f"codec 'codec2' needs {program}, which is not installed (Debian package: codec2)")
        self.mode = "700C" if mode == 700 else str(mode)
        self.identity = f"codec2 {self.mode}"

    def __call__(self, waveform: Tensor) -> Reconstruction:
        """Encode and decode ``(S,)``, through temporary files."""
        with tempfile.TemporaryDirectory() as name:
            original, coded, decoded = (Path(name) / part for part in ("original.raw", "coded", "decoded.raw"))
            original.write_bytes((waveform.numpy() * 32_767).round().clip(-32_768, 32_767).astype("<i2").tobytes())
            for command in (["c2enc", self.mode, original, coded], ["c2dec", self.mode, coded, decoded]):
                subprocess.run(command, check=True, capture_output=True)
            samples = np.frombuffer(decoded.read_bytes(), "<i2").astype(np.float32) / 32_768
            return Reconstruction(torch.from_numpy(samples), 8.0 * coded.stat().st_size)
