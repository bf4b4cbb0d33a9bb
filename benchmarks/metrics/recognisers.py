"""Speech recognisers for word and character error rates."""

import functools
import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.metrics.speech import SAMPLE_RATE
from speechtok.errors import InputError, quoted

EXPECTED = "expected pocketsphinx or whisper:SOURCE, such as whisper:openai/whisper-base or whisper:DIR"

MODULES = {"pocketsphinx": ("pocketsphinx",), "whisper": ("transformers",)}
"""Import names of the modules that each kind of recogniser needs."""


class Recogniser(Protocol):
    """Transcribes ``(S,)`` at 16 kHz."""

    def understands(self, lang: str | None) -> bool:
        """Whether the recogniser knows a language, such as ``"en"``; ``None`` is an unknown language."""
        ...

    def __call__(self, waveform: np.ndarray, lang: str | None) -> str:
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

    def understands(self, lang: str | None) -> bool:
        """Only English."""
        return lang == "en"

    def __call__(self, waveform: np.ndarray, lang: str | None) -> str:
        """Transcribe ``(S,)``."""
        self.decoder.reinit_feat()  # it adapts to earlier audio; without this, results would depend on the order
        self.decoder.start_utt()
        self.decoder.process_raw((waveform * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis else ""


class Whisper:
    """Whisper (Radford et al. 2022), as transformers implements it, in float32, without sampling.

    Args:
        source: local directory, or name on the Hugging Face hub.
    """

    MAX_SECONDS = 30
    """Longest audio that the model sees at once; longer audio is cut."""

    def __init__(self, source: str) -> None:
        import transformers

        try:
            self.model: Any = transformers.WhisperForConditionalGeneration.from_pretrained(source).eval()
            self.processor: Any = transformers.WhisperProcessor.from_pretrained(source)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"recogniser {quoted(source)} cannot be loaded by transformers ({error}); expected a directory or a "
                "model on the hub"
            ) from error
        config = self.model.generation_config
        self.languages = {token.strip("<|>") for token in getattr(config, "lang_to_id", None) or {}}
        # else transformers warns at each call that the model has other defaults than the library
        names = ("suppress_tokens", "begin_suppress_tokens")
        self._suppressed = {name: getattr(config, name) for name in names}
        config.update(**dict.fromkeys(names))

    def understands(self, lang: str | None) -> bool:
        """All languages of the model; an unknown language is detected by a multilingual model."""
        return lang in self.languages or lang is None if self.languages else lang == "en"

    def __call__(self, waveform: np.ndarray, lang: str | None) -> str:
        """Transcribe ``(S,)``."""
        import torch

        length = self.MAX_SECONDS * SAMPLE_RATE
        pieces = [waveform[start : start + length] for start in range(0, max(len(waveform), 1), length)]
        options = {"language": lang, "task": "transcribe"} if self.languages else {}
        found = []
        for piece in pieces:
            inputs = self.processor(piece, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True)
            with torch.inference_mode():
                ids = self.model.generate(
                    inputs.input_features,
                    attention_mask=inputs.attention_mask,
                    **self._suppressed,
                    num_beams=1,
                    do_sample=False,
                    **options,
                )
            found.append(str(self.processor.batch_decode(ids, skip_special_tokens=True)[0]).strip())
        return " ".join(found)


@functools.cache
def load_recogniser(name: str) -> Recogniser:
    """Load ``pocketsphinx`` or ``whisper:SOURCE``.

    Raises:
        InputError: the name is neither, or the recogniser cannot be loaded.
    """
    kind, source = split_name(name)
    return Whisper(source) if kind == "whisper" else Pocketsphinx()


def split_name(name: str) -> tuple[str, str]:
    """Kind and source of a recogniser.

    Raises:
        InputError: the name is not that of a recogniser.
    """
    kind, _, source = name.partition(":")
    if kind not in MODULES or bool(source) != (kind == "whisper"):
        raise InputError(f"recogniser is {quoted(name)}; {EXPECTED}")
    return kind, source


def describe(name: str) -> str:
    """A name without the folders of a local source: ``whisper:/models/whisper-base`` is ``whisper-base``."""
    kind, source = split_name(name)
    return Path(source).name if source else kind


def identity(name: str) -> list[Any]:
    """Plain values that change when a recogniser changes: its name, and the files of a local folder."""
    _, source = split_name(name)
    folder = Path(source)
    files = sorted(folder.iterdir()) if source and folder.is_dir() else []
    return [name, *([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files)]
