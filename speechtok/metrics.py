"""How much of speech came back, by well-kept libraries (the ``bench`` extra), guarded against what they stumble on; and
how much of what is said the codes carry.
"""

import functools
import importlib
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from speechtok.audio import resample
from speechtok.errors import InputError

_PESQ_RATE = 16_000
_PESQ_SECONDS = 20  # the pesq library overruns its memory at 50 stretches of speech; this long cannot hold as many


def pesq_wb(before: Tensor, after: Tensor, sample_rate: int) -> float:
    """PESQ-WB (ITU-T P.862.2) of ``after`` against ``before``, ``(S,)`` each, at 16 kHz.

    Returns:
        1.0 to 4.64, the mean over equal pieces of at most 20 s; NaN where PESQ finds no speech, or less than a quarter
        of a second.

    Raises:
        ImportError: the pesq library is not installed.
    """
    pesq: Any = importlib.import_module("pesq")
    pair = [resample(x[None], sample_rate, _PESQ_RATE)[0].numpy() for x in (before, after)]
    pieces = max(1, -(-len(pair[0]) // (_PESQ_SECONDS * _PESQ_RATE)))
    scores = []
    for x, y in zip(*(np.array_split(waveform, pieces) for waveform in pair), strict=True):
        if not x.any() or not y.any():
            continue  # it would divide by their peak
        try:
            scores.append(float(pesq.pesq(_PESQ_RATE, x, y, "wb")))
        except (RuntimeError, ValueError):  # no speech, or too little
            continue
    return float(np.mean(scores)) if scores else math.nan


def stoi(before: Tensor, after: Tensor, sample_rate: int, extended: bool = False) -> float:
    """Short-time objective intelligibility (Taal et al. 2011) of ``after`` against ``before``, ``(S,)`` each.

    Args:
        before: the original.
        after: what became of it, as long.
        sample_rate: of both, in hertz.
        extended: ESTOI (Jensen and Taal 2016), which also hears noise that comes and goes.

    Returns:
        0 to 1; NaN where there are too few frames of speech.

    Raises:
        ImportError: the pystoi library is not installed.
    """
    return intelligibility(before, after, sample_rate)[extended]


def intelligibility(before: Tensor, after: Tensor, sample_rate: int) -> tuple[float, float]:
    """STOI and ESTOI, see :func:`stoi`, in less than half of the time that they take one after the other.

    Resampling, silent frames and bands are those of the pystoi library, and so are the measures, up to rounding (it
    adds noise of the size of a rounding error to ESTOI's segments).

    Args:
        before: the original, ``(S,)``.
        after: what became of it, as long.
        sample_rate: of both, in hertz.

    Returns:
        STOI and ESTOI; NaN where there are too few frames of speech.

    Raises:
        ImportError: the pystoi library is not installed.
    """
    importlib.import_module("pystoi")
    measure: Any = importlib.import_module("pystoi.stoi")  # of which the package shows its function alone
    if not before.any():
        return math.nan, math.nan
    pair = [x.numpy() for x in (before, after)]
    if sample_rate != measure.FS:
        pair = [measure.utils.resample_oct(x, measure.FS, sample_rate) for x in pair]
    length = measure.N_FRAME
    if len(pair[0]) <= length:
        return math.nan, math.nan
    pair = measure.utils.remove_silent_frames(*pair, measure.DYN_RANGE, length, length // 2)
    window = np.hanning(length + 2)[1:-1]
    bands = []
    for x in pair:
        frames = np.lib.stride_tricks.sliding_window_view(x, length)[: len(x) - length : length // 2]
        power = np.square(np.abs(np.fft.rfft(window * frames, measure.NFFT)))
        bands.append(np.sqrt(measure.OBM @ power.T))
    if bands[0].shape[1] < measure.N:
        return math.nan, math.nan  # too few for a segment
    x, y = (np.lib.stride_tricks.sliding_window_view(z, measure.N, axis=1).transpose(1, 0, 2) for z in bands)
    size = np.linalg.norm(x, axis=2, keepdims=True) / (np.linalg.norm(y, axis=2, keepdims=True) + _LEAST)
    clipped = np.minimum(y * size, x * (1 + 10 ** (-measure.BETA / 20)))
    alike = (_normalised(x, 2) * _normalised(clipped, 2)).sum() / (x.shape[0] * x.shape[1])
    extended = (_normalised(_normalised(x, 2), 1) * _normalised(_normalised(y, 2), 1)).sum() / (x.shape[0] * measure.N)
    return float(alike), float(extended)


_LEAST = np.finfo(np.float64).eps


def _normalised(segments: np.ndarray, axis: int) -> np.ndarray:
    """With mean 0 and length 1 along an axis."""
    centred = segments - segments.mean(axis, keepdims=True)
    lengths: np.ndarray = np.sqrt(np.square(centred).sum(axis, keepdims=True))
    result: np.ndarray = centred / (lengths + _LEAST)
    return result


_VOICE_RATE = 16_000


def voice(waveform: Tensor, sample_rate: int) -> np.ndarray | None:
    """Who speaks, by the encoder of resemblyzer (Wan et al. 2018, arXiv 1710.10467): float32 ``(256,)`` of length 1.

    Two voices are compared by the product ``a @ b``: see :func:`speaker_similarity`.

    Args:
        waveform: ``(S,)``.
        sample_rate: in hertz.

    Returns:
        The embedding of the waveform at 16 kHz without its long silences; None where it has no voice.

    Raises:
        ImportError: the resemblyzer library is not installed.
    """
    encoder, audio = _voice_encoder()
    samples = resample(waveform[None], sample_rate, _VOICE_RATE)[0].numpy()
    if not samples.any():
        return None  # it would divide by the loudness
    speech = audio.preprocess_wav(samples)
    if not speech.any():
        return None
    embedding: np.ndarray = encoder.embed_utterance(speech)
    return embedding if np.isfinite(embedding).all() else None


def speaker_similarity(before: Tensor, after: Tensor, sample_rate: int) -> float:
    """Cosine of the :func:`voice` of two waveforms, ``(S,)`` and ``(S',)``: of one speaker, or of an original and its
    copy.

    Returns:
        0 to 1 (the embeddings have no negative numbers); NaN where either has no voice.

    Raises:
        ImportError: the resemblyzer library is not installed.
    """
    voices = [voice(waveform, sample_rate) for waveform in (before, after)]
    if voices[0] is None or voices[1] is None:
        return math.nan
    return float(voices[0] @ voices[1])


@functools.cache
def _voice_encoder() -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its imports of scipy and of pkg_resources
        warnings.simplefilter("ignore", UserWarning)
        resemblyzer: Any = importlib.import_module("resemblyzer")
        return resemblyzer.VoiceEncoder("cpu", verbose=False), resemblyzer.audio


@dataclass(frozen=True)
class PhoneScore:
    """How much labels tell about phones (Hsu et al. 2021, arXiv 2106.07447, section IV-C).

    Attributes:
        pnmi: phone-normalised mutual information, the share of the phones' entropy that the labels resolve, 0 to 1;
            NaN where there is only one phone.
        phone_purity: share of the frames that have the phone most frequent under their label.
        cluster_purity: share of the frames that have the label most frequent under their phone.
        frames: counted.
    """

    pnmi: float
    phone_purity: float
    cluster_purity: float
    frames: int


def phone_score(labels: Any, phones: Any) -> PhoneScore:
    """Compare labels and phones of the same frames, whole numbers ``(T,)`` each; frames below 0 in either are left out.

    Raises:
        InputError: they are no such arrays, of different lengths, or have no frame in common.
    """
    pair = [np.asarray(values) for values in (labels, phones)]
    for name, values in zip(("labels", "phones"), pair, strict=True):
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise InputError(f"{name} is {values.dtype} {values.shape}; expected whole numbers (T,), one a frame")
    if len(pair[0]) != len(pair[1]):
        raise InputError(f"{len(pair[0])} labels and {len(pair[1])} phones; expected one of each a frame")
    counted = (pair[0] >= 0) & (pair[1] >= 0)
    if not counted.any():
        raise InputError(f"none of {len(counted)} frames has a label and a phone; expected at least one")
    (_, rows), (_, columns) = (np.unique(values[counted], return_inverse=True) for values in pair)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)
    frames = int(counted.sum())
    joint = table / frames
    entropy_phones, entropy_labels, entropy_joint = (
        _entropy(share) for share in (joint.sum(0), joint.sum(1), joint.ravel())
    )
    information = entropy_phones + entropy_labels - entropy_joint
    pnmi = min(max(information / entropy_phones, 0.0), 1.0) if entropy_phones else math.nan
    return PhoneScore(pnmi, float(joint.max(1).sum()), float(joint.max(0).sum()), frames)


def phone_normalised_mutual_information(labels: Any, phones: Any) -> float:
    """Share of the phones' entropy that the labels resolve, 0 to 1: :attr:`PhoneScore.pnmi` of :func:`phone_score`."""
    return phone_score(labels, phones).pnmi


def _entropy(share: np.ndarray) -> float:
    share = share[share > 0]
    return float(-np.sum(share * np.log(share)))
