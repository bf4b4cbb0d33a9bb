"""``speechtok roundtrip``: audio files to tokens and back, with quality and speed."""

import argparse
import importlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechtok.audio import AUDIO_SUFFIXES, read_audio, write_audio
from speechtok.cli.arguments import Commands, add_file_arguments
from speechtok.cli.batch import process_files
from speechtok.cli.chunks import Replacing, Work
from speechtok.cli.sources import Job
from speechtok.cli.text import Rows, bitrate, duration, path_text, seconds, shape, table
from speechtok.errors import SpeechtokError
from speechtok.extras import install_hint
from speechtok.files import make_folder, replacing
from speechtok.metrics import pesq_wb, stoi
from speechtok.resampling import resample
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens


def add_parser(commands: Commands) -> None:
    """Add the command."""
    text = "encode and decode audio files, and report quality and speed"
    parser = commands.add_parser(
        "roundtrip", help=text, description=f"{text.capitalize()}.", usage="%(prog)s [options] IN [IN ...] OUT"
    )
    add_file_arguments(
        parser,
        "audio files, folders to search, or patterns such as '*.wav'; the last one is OUT unless -o is given",
        "audio file, or folder for several",
    )
    parser.add_argument(
        "--plot",
        metavar="PNG",
        type=_png,
        help="draw spectrograms, their difference and the codes of one input to a picture",
    )
    parser.set_defaults(run=run, parser=parser, jobs=0)


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text!r}; expected a name that ends in .png")
    return path


def run(args: argparse.Namespace) -> int:
    """Encode and decode the inputs and return the exit status."""
    if args.out is None:
        if len(args.inputs) < 2:
            args.parser.error("expected IN and OUT")
        *args.inputs, args.out = args.inputs
    if args.plot:
        _require_matplotlib()

    return process_files(args, _Roundtrip(args.num_codebooks, args.plot), AUDIO_SUFFIXES, ".wav")


@dataclass(frozen=True)
class _Roundtrip(Work):
    num_codebooks: int | None
    plot: Path | None

    def read(self, source: Path) -> Any:
        return read_audio(source)

    def compute(self, tokenizer: Tokenizer, group: list[Any]) -> list[Any]:
        return [self._roundtrip(tokenizer, *contents) for contents in group]

    def _roundtrip(self, tokenizer: Tokenizer, waveform: Tensor, sample_rate: int) -> "_Result":
        _warm_up(tokenizer)
        start = time.perf_counter()
        tokens = tokenizer.encode(waveform, sample_rate, num_codebooks=self.num_codebooks).to("cpu")
        encoded = time.perf_counter()
        decoded = tokenizer.decode(tokens).cpu()[0]
        end = time.perf_counter()
        reference = resample(waveform[None], sample_rate, tokenizer.sample_rate)[0]
        return _Result(
            reference, tokens, decoded, seconds(tokens) / (encoded - start), seconds(tokens) / (end - encoded)
        )

    def write(self, tokenizer: Tokenizer, job: Job, result: Any, replacing: Replacing) -> str:
        tokens = result.tokens
        write_audio(job.target, result.decoded, tokenizer.sample_rate)
        scores, missing = _quality(result.reference, result.decoded, tokenizer.sample_rate)
        rows = [
            ("input", str(job.source)),
            ("duration", duration(tokens)),
            ("frames", f"{tokens.codes.shape[2]} at {tokens.frame_rate:g} Hz"),
            ("codes", shape(tokens)),
            ("bitrate", bitrate(tokens)),
            ("encode", f"{result.encode_speed:.1f} x real time"),
            ("decode", f"{result.decode_speed:.1f} x real time"),
            *scores,
            *([(", ".join(missing), f"not installed: {install_hint('bench')}")] if missing else []),
            ("output", str(job.target)),
        ]
        if self.plot:
            title = path_text(Path(job.source.name))
            _draw(self.plot, tokenizer, result, title, [("bitrate", bitrate(tokens)), *scores])
            rows.append(("plot", str(self.plot)))
        return table(rows) + "\n"


@dataclass(frozen=True)
class _Result:
    """Input at the tokenizer's rate, its tokens, and the decoded audio; speeds in multiples of real time."""

    reference: Tensor
    tokens: SpeechTokens
    decoded: Tensor
    encode_speed: float
    decode_speed: float


def _warm_up(tokenizer: Tokenizer) -> None:
    """Run ten seconds: the first run allocates memory and computes the fingerprint, which would distort the speed."""
    silence = torch.zeros(10 * tokenizer.sample_rate)
    tokenizer.decode(tokenizer.encode(silence, tokenizer.sample_rate)).cpu()


def _quality(reference: Tensor, decoded: Tensor, sample_rate: int) -> tuple[Rows, list[str]]:
    """PESQ-WB and STOI of ``decoded`` against ``reference``, ``(S,)`` each, and the metrics that are not installed."""
    rows, missing = [], []
    for label, measure, digits in (("PESQ-WB", pesq_wb, 2), ("STOI", stoi, 3)):
        try:
            score = measure(reference, decoded, sample_rate)
        except ImportError:
            missing.append(label)
        else:
            rows.append((label, "n/a" if math.isnan(score) else f"{score:.{digits}f}"))
    return rows, missing


def _require_matplotlib() -> None:
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise SpeechtokError(f"--plot needs matplotlib: {install_hint('plot')}") from error


def _draw(path: Path, tokenizer: Tokenizer, result: _Result, title: str, scores: Rows) -> None:
    from speechtok.plot import codebook_vectors, roundtrip_figure  # which imports matplotlib

    vectors = codebook_vectors(tokenizer.embed, result.tokens)
    figure = roundtrip_figure(result.reference, result.decoded, result.tokens, title, scores, vectors)
    make_folder(path.parent)
    with replacing(path) as file:
        figure.savefig(file, format="png")
