"""One audio, one token sequence: how much differs when the same speech is encoded and decoded in other ways.

``python -m benchmarks.exactness --data DIR/test.jsonl`` encodes every utterance alone on one thread, then again in
padded batches, streamed in chunks of random sizes, on other numbers of threads, through the command line, and in fresh
processes with narrower vector instructions, by compiled code and by PyTorch with products in int8 or float32.
``--python`` adds other interpreters, with other versions of PyTorch. It prints a Markdown table, with the utterances
whose decoded audio differs in any bit where the decoder too ran in another way, and exits with 1 if anything differs.
"""

import argparse
import functools
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import speechtok
from benchmarks.arguments import integer_from, one_line_errors
from speechtok.audio import resample
from speechtok.errors import InputError
from speechtok.nn.exact import use_int8
from speechtok.nn.native import use_isa
from speechtok.nn.native.library import available_isas

COMPILED = {
    "generic": "compiled, without AVX2",
    "avx2": "compiled, AVX2",
    "avx512_vnni": "compiled, AVX-512 with VNNI",
}
"""Instruction sets of compiled code."""
PROCESSORS = {
    "AVX-512 with VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "AVX-512 without VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
"""Vector instructions that PyTorch and its libraries can be held to, narrower than most processors have."""

Waveforms = list[torch.Tensor]
"""Of each utterance, ``(S,)``."""
Codes = list[torch.Tensor]
"""Of each utterance, ``(Q, T)``."""
Result = tuple[Codes, list[str] | None]
"""Codes, and digests of the audio that they decode to, if the way concerns the decoder."""


def alone(tok: speechtok.ConvNeXtTokenizer, waveforms: Waveforms, threads: int = 1) -> Result:
    """Each utterance by itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    codes = [tok.encode(x, tok.sample_rate).codes[0] for x in waveforms]
    audio = [_digest(tok.decode(c[None])[:, : len(x)]) for c, x in zip(codes, waveforms, strict=True)]
    torch.set_num_threads(before)
    return codes, audio


def _digest(audio: torch.Tensor) -> str:
    return hashlib.sha256((audio + 0.0).numpy().tobytes()).hexdigest()  # minus zero is zero


def batched(tok: speechtok.ConvNeXtTokenizer, waveforms: Waveforms, most: int = 64) -> Result:
    """In batches of random sizes and companies, with noise as padding."""
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    order = rng.sample(range(len(waveforms)), len(waveforms))
    codes: dict[int, torch.Tensor] = {}
    audio: dict[int, str] = {}
    while order:
        size = rng.randint(1, most)
        rows, order = order[:size], order[size:]
        lengths = [len(waveforms[row]) for row in rows]
        batch = torch.rand(len(rows), max(lengths) + rng.randint(0, 5_000), generator=generator) - 0.5
        for x, row in zip(batch, rows, strict=True):
            x[: len(waveforms[row])] = waveforms[row]
        tokens = tok.encode(batch, tok.sample_rate, lengths=lengths)
        codes |= {row: tokens.codes[i, :, : tokens.lengths[i]] for i, row in enumerate(rows)}
        decoded = tok.decode(tokens)
        audio |= {row: _digest(decoded[i : i + 1, : len(waveforms[row])]) for i, row in enumerate(rows)}
    everyone = range(len(waveforms))
    return [codes[row] for row in everyone], [audio[row] for row in everyone]


def streamed(tok: speechtok.ConvNeXtTokenizer, waveforms: Waveforms) -> Codes:
    """In chunks of random sizes from 1 sample to 2 s; the first utterance one sample at a time."""
    rng = random.Random(0)
    codes = []
    for index, x in enumerate(waveforms):
        parts, start = [], 0
        with tok.stream() as stream:
            while start < len(x):
                size = 1 if index == 0 else int(2 ** rng.uniform(0, 15))
                parts.append(stream.encode(x[start : start + size]))
                start += size
            parts.append(stream.flush())
        codes.append(torch.cat(parts, 2)[0])
    return codes


def interleaved(tok: speechtok.ConvNeXtTokenizer, waveforms: Waveforms, most: int = 100) -> Codes:
    """By 100 streams at once, which take turns."""
    rng = random.Random(0)
    codes: Codes = []
    for first in range(0, len(waveforms), most):
        group = waveforms[first : first + most]
        streams = [tok.stream() for _ in group]
        parts: list[Codes] = [[] for _ in group]
        places = [0] * len(group)
        while open_rows := [i for i, x in enumerate(group) if places[i] < len(x)]:
            for i in rng.sample(open_rows, len(open_rows)):
                size = rng.choice([320, 480, 1_280, 4_000])
                parts[i].append(streams[i].encode(group[i][places[i] : places[i] + size]))
                places[i] += size
        codes += [torch.cat([*p, s.flush()], 2)[0] for p, s in zip(parts, streams, strict=True)]
    return codes


def by_command_line(model: str | None, files: Sequence[Path], folder: Path) -> Codes:
    """Through ``speechtok encode``, from files."""
    folder.mkdir()
    links = [folder / f"{i:06}{file.suffix}" for i, file in enumerate(files)]
    for link, file in zip(links, files, strict=True):  # two folders may have files of one name
        link.symlink_to(file.resolve())
    command = [
        sys.executable,
        "-c",
        "import sys; from speechtok.cli import main; sys.exit(main())",
        "encode",
        *map(str, links),
        "-o",
        str(folder),
    ]
    subprocess.run(command + (["--model", model] if model else []), check=True, capture_output=True)
    return [speechtok.SpeechTokens.load(folder / f"{file.stem}.tokens").codes[0] for file in links]


def elsewhere(
    python: str, environment: dict[str, str], means: str, model: str | None, audio: Path, folder: Path
) -> Result:
    """In a fresh process, see :func:`encode_saved`."""
    out = folder / "codes.npz"
    command = [python, "-m", "benchmarks.exactness", "--waveforms", str(audio), "--out", str(out)]
    command += ["--means", means]
    if model:
        command += ["--model", model]
    subprocess.run(command, check=True, env=os.environ | environment)
    with np.load(out) as arrays:
        codes = [torch.from_numpy(arrays[name].astype(np.int64)) for name in sorted(arrays.files) if name != "audio"]
        return codes, arrays["audio"].tolist()


def encode_saved(model: str | None, means: str, audio: Path, out: Path) -> None:
    """Encode and decode in this process with one implementation, and save the codes and digests of the audio.

    Args:
        model: a tokenizer's directory; the default tokenizer if ``None``.
        means: an instruction set of compiled code; or ``"int8"`` (where such products are exact) or ``"float32"``, the
            products of PyTorch.
        audio: file with the waveforms.
        out: file to write.
    """
    with np.load(audio) as arrays:
        waveforms = [torch.from_numpy(arrays[name]) for name in sorted(arrays.files)]
    torch.set_num_threads(1)
    with use_isa(means if means in COMPILED else None), use_int8(means == "int8"):
        codes, digests = alone(speechtok.load(model), waveforms)
    np.savez(out, audio=np.array(digests), **{f"{i:06}": c.numpy().astype(np.int32) for i, c in enumerate(codes)})


def decoded_streamed(tok: speechtok.ConvNeXtTokenizer, codes: Codes, waveforms: Waveforms) -> list[str]:
    """Digests of audio decoded by streams in random pieces."""
    rng = random.Random(0)
    digests = []
    for row, x in zip(codes, waveforms, strict=True):
        parts, start = [], 0
        with tok.stream() as stream:
            while start < row.shape[1]:
                size = rng.randint(1, 100)
                parts.append(stream.decode(row[None, :, start : start + size]))
                start += size
            parts.append(stream.drain())
        digests.append(_digest(torch.cat(parts, 1)[:, : len(x)]))
    return digests


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a manifest, or a folder with test.jsonl")
    parser.add_argument("--model", help="a tokenizer's directory (the default tokenizer if not given)")
    parser.add_argument("--limit", type=integer_from(1), help="utterances, the first ones (all if not given)")
    parser.add_argument("--python", action="append", default=[], help="another interpreter that has speechtok's needs")
    parser.add_argument("--only", action="append", metavar="TEXT", help="rows whose name has it (all if not given)")
    parser.add_argument("--waveforms", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--means", choices=["int8", "float32", *COMPILED], help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.waveforms:
        encode_saved(arguments.model, arguments.means, arguments.waveforms, arguments.out)
        return 0
    if not arguments.data:
        parser.error("--data is missing")
    from benchmarks.data import read_utterances  # needs packages that another interpreter may lack

    torch.set_num_threads(1)
    tok = speechtok.load(arguments.model)
    files = [utterance.audio for utterance in read_utterances(arguments.data)[: arguments.limit]]
    waveforms = [_read(file, tok.sample_rate) for file in files]
    expected, expected_audio = alone(tok, waveforms)
    total = sum(grid.numel() for grid in expected)
    hours = sum(map(len, waveforms)) / tok.sample_rate / 3600
    print(f"{len(files)} utterances, {hours:.2f} hours, {total} codes; reference: each alone, 1 thread, {_torch()}\n")
    differ = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        audio = folder / "waveforms.npz"
        np.savez(audio, **{f"{i:06}": x.numpy() for i, x in enumerate(waveforms)})
        ways: dict[str, Callable[[], Result]] = {
            "alone, 2 threads": lambda: alone(tok, waveforms, 2),
            "alone, 4 threads": lambda: alone(tok, waveforms, 4),
            "in padded batches of 1 to 64": lambda: batched(tok, waveforms),
            "streamed in chunks of 1 sample to 2 s": lambda: (
                streamed(tok, waveforms),
                decoded_streamed(tok, expected, waveforms),
            ),
            "by 100 interleaved streams": lambda: (interleaved(tok, waveforms), None),
            "speechtok encode": lambda: (by_command_line(arguments.model, files, folder / "tokens"), None),
        }
        for python in (sys.executable, *arguments.python):
            version = "" if python == sys.executable else _torch(python) + ", "
            compiled = [isa for isa in COMPILED if isa in available_isas()]
            fresh: dict[str, tuple[str, dict[str, str]]] = {COMPILED[isa]: (isa, {}) for isa in compiled}
            fresh |= {"PyTorch, float32 products": ("float32", {})}
            fresh |= {f"PyTorch, int8 products, {name}": ("int8", extra) for name, extra in PROCESSORS.items()}
            for name, (means, environment) in fresh.items():
                ways[version + name] = functools.partial(
                    elsewhere, python, environment, means, arguments.model, audio, folder
                )
        if arguments.only:
            chosen = {way: encode for way, encode in ways.items() if any(text in way for text in arguments.only)}
            if not chosen:
                raise InputError(f"--only is {arguments.only}, in no row; expected some of {', '.join(ways)}")
            ways = chosen
        print("| again | codes | differ | audio that differs, utterances |\n|---|---|---|---|", flush=True)
        for way, encode in ways.items():
            start = time.perf_counter()
            codes, audio_again = encode()
            wrong = sum(
                int((a != b).sum()) if a.shape == b.shape else a.numel() for a, b in zip(expected, codes, strict=True)
            )
            differ += wrong
            heard = ""
            if audio_again is not None and expected_audio is not None:
                unlike = sum(a != b for a, b in zip(expected_audio, audio_again, strict=True))
                differ += unlike
                heard = str(unlike)
            print(f"| {way} | {sum(c.numel() for c in codes)} | {wrong} | {heard} |", flush=True)
            print(f"{way}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return int(differ > 0)


def _read(file: Path, sample_rate: int) -> torch.Tensor:
    waveform, rate = speechtok.read_audio(file)
    return resample(waveform[None], rate, sample_rate)[0]


def _torch(python: str | None = None) -> str:
    if python is None:
        return f"PyTorch {torch.__version__}"
    code = "import torch; print(torch.__version__)"
    return "PyTorch " + subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
