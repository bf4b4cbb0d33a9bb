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
from speechtok.cli.sources import Job, make_folder
from speechtok.cli.text import Rows, bitrate, duration, path_text, seconds, shape, table
from speechtok.errors import SpeechtokError
from speechtok.extras import install_hint
from speechtok.files import replacing
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

    def process(self, tokenizer: Tokenizer, job: Job, contents: Any, replacing: Replacing) -> str:
        waveform, sample_rate = contents
        _warm_up(tokenizer)
        start = time.perf_counter()
        tokens = tokenizer.encode(waveform, sample_rate, num_codebooks=self.num_codebooks).to("cpu")
        encoded = time.perf_counter()
        decoded = tokenizer.decode(tokens).cpu()[0]
        end = time.perf_counter()
        write_audio(job.target, decoded, tokenizer.sample_rate)
        reference = resample(waveform[None], sample_rate, tokenizer.sample_rate)[0]
        scores, missing = _quality(reference, decoded, tokenizer.sample_rate)
        rows = [
            ("input", str(job.source)),
            ("duration", duration(tokens)),
            ("frames", f"{tokens.codes.shape[2]} at {tokens.frame_rate:g} Hz"),
            ("codes", shape(tokens)),
            ("bitrate", bitrate(tokens)),
            ("encode", f"{seconds(tokens) / (encoded - start):.1f} x real time"),
            ("decode", f"{seconds(tokens) / (end - encoded):.1f} x real time"),
            *scores,
            *([(", ".join(missing), f"not installed: {install_hint('bench')}")] if missing else []),
            ("output", str(job.target)),
        ]
        if self.plot:
            title = path_text(Path(job.source.name))
            _draw(self.plot, tokenizer, reference, decoded, tokens, title, [("bitrate", bitrate(tokens)), *scores])
            rows.append(("plot", str(self.plot)))
        return table(rows) + "\n"


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


def _draw(
    path: Path,
    tokenizer: Tokenizer,
    reference: Tensor,
    decoded: Tensor,
    tokens: SpeechTokens,
    title: str,
    scores: Rows,
) -> None:
    from speechtok.plot import codebook_vectors, roundtrip_figure  # which imports matplotlib

    vectors = codebook_vectors(tokenizer.embed, tokens)
    figure = roundtrip_figure(reference, decoded, tokens, title, scores, vectors)
    make_folder(path.parent)
    with replacing(path) as file:
        figure.savefig(file, format="png")
