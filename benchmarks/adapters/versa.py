r"""Files for VERSA: originals, decoded audio, their lists, transcripts and a configuration.

``python -m benchmarks.adapters.versa --data DIR --codec speechtok:8 --out versa/`` writes ``gt.scp`` and ``pred.scp``
(one line ``id path`` each), ``text`` (if there are transcripts), ``versa.yaml`` and the audio. Then::

    versa-score --score_config versa/versa.yaml --gt versa/gt.scp --pred versa/pred.scp \
        --text versa/text --io soundfile --output_file versa/scores.jsonl

Audio is at 16 kHz, and the delay of the codec is removed, as in :mod:`benchmarks.reconstruction`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

import speechtok
from benchmarks.arguments import integer_from, one_line_errors
from benchmarks.codecs.load import CODECS, load_codec
from benchmarks.data import read_utterances
from benchmarks.evaluation.delay import measure_delays, remove_delay
from benchmarks.evaluation.reconstruct import reconstruct
from benchmarks.metrics.speech import SAMPLE_RATE
from benchmarks.report.write import write_file
from speechtok.errors import InputError, SpeechtokError
from speechtok.resampling import resample

CONFIGURATION = """\
- name: mcd_f0
  f0min: 40
  f0max: 800
  mcep_shift: 5
  mcep_fftl: 1024
  mcep_dim: 39
  mcep_alpha: 0.466
  seq_mismatch_tolerance: 0.1
  power_threshold: -20
  dtw: false
- name: signal_metric
- name: pesq
- name: stoi
- name: pseudo_mos
  predictor_types: ["utmos", "dnsmos"]
- name: speaker
"""

RECOGNITION = """\
- name: whisper_wer
  model_tag: default
  beam_size: 1
  text_cleaner: whisper_basic
"""


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="manifest, folder with test.jsonl, or folder of audio")
    parser.add_argument("--codec", default="speechtok:8", metavar="SPEC", help=f"{', '.join(CODECS)} (speechtok:8)")
    parser.add_argument("--limit", type=integer_from(1), help="number of utterances, from the first (all)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    arguments = parser.parse_args(argv)
    utterances = read_utterances(arguments.data)[: arguments.limit]
    codec = load_codec(arguments.codec)
    delay = measure_delays({arguments.codec: codec}, utterances)[arguments.codec]
    lists: dict[str, list[str]] = {"gt": [], "pred": []}
    texts, failures = [], {}
    for number, utterance in enumerate(tqdm(utterances, desc="decoding", unit="file")):
        key = f"{number:06d}-{''.join(c if c.isalnum() or c in '-_.' else '_' for c in utterance.id)[-60:]}"
        try:
            waveform, rate = speechtok.read_audio(utterance.audio)
            decoded = reconstruct(codec, waveform, rate).waveform
        except (SpeechtokError, OSError, RuntimeError) as error:
            failures[utterance.audio] = error
            continue
        original = resample(waveform[None], rate, SAMPLE_RATE)[0]
        pair: dict[str, Tensor] = dict(zip(lists, remove_delay(original, decoded, delay), strict=True))
        for name, audio in pair.items():
            path = arguments.out / name / f"{key}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            speechtok.write_audio(path, audio, SAMPLE_RATE)
            lists[name].append(f"{key} {path.resolve()}")
        if utterance.text:
            texts.append(f"{key} {' '.join(utterance.text.split())}")
    if not lists["pred"]:
        raise InputError(f"none of {len(utterances)} utterances could be decoded; expected at least one")
    for name, lines in lists.items():
        write_file(arguments.out / f"{name}.scp", ("\n".join(lines) + "\n").encode())
    complete = len(texts) == len(lists["pred"])  # VERSA needs a transcript of every utterance
    if complete:
        write_file(arguments.out / "text", ("\n".join(texts) + "\n").encode())
    write_file(arguments.out / "versa.yaml", (CONFIGURATION + (RECOGNITION if complete else "")).encode())
    for failed, reason in failures.items():
        print(f"failed: {failed}: {reason}", file=sys.stderr)
    print(f"{len(lists['pred'])} utterances in {arguments.out}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
