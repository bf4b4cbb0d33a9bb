"""What a cascade of recogniser, text model and synthesiser takes, from parts that are measured here."""

import shlex
import subprocess
import time
from collections.abc import Callable

import numpy as np

from benchmarks.latency.client import speech_samples
from benchmarks.latency.waterfall import Part, Waterfall
from benchmarks.metrics.recognisers import load_recogniser
from speechtok.errors import InputError

QUESTION_SECONDS = 2.0
SENTENCE = "We leave at nine o'clock tomorrow morning."
TRIES = 3


def cascade(recogniser: str, synthesiser: str | None, timer: float, prefill: float) -> Waterfall:
    """Measure the parts.

    Args:
        recogniser: see :func:`~benchmarks.metrics.recognisers.load_recogniser`.
        synthesiser: command that reads a text and writes audio; without it, synthesis takes no time.
        timer: silence after which the turn counts as ended, in seconds.
        prefill: of the model, in seconds.
    """
    parts = [Part(f"end-of-turn wait: silence of {1e3 * timer:.0f} ms", [timer] * TRIES)]
    parts.append(Part(f"recogniser: {recogniser.partition(':')[0]}", _recognise(recogniser)))
    parts.append(Part("model: first words", [prefill] * TRIES))
    if synthesiser:
        parts.append(Part(f"synthesiser: {shlex.split(synthesiser)[0]}", _synthesise(synthesiser)))
    return Waterfall("cascade", parts)


def _recognise(name: str) -> list[float]:
    recognise = load_recogniser(name)
    question = speech_samples(QUESTION_SECONDS).astype(np.float32) / 32_768
    recognise(question, "en")  # the first call loads
    return [_time(lambda: recognise(question, "en")) for _ in range(TRIES)]


def _synthesise(command: str) -> list[float]:
    def run() -> None:
        try:
            subprocess.run(shlex.split(command), input=SENTENCE.encode(), stdout=subprocess.DEVNULL, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InputError(
                f"the synthesiser cannot be run ({error}); expected a command such as espeak-ng"
            ) from error

    run()
    return [_time(run) for _ in range(TRIES)]


def _time(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
