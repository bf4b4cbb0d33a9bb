"""Linguistic content of the codes of a tokenizer.

``python -m benchmarks.semantics --data DIR/test.jsonl`` prints two Markdown tables. It needs phones in the manifest,
and the ``bench`` extra. With ``--out DIR``, the tables are also written to ``semantics.md`` and ``semantics.json``; a
later ``benchmarks.reconstruction --out DIR`` includes them in its report.

The first table shows how well the codes of each codebook predict phones (PNMI, phone purity and cluster purity). A
frame is labelled with the phone at its centre. The codes of a tokenizer whose decoder has a lookahead are compared with
the phones of an earlier frame; ``--delay`` overrides the number of frames, and the row "without delay" uses none.
Silence and the fillers of the aligner (``+NOISE+`` and others) are one phone, which the second column leaves out.
Frames outside the alignment are not counted.

The references are k-means with as many clusters as a codebook has entries, fitted to ``train.jsonl`` in the folder of
the manifest: on 39 MFCCs with deltas, and with ``--teacher`` also on the features of a teacher. Chance is codebook 0
with its frames shuffled. It grows as the number of frames falls.

The second table describes codebook 0 as a sequence of discrete units: the ABX error rate of phones within and across
speakers (dynamic time warping; the distance of two frames is the angle between the vectors of their units), units per
phone (runs of one code), the accuracy of a linear speaker probe for codebook 0 and for all codebooks, and the
perplexity of a trigram model trained on ``train.jsonl``, with repetitions removed, also in bits per second of speech.
Continuous features have ABX error rates too: the sum of the vectors of all codebooks, and those of the teacher.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

import speechtok
from benchmarks.data import read_utterances
from benchmarks.metrics.load import version
from benchmarks.report.data import nan_to_none
from benchmarks.report.write import SEMANTICS, write_file
from benchmarks.semantics.labellers import (
    code_delay,
    code_labeller,
    code_vectors,
    fit_clusters,
    label_clusters,
    latent_features,
    teacher_features,
    training_labels,
)
from benchmarks.semantics.labelling import AlignedUtterances
from benchmarks.semantics.phone_scores import codebook_scores, phone_table, score
from benchmarks.semantics.unit_scores import abx_scores, unit_scores, unit_table
from benchmarks.speaker_probe import probe_speakers
from speechtok.errors import InputError, SpeechtokError
from training.manifest import read_manifest
from training.teachers import AVERAGE, Layer, load_teacher


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.semantics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, help="manifest with phones, with train.jsonl in the same folder")
    parser.add_argument("--model", help="tokenizer (default: the default tokenizer)")
    parser.add_argument("--teacher", metavar="SPEC", help="also cluster the features of this teacher")
    parser.add_argument("--layer", default=AVERAGE, help="of the teacher, from 1; average (default); or phones")
    parser.add_argument("--delay", type=int, help="delay of the codes, in frames (default: the decoder's lookahead)")
    parser.add_argument("--out", type=Path, help="folder for semantics.md and semantics.json")
    arguments = parser.parse_args(argv)
    command = shlex.join(["python", "-m", "benchmarks.semantics", *(sys.argv[1:] if argv is None else argv)])
    try:
        failures = _measure(arguments, command)
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, reason in failures.items():
        print(f"failed: {path}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _measure(arguments: argparse.Namespace, command: str) -> dict[Path, str]:
    """Measure, print and write both tables. Returns the files that failed, with error messages."""
    layer: Layer = int(arguments.layer) if arguments.layer.isdecimal() else arguments.layer
    path = Path(arguments.data)
    manifest = path / "test.jsonl" if path.is_dir() else path
    tokenizer = speechtok.load(arguments.model)
    aligned = AlignedUtterances(read_utterances(manifest), tokenizer.hop_length, tokenizer.sample_rate)
    if not len(aligned):
        raise InputError(f"--data is {arguments.data!r}, whose utterances have no 'phones'; expected alignments")
    train = read_manifest(manifest.parent / "train.jsonl")
    teachers = {"MFCC": load_teacher("mfcc")}
    if arguments.teacher:
        teachers[f"{arguments.teacher}, layer {layer}"] = load_teacher(arguments.teacher, layer)

    size, labeller = tokenizer.codebook_size, code_labeller(tokenizer)
    delay = code_delay(tokenizer) if arguments.delay is None else arguments.delay
    codes = aligned.label(labeller, "codes", delay)
    phones = codebook_scores(codes, aligned.silence, delay)
    learned = [grid[0].numpy() for grid in training_labels(labeller, aligned, train, "codes for the n-gram model")]
    units = [unit_scores("codebook 0", codes, aligned.silence, learned, size, code_vectors(tokenizer))]
    latent = latent_features(tokenizer)
    summed = aligned.label(latent, "vectors", delay)
    continuous = {"sum of the vectors of all codebooks": abx_scores(summed, aligned.silence, latent.vectors)}
    probe = probe_speakers(codes.labels, codes.speakers, size)
    for teacher_name, teacher in teachers.items():
        name = f"k-means ({size}) on {teacher_name}"
        centroids, learned = fit_clusters(name, teacher, aligned, train, size)
        features = teacher_features(teacher)
        frames_of = aligned.label(features, name)
        continuous[f"features of {teacher_name}"] = abx_scores(frames_of, aligned.silence, features.vectors)
        labelled = label_clusters(frames_of, features.vectors, centroids)
        clusters, spoken = labelled.joined
        phones.append(score(name, clusters[0], spoken, aligned.silence))
        units.append(unit_scores(name, labelled, aligned.silence, learned, size, centroids.numpy()))

    frames = f"{delay} frame" if delay == 1 else f"{delay} frames"
    speakers = (
        f"The speaker probe distinguishes {probe.speakers} speakers."
        if probe
        else "No speaker probe: the manifest lacks two speakers with 5 utterances each."
    )
    text = (
        f"Tokenizer {tokenizer.fingerprint}, {len(aligned) - len(aligned.failures)} utterances, "
        f"{phones[0].all.frames} aligned frames, {phones[0].spoken.frames} of them not silent. Codes are compared with "
        f"the phones {frames} earlier.\n\n{phone_table(phones)}\n\n{unit_table(units, continuous, probe)}\n\n"
        f"{speakers}\n"
    )
    print(text)
    if arguments.out:
        found = {
            "command": command,
            "fingerprint": tokenizer.fingerprint,
            "delay": delay,
            "versions": {"torch": torch.__version__, "speechtok": version("speechtok")},
            "failures": {str(path): reason for path, reason in aligned.failures.items()},
            "labels": [asdict(row) for row in phones],
            "features": {name: {"abx_within": w, "abx_across": a} for name, (w, a) in continuous.items()},
            "units": [asdict(row) for row in units],
            "probe": asdict(probe) if probe else None,
        }
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = json.dumps(nan_to_none(found), indent=1, allow_nan=False)
        write_file(arguments.out / "semantics.json", content.encode())
        write_file(arguments.out / SEMANTICS, f"{text}\n`{command}`\n".encode())
    return aligned.failures


if __name__ == "__main__":
    sys.exit(main())
