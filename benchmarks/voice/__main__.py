"""Measure a voice model on voices that it has not heard in training.

``python -m benchmarks.voice --data DIR --voice-model FILE --out report/`` prints Markdown tables, and writes
``voice.md``, ``results.json``, ``voice.html`` and audio. After an interruption, the same command continues where it
stopped.

| part | content |
|---|---|
| resynthesis | utterances from their codebook 0 and 3 s of another one of the speaker: voice, pitch, words, quality |
| conversion | utterances in other voices of the manifest |
| style | each step of each quantity: what is asked for and what is measured in the result |
| speed | CPU time, and the time from the first semantic code to the first audio |
| ablation | some utterances with other steps, guidance, temperature and length of the prompt; with --ablate |

The manifest decides which voices are unseen: pass one without speakers of the training data, or --speakers. It needs
speakers with at least 3 utterances; genders for the wrong prompts, and texts for the word errors, are of use. Needs the
``bench`` extra.
"""

import argparse
import dataclasses
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import integer_from, one_line_errors, positive
from benchmarks.data import read_utterances
from benchmarks.evaluation.evaluate import usable_metrics
from benchmarks.evaluation.scoring import Result
from benchmarks.metrics.load import version, versions
from benchmarks.report.data import machine, nan_to_none
from benchmarks.report.examples import Example
from benchmarks.report.page import blocks, document, listen
from benchmarks.report.write import write_file
from benchmarks.voice import summary
from benchmarks.voice.cases import (
    MIN_UTTERANCES,
    Case,
    Speakers,
    Voice,
    choose_voices,
    gender_of,
    group_speakers,
    make_cases,
)
from benchmarks.voice.examples import make_ablation_example, make_example, write_audio
from benchmarks.voice.measures import METRICS, settings
from benchmarks.voice.speed import measure_speed
from benchmarks.voice.tables import TITLE, markdown, sections
from benchmarks.voice.tasks import Bench, Part, Settings, Task, identify, make_bench, measure_all
from speechtok.errors import InputError
from speechtok.voice.generation import Sampling

PARTS = ("resynthesis", "conversion", "style", "speed")

_SPEED_CASES = 8
_FORMAT = 1


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    arguments = _parser().parse_args(argv)
    chosen = Settings(
        arguments.tokenizer,
        arguments.voice_model,
        tuple(dict.fromkeys(arguments.recogniser or ("pocketsphinx",))),
        sampling=Sampling(arguments.steps, arguments.guidance, arguments.style_guidance, arguments.temperature),
        seed=arguments.seed,
    )
    speakers = group_speakers(read_utterances(arguments.data), arguments.speakers)
    _, absent = usable_metrics(METRICS, chosen.recognisers)
    for name, reason in absent.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    chosen = dataclasses.replace(chosen, absent=tuple(absent))
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = make_bench(chosen)
    found = measure(arguments, speakers, bench, chosen)
    if "conversion" in (arguments.measure or PARTS) and "conversion" not in found:
        absent["conversion"] = "there is one speaker; expected at least two"
    found["absent"] = absent
    found["command"] = shlex.join(["python", "-m", "benchmarks.voice", *(sys.argv[1:] if argv is None else argv)])
    text = markdown(found)
    write_file(
        arguments.out / "results.json", json.dumps(nan_to_none(_plain(found)), indent=1, allow_nan=False).encode()
    )
    write_file(arguments.out / "voice.md", text.encode())
    print(text)
    examples = make_examples(arguments, speakers, bench)
    if examples:
        write_audio(arguments.out / "audio", examples)
    body = [f"<h1>{TITLE}</h1>", *(["<h2>Listen</h2>", *listen(examples)] if examples else [])]
    body += [f"<h2>{heading}</h2>\n{blocks(part)}" for heading, part in sections(found)]
    write_file(arguments.out / "voice.html", document(TITLE, body).encode())
    for name, reason in found["failures"].items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if absent or found["failures"] else 0


def measure(arguments: argparse.Namespace, speakers: Speakers, bench: Bench, chosen: Settings) -> dict[str, Any]:
    """All results."""
    cases = make_cases(speakers, arguments.limit)
    parts = arguments.measure or PARTS
    tasks = plan(arguments, parts, cases, choose_voices(speakers, arguments.voices))
    identities = identify(bench.studio.tokenizer, bench.studio.model)
    results = measure_all(tasks, bench, chosen, identities, arguments.out / "results.jsonl", arguments.workers)
    by_part: dict[str, list[Result]] = {}
    for task, result in zip(tasks, results, strict=True):
        by_part.setdefault(task.part, []).append(result)
    names = {case.source.id: case.voice.speaker for case in cases}
    found: dict[str, Any] = {
        "format": _FORMAT,
        "machine": machine(),
        "versions": {
            "speechtok": version("speechtok"),
            "Python": platform.python_version(),
            "PyTorch": torch.__version__,
            "NumPy": np.__version__,
            **versions(bench.metrics),
        },
        "tokenizer": " ".join(identities[:2]),
        "voice_model": identities[2],
        "parameters": sum(parameter.numel() for parameter in bench.studio.model.network.parameters()),
        "sampling": dataclasses.asdict(chosen.sampling),
        "seed": chosen.seed,
        "counts": {
            "utterances": len(cases),
            "speakers": len({case.voice.speaker for case in cases}),
            "left_out": speakers.left_out,
            "needed": MIN_UTTERANCES,
            "unnamed": speakers.unnamed,
            "without_gender": sum(gender_of(group) is None for group in speakers.utterances.values()),
        },
        "failures": {f"{r.codec}: {r.utterance}": r.failure for r in results if r.failure is not None},
    }
    for part, rows in by_part.items():
        scores = summary.Scores(rows, names)
        if not scores.results:
            raise InputError(f"{part} failed for all of {len(rows)} utterances, the first time: {rows[0].failure}")
        if part == "ablation":
            found[part] = summary.ablation(scores, settings(chosen.sampling))
        else:
            found[part] = getattr(summary, part)(scores)
    if "speed" in parts:
        found["speed"] = measure_speed(bench.studio, cases[:_SPEED_CASES])
    found["targets"] = summary.targets(found)
    return found


def plan(arguments: argparse.Namespace, parts: Sequence[str], cases: list[Case], voices: list[Voice]) -> list[Task]:
    """What is to be measured."""
    counts: dict[Part, int] = {
        "resynthesis": len(cases),
        "conversion": arguments.conversions,
        "style": arguments.styles,
        "ablation": arguments.ablations,
    }
    if len(voices) < 2:
        counts["conversion"] = 0
    return [
        Task(part, case, index < arguments.slow, tuple(voices) if part == "conversion" else ())
        for part, count in counts.items()
        if part in parts or (part == "ablation" and arguments.ablate)
        for index, case in enumerate(cases[:count])
    ]


def make_examples(arguments: argparse.Namespace, speakers: Speakers, bench: Bench) -> list[Example]:
    """Utterances to listen to; a case that fails was reported before."""
    cases = make_cases(speakers, arguments.limit)[: arguments.examples]
    voices = choose_voices(speakers, 2)
    examples = []
    for case in cases:
        try:
            examples.append(make_example(bench.studio, case, voices))
        except Exception as error:  # a case that fails here has failed in the measurements, too
            print(f"no example: {case.source.id}: {error}", file=sys.stderr)
    if arguments.ablate and examples:
        examples.append(make_ablation_example(bench.studio, cases[0]))
    return examples


def _plain(value: Any) -> Any:
    """Results as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _parser() -> argparse.ArgumentParser:
    default = Sampling()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.voice",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="manifest, or folder with test.jsonl")
    parser.add_argument("--voice-model", metavar="FILE", help="voice model (default: the one of the package)")
    parser.add_argument("--tokenizer", metavar="DIR", default="", help="its tokenizer (default: the default one)")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables, results and audio")
    parser.add_argument(
        "--recogniser",
        action="append",
        metavar="NAME",
        help="pocketsphinx (default) or whisper:SOURCE; a second one is a second opinion",
    )
    parser.add_argument("--measure", action="append", choices=PARTS, help="repeatable (all)")
    parser.add_argument("--ablate", action="store_true", help="measure other settings, too")
    parser.add_argument("--speakers", default="*", metavar="PATTERN", help="names of the speakers, such as 'so762-*'")
    parser.add_argument("--limit", type=integer_from(1), help="utterances to generate again (all)")
    parser.add_argument("--slow", type=integer_from(0), default=100, help="of these, whose words are recognised (100)")
    parser.add_argument("--voices", type=integer_from(2), default=5, help="voices to convert to (5)")
    parser.add_argument("--conversions", type=integer_from(1), default=20, help="utterances to convert (20)")
    parser.add_argument("--styles", type=integer_from(1), default=10, help="utterances to ask for styles (10)")
    parser.add_argument("--ablations", type=integer_from(1), default=8, help="utterances of the ablation (8)")
    parser.add_argument("--examples", type=integer_from(0), default=3, help="utterances to listen to (3)")
    parser.add_argument(
        "--steps", type=integer_from(1), default=default.steps, help=f"of the flow, a power of 2 ({default.steps})"
    )
    parser.add_argument(
        "--guidance", type=positive, default=default.guidance, help=f"by the prompt ({default.guidance})"
    )
    parser.add_argument(
        "--style-guidance",
        type=positive,
        default=default.style_guidance,
        help=f"by the style ({default.style_guidance})",
    )
    parser.add_argument(
        "--temperature", type=positive, default=default.temperature, help=f"of the noise ({default.temperature})"
    )
    parser.add_argument("--seed", type=integer_from(0), default=0, help="of the noise (0)")
    parser.add_argument("--workers", type=integer_from(1), default=1, help="processes (1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
