"""What is measured of a decoded waveform: each metric by a well-kept library where there is one, and named.

A metric takes the original and what a codec made of it, both at 16 kHz, aligned and equally long, and gives a value and
its weight: over many utterances the metric is the weighted mean, so that a word error rate counts words. NaN is a value
that the utterance has not, as the pitch of a whisper; how many utterances have one is part of every result.
"""

import functools
import importlib
import importlib.metadata
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from speechtok.errors import InputError
from speechtok.metrics import intelligibility, pesq_wb, speaker_embedding

RATE = 16_000
"""Hertz at which everything is compared."""
_STOI_RATE = 10_000

Value = tuple[float, float]
"""A value and its weight."""


class Recogniser(Protocol):
    """Tells the words of ``(S,)`` at 16 kHz."""

    def __call__(self, waveform: np.ndarray) -> str:
        """The words, with spaces between."""
        ...


class Speech:
    """One waveform, and what metrics ask of it more than once.

    Args:
        waveform: ``(S,)`` at 16 kHz, in [-1, 1].
        text: that is spoken, if known.
        language: as in ``en``, if known.
    """

    def __init__(self, waveform: Tensor, text: str | None = None, language: str | None = None) -> None:
        self.waveform, self.text, self.language = waveform, text, language
        self._understood: tuple[Speech, tuple[float, float]] | None = None
        self.magnitudes: dict[tuple[int, int], Tensor] = {}

    @functools.cached_property
    def pitch(self) -> np.ndarray:
        """Fundamental frequency every 10 ms in hertz, 0 where unvoiced, by DIO and StoneMask of WORLD (Morise et al.
        2009; Morise, Yokomori and Ozawa 2016), from 60 to 500 Hz; DIO at half the rate, three times as fast.
        """
        pyworld: Any = importlib.import_module("pyworld")
        x = self.waveform.numpy().astype(np.float64)
        f0, times = pyworld.dio(x, RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=10.0, speed=2)
        refined: np.ndarray = pyworld.stonemask(x, f0, times, RATE)
        return refined

    @functools.cached_property
    def at_10_khz(self) -> Tensor:
        """``(S,)`` at 10 kHz, float64, by pystoi: STOI and ESTOI begin with it."""
        utils: Any = importlib.import_module("pystoi.utils")
        return torch.from_numpy(utils.resample_oct(self.waveform.numpy(), _STOI_RATE, RATE))

    def intelligibility(self, original: "Speech") -> tuple[float, float]:
        """STOI and ESTOI against the original."""
        if self._understood is None or self._understood[0] is not original:
            self._understood = original, intelligibility(original.at_10_khz, self.at_10_khz, _STOI_RATE)
        return self._understood[1]

    @functools.cached_property
    def voice(self) -> np.ndarray | None:
        """See :func:`speechtok.metrics.speaker_embedding`."""
        return speaker_embedding(self.waveform, RATE)


@dataclass(frozen=True)
class Metric:
    """One number of a codec.

    Attributes:
        title: in tables, with its unit.
        better: higher or lower.
        digits: after the point, in tables.
        measure: original and decoded to value and weight.
        needs: modules, by import name.
        slow: measured on some of the utterances only.
        about: definition, and where it is from.
    """

    title: str
    better: Literal["higher", "lower"]
    digits: int
    measure: Callable[[Speech, Speech], Value]
    needs: tuple[str, ...]
    about: str
    slow: bool = False

    @functools.cached_property
    def absent(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        for module in self.needs:
            try:
                importlib.import_module(module)
            except ImportError as error:
                return f"needs {module}, which cannot be imported ({error}): pip install speechtok[bench]"
        return None


def _pesq(original: Speech, decoded: Speech) -> Value:
    return pesq_wb(original.waveform, decoded.waveform, RATE), 1.0


def _stoi(original: Speech, decoded: Speech) -> Value:
    return decoded.intelligibility(original)[0], 1.0


def _estoi(original: Speech, decoded: Speech) -> Value:
    return decoded.intelligibility(original)[1], 1.0


SI_SDR_MOST = 100.0
"""Decibels that a perfect copy gets: infinity has no mean."""


def si_sdr(original: Tensor, decoded: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of ``(S,)``, means removed (Le Roux et al. 2019, arXiv
    1811.02508, equation 3); NaN if the original is silent, at most :data:`SI_SDR_MOST` and at least its negative.
    """
    x, y = (z.double() - z.double().mean() for z in (original, decoded))
    energy = float(x @ x)
    if energy <= 1e-12 * len(x):
        return math.nan
    target = (float(y @ x) / energy) * x
    signal, distortion = float(target @ target), float((y - target) @ (y - target))
    if signal == 0.0 or distortion == 0.0:
        return SI_SDR_MOST if signal > distortion else -SI_SDR_MOST
    return min(max(10 * math.log10(signal / distortion), -SI_SDR_MOST), SI_SDR_MOST)


def _si_sdr(original: Speech, decoded: Speech) -> Value:
    return si_sdr(original.waveform, decoded.waveform), 1.0


@functools.cache
def _auraloss() -> tuple[Any, Any]:
    freq: Any = importlib.import_module("auraloss.freq")
    stft = freq.MultiResolutionSTFTLoss(
        fft_sizes=[512, 1024, 2048], hop_sizes=[50, 120, 240], win_lengths=[240, 600, 1200]
    )
    mel = freq.MelSTFTLoss(RATE, fft_size=1024, hop_size=256, win_length=1024, n_mels=80, w_sc=0.0)
    for loss in (*stft.stft_losses, mel):
        loss.stft = functools.partial(_magnitudes, loss)
    return stft, mel


_original: list[Speech] = []
"""Which auraloss compares with at present."""


def _magnitudes(loss: Any, waveform: Tensor) -> tuple[Tensor, None]:
    """As auraloss computes them, without the phases that nothing here asks for, and once for the original."""
    speech = _original[0]
    kept = speech.magnitudes if waveform.data_ptr() == speech.waveform.data_ptr() else {}
    key = loss.fft_size, loss.hop_size
    if key not in kept:
        z = torch.stft(waveform, loss.fft_size, loss.hop_size, loss.win_length, loss.window, return_complex=True)
        kept[key] = torch.sqrt(torch.clamp(z.real**2 + z.imag**2, min=loss.eps))
    return kept[key], None


_LONGEST_PADDING = 1024
"""Samples that the transforms of auraloss reflect at both ends, and an utterance must have."""


def _stft(original: Speech, decoded: Speech) -> Value:
    return _spectral(original, decoded, 0), 1.0


def _mel(original: Speech, decoded: Speech) -> Value:
    return _spectral(original, decoded, 1) * 20 / math.log(10), 1.0


def _spectral(original: Speech, decoded: Speech, which: int) -> float:
    if len(original.waveform) <= _LONGEST_PADDING or not original.waveform.any():
        return math.nan
    _original[:] = [original]
    with torch.no_grad():
        return float(_auraloss()[which](decoded.waveform[None, None], original.waveform[None, None]))


def _f0_correlation(original: Speech, decoded: Speech) -> Value:
    """Correlation of log frequency where both are voiced; 10 frames at least."""
    a, b = original.pitch, decoded.pitch
    both = (a > 0) & (b > 0)
    if both.sum() < 10:
        return math.nan, 1.0
    pair = np.log(a[both]), np.log(b[both])
    if min(np.ptp(part) for part in pair) < 1e-9:
        return math.nan, 1.0
    return float(np.corrcoef(*pair)[0, 1]), 1.0


def _voicing_f1(original: Speech, decoded: Speech) -> Value:
    a, b = original.pitch > 0, decoded.pitch > 0
    return (float(2 * (a & b).sum() / (a.sum() + b.sum())), 1.0) if a.any() else (math.nan, 1.0)


def _speaker(original: Speech, decoded: Speech) -> Value:
    a, b = original.voice, decoded.voice
    return (math.nan, 1.0) if a is None or b is None else (float(a @ b), 1.0)


@functools.cache
def _dnsmos_model() -> Any:
    import onnxruntime

    dnsmos: Any = importlib.import_module("speechmos.dnsmos")
    folder = Path(dnsmos.__file__).parent / "dnsmos_models"
    files = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    model = dnsmos.DNSMOS(*files)
    options = onnxruntime.SessionOptions()  # its own take every core, in every worker
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model.onnx_sess = onnxruntime.InferenceSession(files[0], options)
    model.p808_onnx_sess, model.audio_melspec = _NoOpinion(), lambda audio: np.zeros((1, 1))
    return model


_DNSMOS_WINDOW = 144_160  # samples: 9.01 s


class _NoOpinion:
    """In place of the model of P.808, which nothing here asks for: a tenth of the time."""

    def run(self, *_: object) -> list[list[list[float]]]:
        """As an onnxruntime session."""
        return [[[math.nan]]]


def _dnsmos(original: Speech, decoded: Speech) -> Value:
    if not decoded.waveform.any():
        return math.nan, 1.0
    x = decoded.waveform.numpy().clip(-1, 1)
    # the library doubles what is shorter than its window until it is longer, and hears up to 8 windows of the same loop
    x = np.resize(x, max(len(x), _DNSMOS_WINDOW))
    return float(_dnsmos_model()(x, RATE, False)["ovrl_mos"]), 1.0


class WordErrors:
    """Word error rate of a recogniser, (S + D + I) / N, by jiwer; without case and punctuation.

    Args:
        recognise: the recogniser.
        language: that it knows; utterances of others have no value.
    """

    def __init__(self, recognise: Recogniser, language: str = "en") -> None:
        self.recognise, self.language = recognise, language

    def __call__(self, original: Speech, decoded: Speech) -> Value:
        """Errors a word, and words."""
        jiwer: Any = importlib.import_module("jiwer")
        expected = plain_words(original.text or "")
        if not expected or original.language != self.language:
            return math.nan, 1.0
        heard = plain_words(self.recognise(decoded.waveform.numpy()))
        return float(jiwer.wer(expected, heard)), float(len(expected.split()))


def plain_words(text: str) -> str:
    """Lower case, without punctuation other than apostrophes in words."""
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("’", "'")))


class Pocketsphinx:
    """CMU PocketSphinx with the English models that come with it: offline, and the same everywhere."""

    def __init__(self) -> None:
        pocketsphinx: Any = importlib.import_module("pocketsphinx")
        # narrower beams than its own: several times as fast, for the same comparison of codecs
        self.decoder: Any = pocketsphinx.Decoder(
            samprate=RATE, loglevel="FATAL", maxhmmpf=3000, maxwpf=10, ds=2, topn=2
        )

    def __call__(self, waveform: np.ndarray) -> str:
        """The words."""
        self.decoder.reinit_feat()  # it adapts to what it has heard, noise too, and would depend on the order
        self.decoder.start_utt()
        self.decoder.process_raw((waveform * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis else ""


class Whisper:
    """Whisper of transformers.

    Args:
        source: a local directory, or a name on the hub.
    """

    def __init__(self, source: str) -> None:
        from transformers import pipeline

        try:
            self.pipeline: Any = pipeline("automatic-speech-recognition", model=source, device="cpu")
        except (OSError, ValueError) as error:
            raise InputError(
                f"recogniser {source!r} cannot be loaded by transformers; expected a directory or a model on the hub: "
                f"{error}"
            ) from error

    def __call__(self, waveform: np.ndarray) -> str:
        """The words."""
        return str(self.pipeline({"raw": waveform, "sampling_rate": RATE}, return_timestamps=True)["text"])


@functools.cache
def load_recogniser(name: str) -> Recogniser:
    """``pocketsphinx``, or ``whisper:NAME``.

    Raises:
        InputError: it is neither, or cannot be loaded.
    """
    if name == "pocketsphinx":
        return Pocketsphinx()
    if name.startswith("whisper:"):
        return Whisper(name.removeprefix("whisper:"))
    raise InputError(
        f"recogniser is {name!r}; expected pocketsphinx or whisper:NAME, such as whisper:openai/whisper-base.en"
    )


METRICS: dict[str, Metric] = {
    "pesq": Metric("PESQ-WB", "higher", 3, _pesq, ("pesq",), "ITU-T P.862.2, 1.0 to 4.64; library pesq"),
    "stoi": Metric("STOI", "higher", 4, _stoi, ("pystoi",), "Taal et al. 2011; library pystoi"),
    "estoi": Metric("ESTOI", "higher", 4, _estoi, ("pystoi",), "Jensen and Taal 2016; library pystoi"),
    "si_sdr": Metric("SI-SDR, dB", "higher", 2, _si_sdr, (), f"Le Roux et al. 2019; at most {SI_SDR_MOST:.0f} dB"),
    "mel": Metric(
        "mel distance, dB",
        "lower",
        2,
        _mel,
        ("auraloss", "librosa"),
        "mean absolute difference of log magnitudes in 80 mel bands, windows of 64 ms; library auraloss",
    ),
    "stft": Metric(
        "STFT distance",
        "lower",
        3,
        _stft,
        ("auraloss",),
        "spectral convergence and log magnitude at three resolutions (Yamamoto et al. 2020, arXiv 1910.11480); "
        "library auraloss",
    ),
    "f0_correlation": Metric(
        "F0 correlation",
        "higher",
        3,
        _f0_correlation,
        ("pyworld",),
        "Pearson's, of log frequency where both are voiced; DIO at 8 kHz and StoneMask, library pyworld",
    ),
    "voicing_f1": Metric(
        "voicing F1", "higher", 3, _voicing_f1, ("pyworld",), "of the frames of 10 ms that are voiced; library pyworld"
    ),
    "speaker": Metric(
        "speaker similarity",
        "higher",
        3,
        _speaker,
        ("resemblyzer",),
        "cosine of voice embeddings (Wan et al. 2018, arXiv 1710.10467); library resemblyzer",
    ),
    "dnsmos": Metric(
        "DNSMOS",
        "higher",
        3,
        _dnsmos,
        ("speechmos.dnsmos", "onnxruntime"),
        "overall quality predicted from the decoded audio alone, repeated to 9 s if it is shorter, 1 to 5 "
        "(Reddy et al. 2022, P.835); library speechmos",
        slow=True,
    ),
}
"""All but the word error rate, which needs a recogniser: :func:`load_metrics`."""

NAMES = (*METRICS, "wer")


def load_metrics(names: Sequence[str], recogniser: str = "pocketsphinx") -> dict[str, Metric]:
    """Metrics by name; those whose library is absent say so in :attr:`Metric.absent`.

    Raises:
        InputError: a name, or the recogniser, is unknown.
    """
    metrics = {}
    for name in names:
        if name == "wer":
            modules = ("jiwer", "pocketsphinx" if recogniser == "pocketsphinx" else "transformers")
            about = f"(S + D + I) / N of the recogniser {recogniser}, English only, without case and punctuation; jiwer"
            if recogniser != "pocketsphinx" and not recogniser.startswith("whisper:"):
                load_recogniser(recogniser)  # says what is expected
            metrics[name] = Metric("WER", "lower", 3, _lazy_wer(recogniser), modules, about, slow=True)
        elif name in METRICS:
            metrics[name] = METRICS[name]
        else:
            raise InputError(f"metric {name!r} is unknown; expected one of {', '.join(NAMES)}")
    return metrics


def _lazy_wer(recogniser: str) -> Callable[[Speech, Speech], Value]:
    return lambda original, decoded: WordErrors(load_recogniser(recogniser))(original, decoded)


def version(package: str) -> str:
    """Of an installed package, or ``absent``."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def versions(metrics: dict[str, Metric]) -> dict[str, str]:
    """Versions of the libraries that metrics come from."""
    modules = {module.split(".")[0] for metric in metrics.values() for module in metric.needs}
    return {module: version(module) for module in sorted(modules)}
