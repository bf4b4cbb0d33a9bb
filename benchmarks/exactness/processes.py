"""Encoding in new processes: with other instruction sets, other products, and other interpreters.

``python -m benchmarks.exactness.processes`` is what such a process runs. It needs only what speechtok itself needs.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import speechtok
from benchmarks.exactness.paths import Result, Waveforms, alone
from speechtok.nn.exact import use_int8
from speechtok.nn.native import use_isa
from speechtok.nn.native.library import available_isas

COMPILED = {
    "generic": "compiled, without AVX2",
    "avx2": "compiled, AVX2",
    "avx512_vnni": "compiled, AVX-512 with VNNI",
}
"""Instruction sets of the compiled code, and their names in the table."""

PROCESSORS = {
    "AVX-512 with VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX-512 without VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
"""Environment variables that limit PyTorch and its libraries to an instruction set."""


def implementations() -> dict[str, tuple[str, dict[str, str]]]:
    """Implementations of this machine: name in the table, argument of :func:`encode_saved`, environment variables."""
    found = {COMPILED[isa]: (isa, {}) for isa in COMPILED if isa in available_isas()}
    found |= {"PyTorch, float32 products": ("float32", {})}
    return found | {f"PyTorch, int8 products, {name}": ("int8", variables) for name, variables in PROCESSORS.items()}


def run_elsewhere(
    python: str, environment: dict[str, str], implementation: str, model: str | None, audio: Path, folder: Path
) -> Result:
    """Encode and decode in a new process.

    Args:
        python: interpreter.
        environment: additional environment variables.
        implementation: see :func:`encode_saved`.
        model: tokenizer; the default tokenizer if ``None``.
        audio: file with the waveforms, by :func:`save_waveforms`.
        folder: for temporary files.
    """
    out = folder / "codes.npz"
    command = [python, "-m", "benchmarks.exactness.processes", "--audio", str(audio), "--out", str(out)]
    command += ["--implementation", implementation]
    if model:
        command += ["--model", model]
    subprocess.run(command, check=True, env=os.environ | environment)
    with np.load(out) as arrays:
        codes = [torch.from_numpy(arrays[name].astype(np.int64)) for name in sorted(arrays.files) if name != "audio"]
        return codes, arrays["audio"].tolist()


def save_waveforms(waveforms: Waveforms, path: Path) -> None:
    """Write waveforms for :func:`encode_saved`."""
    np.savez(path, **{f"{i:06}": x.numpy() for i, x in enumerate(waveforms)})


def encode_saved(model: str | None, implementation: str, audio: Path, out: Path) -> None:
    """Encode and decode in this process with one implementation, and save the codes and hashes of the audio.

    Args:
        model: tokenizer; the default tokenizer if ``None``.
        implementation: an instruction set of the compiled code, one of :data:`COMPILED`; or the products of PyTorch:
            ``"int8"`` (where these are exact) or ``"float32"``.
        audio: file with the waveforms.
        out: file to write.
    """
    with np.load(audio) as arrays:
        waveforms = [torch.from_numpy(arrays[name]) for name in sorted(arrays.files)]
    torch.set_num_threads(1)
    with use_isa(implementation if implementation in COMPILED else None), use_int8(implementation == "int8"):
        codes, hashes = alone(speechtok.load(model), waveforms)
    np.savez(out, audio=np.array(hashes), **{f"{i:06}": c.numpy().astype(np.int32) for i, c in enumerate(codes)})


def torch_version(python: str | None = None) -> str:
    """Version of PyTorch in this interpreter or another one."""
    if python is None:
        return torch.__version__
    code = "import torch; print(torch.__version__)"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="tokenizer (default: the default tokenizer)")
    parser.add_argument("--implementation", choices=["int8", "float32", *COMPILED], required=True)
    parser.add_argument("--audio", type=Path, required=True, help="file with the waveforms")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args(argv)
    encode_saved(arguments.model, arguments.implementation, arguments.audio, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
