from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.codecs.load import load_codec
from benchmarks.evaluation.scoring import Result
from benchmarks.metrics.load import RECOGNITION, load_metrics
from benchmarks.report.data import Report, build_report
from training.manifest import Utterance


def make_report(gain: float = 0.0, recognition: bool = False) -> Report:
    utterances = [
        Utterance(Path(f"{i}.wav"), f"u{i}", lang="de" if i % 4 == 0 else "en", speaker=f"s{i % 3}") for i in range(12)
    ]
    codecs = {"identity": load_codec("identity"), "lowpass": load_codec("lowpass")}
    recognisers = ["whisper:/models/base"] if recognition else []
    metrics = load_metrics(["pesq", "mel", *(RECOGNITION if recognition else ())], recognisers)
    results = []
    for i, utterance in enumerate(utterances):
        scores = {"pesq": (2.0 + 0.1 * (i % 5) + gain, 1.0), "mel": (float("nan") if i == 3 else 5.0, 1.0)}
        if recognition:
            scores |= {"wer": (0.4, 5.0), "wer_gap": (0.0, 5.0), "cer": (0.2, 20.0), "cer_gap": (0.0, 20.0)}
        results.append(Result(utterance.id, "identity", 2.0, 512.0 * 1000, scores, [[0, 1], [2, 2]]))
        failed = Result(utterance.id, "lowpass", failure="<b>|broken|</b>")
        results.append(failed if i == 0 else Result(utterance.id, "lowpass", 2.0, 1000.0, scores))
    delays = {"identity": 0, "lowpass": 32}
    absent = {"nosuch": "unknown"}, {"wer": "absent"}
    return build_report("python -m x", utterances, results, codecs, metrics, delays, *absent, recognisers)


@pytest.fixture
def new_report() -> Callable[..., Report]:
    """``new_report(gain=0.0)``: a report on 12 utterances whose PESQ is ``gain`` higher; errors too if asked."""
    return make_report


@pytest.fixture
def report() -> Report:
    return make_report()
