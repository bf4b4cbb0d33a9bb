"""The command line: ``speechtok encode``, ``decode``, ``roundtrip``, ``convert`` and ``info``."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import importlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from speechtok.audio import AUDIO_SUFFIXES, read_audio, resample, write_audio
from speechtok.errors import InputError, OutputError, SpeechtokError, TokensError
from speechtok.files import replacing
from speechtok.version import version

if TYPE_CHECKING:
    from torch import Tensor

    from speechtok.tokenizer import Tokenizer
    from speechtok.tokens import SpeechTokens

TOKENS_SUFFIX = ".tokens"
Work = Callable[["Tokenizer", Path, Path], str]
"""Makes the second path from the first, and says in words what it made."""
Rows = list[tuple[str, str]]


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 (something failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot show
    try:
        args = _parse(argv)
        run: Callable[[argparse.Namespace], int] = args.run
        status = run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads has enough, as ``head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor shall the interpreter complain at its end
        return 1
    except (SpeechtokError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    args, more = parser.parse_known_args(argv)
    # argparse takes the inputs from one place only; those behind an option are left over
    if more and ("inputs" not in args or any(word.startswith("-") for word in more)):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if more:
        args.inputs += more
    return args


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="speechtok", description="Speech to tokens, and tokens to speech.")
    parser.add_argument("--version", action="version", version=f"speechtok {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    encode = commands.add_parser("encode", help="audio files to tokens files")
    _add_common(
        encode,
        "audio files, folders or patterns",
        f"tokens file, or folder (default: IN with the suffix {TOKENS_SUFFIX})",
    )
    encode.set_defaults(run=_encode, parser=encode, plot=None)

    decode = commands.add_parser("decode", help="tokens files to audio files")
    _add_common(decode, "tokens files, folders or patterns", "audio file, or folder (default: IN with the suffix .wav)")
    decode.set_defaults(run=_decode, parser=decode, plot=None)

    roundtrip = commands.add_parser(
        "roundtrip",
        help="audio files to tokens and back, with quality and speed",
        usage="%(prog)s [options] IN [IN ...] OUT",
    )
    _add_common(roundtrip, "audio files, folders or patterns; the last is OUT", "OUT, as an option")
    roundtrip.add_argument("--plot", metavar="PNG", type=_png, help="draw waveform, spectrograms and codes of one file")
    roundtrip.set_defaults(run=_roundtrip, parser=roundtrip)

    convert = commands.add_parser("convert", help="a published checkpoint to speechtok's format, as safetensors")
    convert.add_argument(
        "model", metavar="MODEL", type=_named, help="what speechtok.load takes: a folder, or org/name on the hub"
    )
    convert.add_argument("-o", "--out", metavar="DIR", type=_named, required=True, help="folder to write")
    convert.add_argument("--revision", metavar="NAME", help="branch, tag or commit on the hub")
    convert.add_argument("--force", action="store_true", help="replace a tokenizer that is there")
    convert.set_defaults(run=_convert)

    info = commands.add_parser("info", help="describe tokens or a tokenizer")
    info.add_argument(
        "path",
        nargs="?",
        metavar="FILE|MODEL",
        type=_named,
        help="tokens file, or what speechtok.load takes (default: its default)",
    )
    info.set_defaults(run=_info)
    return parser


def _add_common(parser: argparse.ArgumentParser, inputs: str, out: str) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", type=_named, help=inputs)
    parser.add_argument("-o", "--out", metavar="OUT", type=_named, help=out)
    parser.add_argument("--model", metavar="PATH", type=_named, help="tokenizer (default: the one in the package)")
    parser.add_argument("--device", default="cpu", help="where to compute, for example cuda (default: cpu)")
    parser.add_argument(
        "--num-codebooks", "--codebooks", type=int, metavar="N", help="codebooks to use, from the first (default: all)"
    )
    parser.add_argument("--force", action="store_true", help="replace existing outputs; they are skipped otherwise")


def _named(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; expected one: is a variable not set?")
    return text


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text!r}; expected a name that ends in .png")
    return path


def _encode(args: argparse.Namespace) -> int:
    def work(tokenizer: Tokenizer, source: Path, target: Path) -> str:
        tokens = tokenizer.encode(*read_audio(source), num_codebooks=args.num_codebooks)
        tokens.save(target)
        return f"{source} -> {target}: {_duration(tokens)}, codes {_shape(tokens)}, {_kbits(tokens.bitrate)}"

    return _each_file(args, work, AUDIO_SUFFIXES, TOKENS_SUFFIX)


def _decode(args: argparse.Namespace) -> int:
    def work(tokenizer: Tokenizer, source: Path, target: Path) -> str:
        from speechtok.tokens import SpeechTokens

        tokens = SpeechTokens.load(source)
        if len(tokens) != 1:
            raise TokensError(
                f"{source} holds {len(tokens)} utterances; expected one: take them apart in Python with tokens[i]"
            )
        write_audio(target, tokenizer.decode(tokens, args.num_codebooks), tokenizer.sample_rate)
        return f"{source} -> {target}: {_duration(tokens)} at {tokens.sample_rate} Hz"

    return _each_file(args, work, (TOKENS_SUFFIX,), ".wav")


def _roundtrip(args: argparse.Namespace) -> int:
    if args.out is None:
        if len(args.inputs) < 2:
            args.parser.error("expected IN and OUT")
        *args.inputs, args.out = args.inputs
    if args.plot:
        _require_matplotlib()

    def work(tokenizer: Tokenizer, source: Path, target: Path) -> str:
        return _table(_roundtrip_file(tokenizer, source, target, args.num_codebooks, args.plot)) + "\n"

    return _each_file(args, work, AUDIO_SUFFIXES, ".wav")


def _roundtrip_file(
    tokenizer: Tokenizer, source: Path, target: Path, num_codebooks: int | None, plot: Path | None
) -> Rows:
    waveform, sample_rate = read_audio(source)
    _warm_up(tokenizer)
    start = time.perf_counter()
    tokens = tokenizer.encode(waveform, sample_rate, num_codebooks=num_codebooks).to("cpu")
    encoded = time.perf_counter()
    after = tokenizer.decode(tokens).cpu()[0]
    decoded = time.perf_counter()
    write_audio(target, after, tokenizer.sample_rate)
    before = resample(waveform[None], sample_rate, tokenizer.sample_rate)[0]
    rows = [
        ("input", str(source)),
        ("duration", _duration(tokens)),
        ("frames", f"{tokens.codes.shape[2]} at {tokens.frame_rate:g} Hz"),
        ("codes", _shape(tokens)),
        ("bitrate", _kbits(tokens.bitrate)),
        ("encode", f"{_seconds(tokens) / (encoded - start):.1f} x real time"),
        ("decode", f"{_seconds(tokens) / (decoded - encoded):.1f} x real time"),
        *_quality(before, after, tokenizer.sample_rate),
        ("output", str(target)),
    ]
    if plot:
        _draw(plot, before, after, tokens)
        rows.append(("plot", str(plot)))
    return rows


def _warm_up(tokenizer: Tokenizer) -> None:
    """Run ten seconds: the first pay for kernels, memory and the fingerprint, and would blur a short file's speed."""
    import torch

    silence = torch.zeros(10 * tokenizer.sample_rate)
    tokenizer.decode(tokenizer.encode(silence, tokenizer.sample_rate)).cpu()


def _convert(args: argparse.Namespace) -> int:
    from speechtok.checkpoint import CONFIG_NAME, load

    out = Path(args.out)
    if (out / CONFIG_NAME).exists() and not args.force:
        raise OutputError(f"{out} holds a tokenizer; choose another folder, or replace it with --force")
    tokenizer = load(args.model, revision=args.revision)
    tokenizer.save(out)
    print(f"{args.model} -> {out}: {tokenizer.config.family}, fingerprint {tokenizer.fingerprint}")
    return 0


def _info(args: argparse.Namespace) -> int:
    from speechtok.checkpoint import load
    from speechtok.tokens import SpeechTokens

    path = None if args.path is None else Path(args.path)
    # of what is not here, only a name with the suffix is a tokens file: org/name may be on the hub
    if path is not None and (path.suffix == TOKENS_SUFFIX or (path.is_file() and path.suffix != ".pt")):
        rows = _describe_tokens(SpeechTokens.load(path))
    else:
        rows = _describe_tokenizer(load(args.path))
    print(_table(rows))
    return 0


def _describe_tokenizer(tokenizer: Tokenizer) -> Rows:
    parts = {
        "codebooks" if name == "quantizer" else name: sum(t.numel() for t in (*part.parameters(), *part.buffers()))
        for name, part in tokenizer.named_children()
    }
    rows = [
        ("fingerprint", tokenizer.fingerprint),
        ("frame rate", f"{tokenizer.frame_rate:g} Hz"),
        ("bitrate", _kbits(tokenizer.bitrate)),
        ("parameters", f"{sum(parts.values()):,} ({', '.join(f'{name} {n:,}' for name, n in parts.items())})"),
    ]
    for name, value in dataclasses.asdict(tokenizer.config).items():
        if isinstance(value, dict):
            rows += [(f"{name}.{inner}", str(v)) for inner, v in value.items()]
        else:
            rows.append((name, str(value)))
    return rows


def _describe_tokens(tokens: SpeechTokens) -> Rows:
    import torch

    # padding frames hold code 0, which nobody spoke
    spoken = torch.arange(tokens.codes.shape[2]) < tokens.lengths[:, None]
    used = [len(set(codes[spoken].tolist())) for codes in tokens.codes.unbind(1)]
    return [
        ("utterances", str(len(tokens))),
        ("duration", _duration(tokens)),
        ("frames", f"{int(tokens.lengths.sum())} at {tokens.frame_rate:g} Hz"),
        ("codes", _shape(tokens)),
        ("sample rate", f"{tokens.sample_rate} Hz"),
        ("bitrate", _kbits(tokens.bitrate)),
        ("fingerprint", tokens.fingerprint),
        *((f"codebook {q}", f"{n} of {tokens.codebook_size} entries used") for q, n in enumerate(used)),
    ]


def _seconds(tokens: SpeechTokens) -> float:
    return int(tokens.num_samples.sum()) / tokens.sample_rate


def _duration(tokens: SpeechTokens) -> str:
    return f"{_seconds(tokens):.2f} s"


def _shape(tokens: SpeechTokens) -> str:
    return str(tuple(tokens.codes.shape))


def _kbits(bitrate: float) -> str:
    return f"{bitrate / 1000:.2f} kbit/s"


def _table(rows: Rows) -> str:
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)


def _each_file(args: argparse.Namespace, work: Work, suffixes: Collection[str], to: str) -> int:
    """Do ``work`` on every input that has no output yet; whatever fails is told at the end."""
    sources, failures = _find_sources(args.inputs, suffixes, args.out)
    if args.plot and max(len(args.inputs), len(sources)) > 1:
        args.parser.error("--plot takes one input")
    skipped = written = 0
    if sources:
        tokenizer = _load_tokenizer(args)
        jobs, clashes = _plan(args, sources, to)
        failures += clashes
        for source, target in tqdm(jobs, unit="file", disable=len(jobs) < 2):
            existing = [path for path in (target, args.plot) if path and path.exists()]
            if existing and not args.force:
                tqdm.write(f"skipped: {existing[0]} exists; --force replaces it", file=sys.stderr)
                skipped += 1
                continue
            try:
                _make_folder(target.parent)
                report = work(tokenizer, source, target)
            except (SpeechtokError, OSError) as error:
                failures.append(str(error) if str(error).startswith(str(source)) else f"{source}: {error}")
            else:
                tqdm.write(report, file=sys.stdout)
                written += 1
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if written + skipped + len(failures) > 1:
        print(f"{written} written, {skipped} skipped, {len(failures)} failed", file=sys.stderr)
    return 1 if failures else 0


def _load_tokenizer(args: argparse.Namespace) -> Tokenizer:
    import torch

    from speechtok.checkpoint import load

    try:
        torch.zeros(1, device=args.device).item()
    # torch asserts that it was compiled for the device, and imports what some devices need
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--device is {args.device!r}, which cannot be used here ({reason}); try cpu") from error
    tokenizer = load(args.model, args.device)
    if args.num_codebooks is not None and not 1 <= args.num_codebooks <= tokenizer.num_codebooks:
        args.parser.error(f"--num-codebooks is {args.num_codebooks}; expected 1 to {tokenizer.num_codebooks}")
    return tokenizer


@dataclass(frozen=True)
class _Source:
    """A file to work on, and the folder that it was found in by searching."""

    path: Path
    root: Path | None = None

    @property
    def place(self) -> Path:
        """Where its output goes below an output folder."""
        return Path(self.path.name) if self.root is None else self.path.relative_to(self.root)


def _find_sources(names: list[str], suffixes: Collection[str], out: str | None) -> tuple[list[_Source], list[str]]:
    """The files that ``names`` mean, each once; and what to say of names that mean none."""
    sources: dict[Path, _Source] = {}
    failures = []
    for name in names:
        found = _expand(name, suffixes)
        if out is not None:
            found = [source for source in found if not _is_earlier_output(source, Path(out))]
        if not found:
            failures.append(f"{name}: no input found; expected files that end in {', '.join(suffixes)}")
        for source in found:
            sources.setdefault(source.path.resolve(), source)
    return list(sources.values()), failures


def _expand(name: str, suffixes: Collection[str]) -> list[_Source]:
    """The files that ``name`` means: a folder, a file, or a pattern of them as a shell would expand it."""
    if Path(name).exists() or not glob.has_magic(name):
        return _expand_path(Path(name), suffixes)
    return [
        source for match in sorted(glob.glob(name, recursive=True)) for source in _expand_path(Path(match), suffixes)
    ]


def _expand_path(path: Path, suffixes: Collection[str]) -> list[_Source]:
    if not path.is_dir():
        return [_Source(path)]
    return [
        _Source(found, path)
        for found in sorted(path.rglob("*"))
        if found.suffix.lower() in suffixes and found.is_file() and not _is_hidden(found.relative_to(path))
    ]


def _is_hidden(place: Path) -> bool:
    """Whether it is another program's, such as the ._a.wav that macOS puts beside a.wav."""
    return any(part.startswith(".") for part in place.parts)


def _is_earlier_output(source: _Source, out: Path) -> bool:
    """Whether the search met an output folder inside the folder searched, as ``roundtrip . out`` does when repeated."""
    if source.root is None:
        return False
    out, root = out.resolve(), source.root.resolve()
    return out != root and out.is_relative_to(root) and source.path.resolve().is_relative_to(out)


def _plan(args: argparse.Namespace, sources: list[_Source], to: str) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Every source with its target; and what to say of those that would overwrite a source or each other's target."""
    into = _output_folder(args, sources)
    inputs = {source.path.resolve() for source in sources}
    writers: dict[Path, Path] = {}
    jobs, failures = [], []
    for source in sources:
        if args.out is None:
            target = source.path.with_suffix(to)
        else:
            target = (into / source.place).with_suffix(to) if into else Path(args.out)
        where = target.resolve()
        if where in inputs:
            failures.append(f"{source.path}: its output {target} is an input; choose another place with -o")
        elif where in writers:
            failures.append(
                f"{source.path}: its output {target} is that of {writers[where]} too; "
                "give it a run of its own, or a folder that holds both"
            )
        else:
            writers[where] = source.path
            jobs.append((source.path, target))
    return jobs, failures


def _output_folder(args: argparse.Namespace, sources: list[_Source]) -> Path | None:
    """Make the folder that ``-o`` names; ``None`` where it names a file, or is not given."""
    if args.out is None:
        return None
    out = Path(args.out)
    one_file = len(args.inputs) == len(sources) == 1 and sources[0].root is None
    if one_file and out.suffix and not out.is_dir() and not args.out.endswith(os.sep):
        return None
    _make_folder(out)
    return out


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}; choose a writable place") from error


def _quality(before: Tensor, after: Tensor, sample_rate: int) -> Rows:
    """PESQ-WB and STOI of ``after`` against ``before``, ``(S,)`` each, as far as their libraries are installed."""
    from speechtok.metrics import pesq_wb, stoi

    rows, missing = [], []
    for label, measure, digits in (("PESQ-WB", pesq_wb, 2), ("STOI", stoi, 3)):
        try:
            score = measure(before, after, sample_rate)
        except ImportError:
            missing.append(label)
        else:
            rows.append((label, "n/a" if math.isnan(score) else f"{score:.{digits}f}"))
    if missing:
        rows.append((", ".join(missing), "pip install speechtok[bench] gives them"))
    return rows


def _require_matplotlib() -> None:
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise SpeechtokError("--plot needs matplotlib: pip install speechtok[plot]") from error


def _draw(path: Path, before: Tensor, after: Tensor, tokens: SpeechTokens) -> None:
    from speechtok.plot import roundtrip_figure

    figure = roundtrip_figure(before, after, tokens)
    _make_folder(path.parent)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
