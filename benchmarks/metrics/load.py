"""Metrics by name."""

import functools
import importlib.metadata
from collections.abc import Sequence

from benchmarks.metrics import artefacts, distortion, quality, recognition, spectral, voice
from benchmarks.metrics.metric import Metric
from benchmarks.metrics.octaves import NUM_OCTAVES
from benchmarks.metrics.recognisers import MODULES, describe, load_recogniser, split_name
from speechtok.errors import InputError, quoted

_DNSMOS = "predicted from the decoded audio alone, repeated to 9 s if it is shorter, 1 to 5 (Reddy et al. 2022, P.835)"

METRICS: dict[str, Metric] = {
    "dnsmos": Metric(
        "DNSMOS",
        "higher",
        3,
        quality.dnsmos_overall,
        ("speechmos.dnsmos", "onnxruntime"),
        f"overall quality (OVRL), {_DNSMOS}; library speechmos",
        group="quality",
        summary=True,
    ),
    "dnsmos_sig": Metric(
        "DNSMOS SIG",
        "higher",
        3,
        quality.dnsmos_signal,
        ("speechmos.dnsmos", "onnxruntime"),
        f"quality of the speech, {_DNSMOS}",
        group="quality",
    ),
    "dnsmos_bak": Metric(
        "DNSMOS BAK",
        "higher",
        3,
        quality.dnsmos_background,
        ("speechmos.dnsmos", "onnxruntime"),
        f"quality of the background, {_DNSMOS}",
        group="quality",
    ),
    "pesq": Metric(
        "PESQ-WB",
        "higher",
        3,
        distortion.pesq,
        ("pesq",),
        "ITU-T P.862.2, 1.0 to 4.64; library pesq",
        summary=True,
    ),
    "stoi": Metric("STOI", "higher", 4, distortion.stoi, ("pystoi",), "Taal et al. 2011; library pystoi", summary=True),
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
        summary=True,
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
        "periods from 40 to 800 Hz; what is 60 dB below the speech does not count",
        group="artefacts",
        summary=True,
    ),
    "clicks": Metric(
        "click excess, dB",
        "lower",
        2,
        artefacts.click_excess,
        ("scipy",),
        "clicks at frame edges: how far the loudest 0.3 ms of a frame stand out in the energy of second differences, "
        "less the original's; the worst of frames of 10, 13.3, 20, 40 and 80 ms",
        group="artefacts",
    ),
    "high_band": Metric(
        "energy above 4 kHz, dB",
        "lower",
        2,
        artefacts.high_band_difference,
        (),
        "absolute change of the energy above 4 kHz",
        group="artefacts",
    ),
    "octaves": Metric(
        "octave distance, dB",
        "lower",
        2,
        artefacts.octave_distance,
        (),
        "mean absolute change of the energies of the octaves from 62.5 Hz to 8 kHz",
        group="artefacts",
    ),
    "level": Metric(
        "level change, dB",
        "zero",
        2,
        artefacts.level_change,
        (),
        "energy of the decoded audio relative to that of the original",
        group="octaves",
    ),
    **{
        f"octave_{index}": Metric(
            artefacts.octave_title(index),
            "zero",
            2,
            artefacts.octave_change(index),
            (),
            "energy of this octave relative to that of the original",
            group="octaves",
        )
        for index in range(NUM_OCTAVES)
    },
    "f0_correlation": Metric(
        "F0 correlation",
        "higher",
        3,
        voice.f0_correlation,
        ("pyworld",),
        "Pearson correlation of log F0 where both waveforms are voiced; DIO at 8 kHz and StoneMask, library pyworld",
        group="voice",
        summary=True,
    ),
    "voicing_f1": Metric(
        "voicing F1",
        "higher",
        3,
        voice.voicing_f1,
        ("pyworld",),
        "F1 score of voiced frames of 10 ms; library pyworld",
        group="voice",
    ),
    "f0_pyin": Metric(
        "F0 correlation, pYIN",
        "higher",
        3,
        voice.f0_correlation_pyin,
        ("librosa",),
        "as F0 correlation, by another tracker: pYIN (Mauch and Dixon 2014), library librosa",
        group="voice",
    ),
    "voicing_pyin": Metric(
        "voicing F1, pYIN",
        "higher",
        3,
        voice.voicing_f1_pyin,
        ("librosa",),
        "F1 score of voiced frames of 10 ms; pYIN, library librosa",
        group="voice",
    ),
    "speaker": Metric(
        "speaker similarity",
        "higher",
        3,
        voice.speaker_similarity,
        ("resemblyzer",),
        "cosine similarity of speaker embeddings (Wan et al. 2018, arXiv 1710.10467); library resemblyzer",
        group="voice",
        summary=True,
    ),
}
"""All metrics except those of recognisers: see :func:`load_metrics`."""

RECOGNITION = ("wer", "wer_gap", "cer", "cer_gap")
"""Metrics of every recogniser."""

NAMES = (*RECOGNITION, *METRICS)


def load_metrics(names: Sequence[str], recognisers: Sequence[str] = ("pocketsphinx",)) -> dict[str, Metric]:
    """Metrics by name. A metric whose library is missing says so in :attr:`Metric.unavailable`.

    Args:
        names: some of :data:`NAMES`.
        recognisers: ``pocketsphinx`` or ``whisper:SOURCE``. The metrics of the first have the names of
            :data:`RECOGNITION`; those of another one, such as ``pocketsphinx``, are called ``wer@pocketsphinx``.

    Raises:
        InputError: a name or a recogniser is unknown.
    """
    metrics = {}
    for name in names:
        if name in RECOGNITION:
            for index, recogniser in enumerate(dict.fromkeys(recognisers)):
                key = f"{name}@{describe(recogniser)}" if index else name
                metrics[key] = _recognition(name, recogniser, second=index > 0)
        elif name in METRICS:
            metrics[name] = METRICS[name]
        else:
            raise InputError(f"metric {quoted(name)} is unknown; expected one of {', '.join(NAMES)}")
    return metrics


def _recognition(name: str, recogniser: str, second: bool) -> Metric:
    kind, _ = split_name(recogniser)
    load = functools.partial(load_recogniser, recogniser)
    unit: recognition.Unit = "words" if name.startswith("wer") else "characters"
    gap = name.endswith("_gap")
    title = name.split("_")[0].upper() + (" gap" if gap else "") + (f", {describe(recogniser)}" if second else "")
    what = (
        f"(S + D + I) / N of {unit}, at most 1 in an utterance, recogniser {describe(recogniser)}, after Whisper's "
        "text normalisation; jiwer"
    )
    return Metric(
        title,
        "lower",
        3,
        (recognition.error_gap if gap else recognition.error_rate)(recogniser, load, unit),
        ("jiwer", "transformers", *MODULES[kind]),
        f"{title.split()[0].rstrip(',')} of the decoded audio minus that of the original" if gap else what,
        slow=True,
        group="recognition",
        summary=name == "wer_gap" and not second,
    )


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
