"""Extract the features of a teacher: ``python -m training.teachers --teacher SPEC --data DIR --out DIR``.

An interrupted extraction continues when the same command is run again. After files were added or replaced, the same
command extracts only those.

Teachers:
  mfcc                39 mel-frequency cepstral coefficients and deltas: a baseline
  own:DIR             a teacher that python -m training.teachers.pretrain trained
  torchaudio:BUNDLE   a bundle of torchaudio.pipelines, such as HUBERT_BASE or WAVLM_LARGE
  transformers:NAME   HuBERT, WavLM, wav2vec 2.0 or Whisper: a directory, or a name on the Hugging Face hub
  fairseq2:CARD       wav2vec 2.0 or w2v-BERT: the name of a fairseq2 asset card
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from speechtok.errors import SpeechtokError
from training.teachers.extraction import extract
from training.teachers.loaders import load_teacher
from training.teachers.teacher import AVERAGE, Layer


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.teachers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", required=True, metavar="SPEC", help="see above")
    parser.add_argument("--layer", default=AVERAGE, help="layer counted from 1, average (default), or phones")
    parser.add_argument("--data", required=True, help="manifest, folder with train.jsonl, or folder of audio")
    parser.add_argument("--out", required=True, type=Path, help="folder for the features")
    parser.add_argument("--device", default="cpu", help="device on which the teacher computes (default: cpu)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 (default) computes in this one")
    parser.add_argument(
        "--aligned",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="with --layer phones: share of the manifest's phones in the labels, 0 (default) to 1",
    )
    arguments = parser.parse_args(argv)
    layer: Layer = int(arguments.layer) if arguments.layer.isdecimal() else arguments.layer
    try:
        count, skipped = extract(
            load_teacher(arguments.teacher, layer),
            arguments.teacher,
            arguments.data,
            arguments.out,
            arguments.device,
            arguments.aligned,
            arguments.workers,
        )
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if skipped:
        print(f"skipped {len(skipped)} files that cannot be read, such as {skipped[0]}")
    print(f"{arguments.out} has the features of {count} utterances")
    return 0


if __name__ == "__main__":
    sys.exit(main())
