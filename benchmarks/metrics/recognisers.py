"""Speech recognisers for the word error rate."""

import functools
import importlib
from typing import Any, Protocol

import numpy as np

from benchmarks.metrics.speech import SAMPLE_RATE
from speechtok.errors import InputError


class Recogniser(Protocol):
    """Transcribes ``(S,)`` at 16 kHz."""

    def __call__(self, waveform: np.ndarray) -> str:
        """The words, separated by spaces."""
        ...


class Pocketsphinx:
    """CMU PocketSphinx with its bundled English models: works offline and gives the same result everywhere."""

    def __init__(self) -> None:
        pocketsphinx: Any = importlib.import_module("pocketsphinx")
        # beams narrower than the defaults: several times as fast, with the same ranking of codecs
        self.decoder: Any = pocketsphinx.Decoder(
            samprate=SAMPLE_RATE, loglevel="FATAL", maxhmmpf=3000, maxwpf=10, ds=2, topn=2
        )

    def __call__(self, waveform: np.ndarray) -> str:
        """Transcribe ``(S,)``."""
        self.decoder.reinit_feat()  # it adapts to earlier audio; without this, results would depend on the order
        self.decoder.start_utt()
        self.decoder.process_raw((waveform * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis else ""


class Whisper:
    """Whisper, as transformers implements it.

    Args:
        source: local directory, or name on the Hugging Face hub.
    """

    def __init__(self, source: str) -> None:
        from transformers import pipeline

        try:
            self.pipeline: Any = pipeline("automatic-speech-recognition", model=source, device="cpu")
        except (OSError, ValueError) as error:
            raise InputError(
                f"recogniser {source[:80]!r} cannot be loaded by transformers ({error}); expected a directory or a "
                "model on the hub"
            ) from error

    def __call__(self, waveform: np.ndarray) -> str:
        """Transcribe ``(S,)``."""
        return str(self.pipeline({"raw": waveform, "sampling_rate": SAMPLE_RATE}, return_timestamps=True)["text"])


@functools.cache
def load_recogniser(name: str) -> Recogniser:
    """Load ``pocketsphinx`` or ``whisper:NAME``.

    Raises:
        InputError: the name is neither, or the recogniser cannot be loaded.
    """
    if name == "pocketsphinx":
        return Pocketsphinx()
    if name.startswith("whisper:"):
        return Whisper(name.removeprefix("whisper:"))
    raise InputError(
        f"recogniser is {name[:80]!r}; expected pocketsphinx or whisper:NAME, such as whisper:openai/whisper-base.en"
    )
