"""Metrics by name."""

import importlib.metadata
from collections.abc import Sequence

from benchmarks.metrics import artefacts, distortion, spectral, voice
from benchmarks.metrics.dnsmos import dnsmos
from benchmarks.metrics.metric import Metric, Value
from benchmarks.metrics.recognisers import load_recogniser
from benchmarks.metrics.speech import Speech
from benchmarks.metrics.word_errors import WordErrorRate
from speechtok.errors import InputError

METRICS: dict[str, Metric] = {
    "pesq": Metric("PESQ-WB", "higher", 3, distortion.pesq, ("pesq",), "ITU-T P.862.2, 1.0 to 4.64; library pesq"),
    "stoi": Metric("STOI", "higher", 4, distortion.stoi, ("pystoi",), "Taal et al. 2011; library pystoi"),
    "estoi": Metric("ESTOI", "higher", 4, distortion.estoi, ("pystoi",), "Jensen and Taal 2016; library pystoi"),
    "si_sdr": Metric(
        "SI-SDR, dB",
        "higher",
        2,
        distortion.si_sdr,
        (),
        f"scale-invariant SDR (Le Roux et al. 2019), at most {distortion.MAX_SI_SDR:.0f} dB",
    ),
    "mel": Metric(
        "mel distance, dB",
        "lower",
        2,
        spectral.mel_distance,
        ("auraloss", "librosa"),
        "mean absolute difference of log magnitudes in 80 mel bands, windows of 64 ms; library auraloss",
    ),
    "stft": Metric(
        "STFT distance",
        "lower",
        3,
        spectral.stft_distance,
        ("auraloss",),
        "spectral convergence and log magnitude at three resolutions (Yamamoto et al. 2020, arXiv 1910.11480); "
        "library auraloss",
    ),
    "comb": Metric(
        "comb excess, dB",
        "lower",
        2,
        artefacts.comb_excess,
        ("scipy",),
        "buzz: how far the loudest 10 Hz of a period stand out above 3 kHz, less the original's; the worst of all "
        "periods from 40 to 800 Hz",
    ),
    "high_band": Metric(
        "energy above 4 kHz, dB",
        "lower",
        2,
        artefacts.high_band_difference,
        (),
        "absolute difference of the energies above 4 kHz",
    ),
    "f0_correlation": Metric(
        "F0 correlation",
        "higher",
        3,
        voice.f0_correlation,
        ("pyworld",),
        "Pearson correlation of log F0 where both waveforms are voiced; DIO at 8 kHz and StoneMask, library pyworld",
    ),
    "voicing_f1": Metric(
        "voicing F1",
        "higher",
        3,
        voice.voicing_f1,
        ("pyworld",),
        "F1 score of voiced frames of 10 ms; library pyworld",
    ),
    "speaker": Metric(
        "speaker similarity",
        "higher",
        3,
        voice.speaker_similarity,
        ("resemblyzer",),
        "cosine similarity of speaker embeddings (Wan et al. 2018, arXiv 1710.10467); library resemblyzer",
    ),
    "dnsmos": Metric(
        "DNSMOS",
        "higher",
        3,
        dnsmos,
        ("speechmos.dnsmos", "onnxruntime"),
        "overall quality predicted from the decoded audio alone, repeated to 9 s if it is shorter, 1 to 5 "
        "(Reddy et al. 2022, P.835); library speechmos",
        slow=True,
    ),
}
"""All metrics except the word error rate, which needs a recogniser: see :func:`load_metrics`."""

NAMES = (*METRICS, "wer")


def load_metrics(names: Sequence[str], recogniser: str = "pocketsphinx") -> dict[str, Metric]:
    """Metrics by name. A metric whose library is missing says so in :attr:`Metric.unavailable`.

    Args:
        names: some of :data:`NAMES`.
        recogniser: for the word error rate: ``pocketsphinx`` or ``whisper:NAME``.

    Raises:
        InputError: a name or the recogniser is unknown.
    """
    metrics = {}
    for name in names:
        if name == "wer":
            metrics[name] = _word_error_rate(recogniser)
        elif name in METRICS:
            metrics[name] = METRICS[name]
        else:
            raise InputError(f"metric {name[:80]!r} is unknown; expected one of {', '.join(NAMES)}")
    return metrics


def _word_error_rate(recogniser: str) -> Metric:
    def measure(original: Speech, decoded: Speech) -> Value:
        return WordErrorRate(load_recogniser(recogniser))(original, decoded)

    if recogniser != "pocketsphinx" and not recogniser.startswith("whisper:"):
        load_recogniser(recogniser)  # raises the error for an unknown name
    modules = ("jiwer", "pocketsphinx" if recogniser == "pocketsphinx" else "transformers")
    definition = f"(S + D + I) / N of the recogniser {recogniser}, English only, without case and punctuation; jiwer"
    return Metric("WER", "lower", 3, measure, modules, definition, slow=True)


def version(package: str) -> str:
    """Version of an installed package, or ``absent``."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def versions(metrics: dict[str, Metric]) -> dict[str, str]:
    """Versions of the libraries that metrics use."""
    modules = {module.split(".")[0] for metric in metrics.values() for module in metric.modules}
    return {module: version(module) for module in sorted(modules)}
