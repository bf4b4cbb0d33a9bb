"""The page of a listening test, and its key."""

import base64
import io
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
from torch import Tensor

from benchmarks.codecs.load import load_codec
from benchmarks.evaluation.delay import measure_delays
from benchmarks.metrics.speech import SAMPLE_RATE
from benchmarks.report.examples import make_examples
from benchmarks.report.write import write_file
from speechtok.errors import InputError
from training.manifest import Utterance

FORMAT = 1
"""Version of the key and of the results."""

REFERENCE, ANCHOR = "reference", "lowpass:3500"

MAX_STIMULI = 12
"""BS.1534-3 allows so many versions in a trial, the hidden reference and the anchor included."""

PAGE = Path(__file__).with_name("page.html")


def make_test(utterances: Sequence[Utterance], specs: Sequence[str], count: int, folder: Path) -> None:
    """Write ``index.html`` and ``key.json``.

    Args:
        utterances: from which ``count`` are taken, spread evenly.
        specs: codecs to compare.
        count: number of trials.
        folder: where to write.

    Raises:
        InputError: there are too many codecs, or one of them fails.
    """
    specs = list(dict.fromkeys(specs))
    if not 1 <= len(specs) <= MAX_STIMULI - 2:
        raise InputError(f"got {len(specs)} codecs; expected 1 to {MAX_STIMULI - 2}, beside reference and anchor")
    codecs = {spec: load_codec(spec) for spec in [*specs, ANCHOR]}
    examples = make_examples(utterances, codecs, measure_delays(codecs, utterances), count)
    if not examples:
        raise InputError(f"none of {len(utterances)} utterances can be read; expected at least one")
    trials, key = [], {}
    for number, example in enumerate(examples):
        (_, original), *decoded = example.waveforms
        missing = codecs.keys() - {spec for spec, _ in decoded}
        if missing:
            raise InputError(f"{', '.join(sorted(missing))} failed on {example.caption[:80]}; leave the codec out")
        stimuli = []
        for spec, waveform in [(REFERENCE, original), *decoded]:
            name = secrets.token_hex(8)  # says nothing about the codec
            key[name] = spec
            stimuli.append({"id": name, "audio": _data_url(waveform)})
        stimuli.sort(key=lambda stimulus: stimulus["id"])
        trials.append({"id": f"trial-{number + 1}", "reference": _data_url(original), "stimuli": stimuli})
    test: dict[str, Any] = {"id": secrets.token_hex(8), "trials": trials}
    folder.mkdir(parents=True, exist_ok=True)
    # "<" could end the script element
    page = PAGE.read_text(encoding="utf-8").replace("/*TEST*/", json.dumps(test).replace("<", "\\u003c"))
    write_file(folder / "index.html", page.encode())
    content = {
        "format": FORMAT,
        "test": test["id"],
        "stimuli": key,
        "trials": {trial["id"]: example.caption for trial, example in zip(trials, examples, strict=True)},
    }
    write_file(folder / "key.json", json.dumps(content, indent=1).encode())


def _data_url(waveform: Tensor) -> str:
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()
