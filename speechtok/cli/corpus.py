"""``speechtok corpus``: build, describe, export and model corpora of tokens."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from speechtok.cli.arguments import Commands, add_jobs_argument, non_empty
from speechtok.cli.batch import count_cores
from speechtok.cli.text import table
from speechtok.device import check_device
from speechtok.errors import InputError
from speechtok.loaders import load
from speechtok.tokenizer import Tokenizer

if TYPE_CHECKING:  # pyarrow is loaded by the commands that need it
    from speechtok.corpus.build import MakeEngine
    from speechtok.parquet import CodesFormat, Encoding


def add_parser(commands: Commands) -> None:
    """Add the command with its own commands."""
    text = "build and use corpora of tokens"
    parser = commands.add_parser("corpus", help=text, description=f"{text.capitalize()} (extra 'corpus').")
    inner = parser.add_subparsers(required=True, metavar="ACTION")
    _add_build(inner)
    _add_info(inner)
    _add_export(inner)
    _add_bpe(inner)
    _add_compress(inner)


def _add_build(commands: Commands) -> None:
    text = "encode recordings to Parquet shards; the same command continues an interrupted build"
    parser = commands.add_parser("build", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        type=non_empty,
        help="folder, JSON lines (NeMo, Moshi or speechtok), wav.scp, Lhotse cuts, Parquet with audio, tar archives, a "
        "pattern of these, or a URL such as s3://bucket/folder",
    )
    parser.add_argument("-o", "--out", metavar="DIR", type=non_empty, required=True, help="folder of the corpus")
    parser.add_argument("--format", metavar="KIND", help="kind of the sources (default: found out)")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where to run (default: local)")
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="Ray cluster to use (default: that of this machine, or a new one)"
    )
    parser.add_argument("--model", metavar="MODEL", type=non_empty, help="tokenizer, as for encode")
    parser.add_argument("--device", default="cpu", help="PyTorch device, for example cuda (default: cpu)")
    parser.add_argument("--num-codebooks", type=int, metavar="N", help="number of codebooks (default: all)")
    parser.add_argument(
        "--shard-hours", type=float, default=10.0, metavar="H", help="hours of audio of a shard (default: 10)"
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="shuffle the recordings with this seed (default: order of the source)"
    )
    parser.add_argument(
        "--codes",
        choices=("uint16", "packed", "entropy"),
        default="uint16",
        help="how codes are written: lists that any reader takes, 10 bits a code, or entropy coded (default: uint16)",
    )
    parser.add_argument(
        "--labels", metavar="NAMES", default="", help="further columns, for example level,prosody,caption,duplicates"
    )
    parser.add_argument(
        "--max-utterance", type=float, metavar="S", help="cut longer recordings at pauses (default: keep them whole)"
    )
    parser.add_argument(
        "--max-hours", type=float, default=6.0, metavar="H", help="quarantine longer recordings (default: 6)"
    )
    add_jobs_argument(parser)
    parser.set_defaults(run=_build, parser=parser)


def _build(args: argparse.Namespace) -> int:
    from speechtok.corpus.build import build
    from speechtok.corpus.settings import Settings

    check_device(args.device, "--device")
    tokenizer = load(args.model, args.device)
    settings = Settings(
        _codes_format(tokenizer, args.num_codebooks, args.codes),
        args.shard_hours,
        args.seed,
        tuple(name for name in args.labels.split(",") if name),
        args.max_utterance,
        args.max_hours,
    )
    built = build(
        args.sources, args.out, tokenizer, settings, _engine_maker(args), args.format, progress=sys.stderr.isatty()
    )
    manifest = built.manifest
    quarantined = manifest["quarantined"]["total"]
    print(
        f"{args.out}: {manifest['utterances']} utterances, {manifest['hours']:.2f} hours, "
        f"{len(manifest['shards'])} shards, {manifest['bytes'] / 1e6:.1f} MB, {quarantined} quarantined"
    )
    return 0


def _engine_maker(args: argparse.Namespace) -> "MakeEngine":
    from speechtok.corpus.engines import LocalEngine

    if args.engine == "ray":
        from speechtok.corpus.engines.ray_data import RayEngine

        return lambda encoder: RayEngine(encoder, args.ray_address, args.jobs)
    jobs = 0 if args.device != "cpu" else args.jobs or count_cores() + 1
    return lambda encoder: LocalEngine(encoder, jobs)


def _codes_format(tokenizer: Tokenizer, num_codebooks: int | None, encoding: "Encoding") -> "CodesFormat":
    from speechtok.entropy import embedded_model
    from speechtok.parquet import CodesFormat

    count = tokenizer.num_codebooks if num_codebooks is None else num_codebooks
    if not 1 <= count <= tokenizer.num_codebooks:
        raise InputError(f"--num-codebooks is {count}; expected 1 to {tokenizer.num_codebooks}")
    model = embedded_model(tokenizer.fingerprint) if encoding == "entropy" else None
    if encoding == "entropy" and model is None:
        raise InputError(
            f"--codes entropy needs a model for the tokenizer {tokenizer.fingerprint}, which the package does not "
            "have; build the corpus with uint16, and convert it with 'speechtok corpus compress'"
        )
    return CodesFormat(
        tokenizer.sample_rate,
        tokenizer.hop_length,
        tokenizer.codebook_size,
        count,
        tokenizer.fingerprint,
        encoding,
        model,
    )


def _add_info(commands: Commands) -> None:
    text = "describe a corpus"
    parser = commands.add_parser("info", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("path", metavar="DIR", type=non_empty, help="folder of a corpus, or one of its shards")
    parser.add_argument("--where", metavar="CONDITION", help="count only such rows, for example 'snr > 15'")
    parser.set_defaults(run=_info)


def _info(args: argparse.Namespace) -> int:
    from speechtok.corpus.reader import Corpus

    corpus = Corpus(args.path, args.where)
    seconds = frames = count = 0
    for part in corpus.tables(["seconds", "length"]):
        count += part.num_rows
        seconds += sum(part.column("seconds").to_pylist())
        frames += sum(part.column("length").to_pylist())
    rows = [
        ("utterances", str(count)),
        ("hours", f"{seconds / 3600:.2f}"),
        ("frames", str(frames)),
        ("shards", str(len(corpus.files))),
        ("bytes", str(sum(file.stat().st_size for file in corpus.files))),
        ("codes", corpus.format.encoding),
        ("codebooks", f"{corpus.format.num_codebooks} of {corpus.format.codebook_size} entries"),
        ("fingerprint", corpus.format.fingerprint),
        ("columns", ", ".join(corpus.schema.names)),
    ]
    for reason, number in corpus.manifest.get("quarantined", {}).items():
        rows.append((f"quarantined, {reason}", str(number)))
    print(table(rows))
    return 0


def _add_export(commands: Commands) -> None:
    text = "write a corpus for another tool"
    parser = commands.add_parser("export", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("path", metavar="DIR", type=non_empty, help="folder of a corpus, or one of its shards")
    parser.add_argument("-o", "--out", metavar="OUT", type=non_empty, required=True, help="folder to write")
    parser.add_argument("--to", choices=("webdataset", "lhotse"), required=True, help="format")
    parser.add_argument("--where", metavar="CONDITION", help="write only such rows, for example 'snr > 15'")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    from speechtok.corpus.exports import EXPORTS
    from speechtok.corpus.reader import Corpus

    count = EXPORTS[args.to](Corpus(args.path, args.where), args.out)
    print(f"{args.out}: {count} utterances")
    return 0


def _add_bpe(commands: Commands) -> None:
    text = "learn units of several semantic codes, for AudioVocabulary"
    parser = commands.add_parser("bpe", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("path", metavar="DIR", type=non_empty, help="folder of a corpus, or one of its shards")
    parser.add_argument("-o", "--out", metavar="FILE", type=non_empty, required=True, help="JSON file to write")
    parser.add_argument("--size", type=int, default=8_192, metavar="N", help="ids of codes and units (default: 8192)")
    parser.add_argument("--max-frames", type=int, default=25, metavar="N", help="longest unit, in frames (default: 25)")
    parser.add_argument("--where", metavar="CONDITION", help="learn from such rows only, for example 'snr > 15'")
    parser.set_defaults(run=_bpe)


def _bpe(args: argparse.Namespace) -> int:
    from speechtok.corpus import bpe
    from speechtok.corpus.reader import Corpus
    from speechtok.files import replacing

    corpus = Corpus(args.path, args.where)
    codes = corpus.format
    pattern = bpe.train_bpe(bpe.semantic_rows(corpus), codes.codebook_size, args.size, args.max_frames)
    with replacing(args.out) as file:
        file.write(json.dumps({"pattern": pattern.to_dict(), "fingerprint": codes.fingerprint}).encode())
    rates = bpe.measure(pattern, bpe.semantic_rows(corpus), codes.frame_rate)
    units = len(pattern.units(codes.codebook_size))
    print(f"{args.out}: {units} units; {rates.units:.1f} ids a second, and {rates.codes:g} codes a second")
    return 0


def _add_compress(commands: Commands) -> None:
    text = "entropy code the codes of a corpus, or write them in another way"
    parser = commands.add_parser("compress", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("path", metavar="DIR", type=non_empty, help="folder of a corpus")
    parser.add_argument("-o", "--out", metavar="OUT", type=non_empty, required=True, help="folder of the new corpus")
    parser.add_argument("--codes", choices=("uint16", "packed", "entropy"), default="entropy", help="default: entropy")
    parser.add_argument(
        "--train", action="store_true", help="train a model on this corpus, in place of that of the package"
    )
    parser.set_defaults(run=_compress)


def _compress(args: argparse.Namespace) -> int:
    from speechtok.corpus.recode import recode

    before, after = recode(args.path, args.out, args.codes, args.train)
    saved = 1 - after / max(before, 1)
    print(f"{args.out}: {after / 1e6:.1f} MB of codes, {saved:.1%} below {before / 1e6:.1f} MB packed")
    return 0
