"""Objective metrics of decoded speech, and of the phonetic information in codes.

PESQ, STOI and speaker embeddings come from established libraries, which the ``bench`` extra installs. The wrappers
return NaN for input that would make those libraries fail, such as silence.
"""

import functools
import importlib
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from speechtok.errors import InputError
from speechtok.resampling import resample

_PESQ_RATE = 16_000
_PESQ_SECONDS = 20  # the pesq library writes past its buffers at 50 speech segments; 20 s cannot hold that many


def pesq_wb(reference: Tensor, decoded: Tensor, sample_rate: int) -> float:
    """Wideband PESQ (ITU-T P.862.2), computed at 16 kHz.

    Args:
        reference: the original waveform, ``(S,)``.
        decoded: the waveform to rate, ``(S,)``.
        sample_rate: of both, in hertz.

    Returns:
        1.0 to 4.64, averaged over equal segments of at most 20 s; NaN where PESQ detects no speech, or where the
        waveform is shorter than a quarter of a second.

    Raises:
        ImportError: the pesq library is not installed.
    """
    pesq: Any = importlib.import_module("pesq")
    pair = [resample(x[None], sample_rate, _PESQ_RATE)[0].numpy() for x in (reference, decoded)]
    segments = max(1, -(-len(pair[0]) // (_PESQ_SECONDS * _PESQ_RATE)))
    scores = []
    for x, y in zip(*(np.array_split(waveform, segments) for waveform in pair), strict=True):
        if not x.any() or not y.any():
            continue  # the library divides by the peak
        try:
            scores.append(float(pesq.pesq(_PESQ_RATE, x, y, "wb")))
        except (RuntimeError, ValueError):  # no speech, or too little of it
            continue
    return float(np.mean(scores)) if scores else math.nan


def stoi(reference: Tensor, decoded: Tensor, sample_rate: int, extended: bool = False) -> float:
    """Short-time objective intelligibility (Taal et al. 2011).

    Args:
        reference: the original waveform, ``(S,)``.
        decoded: the waveform to rate, ``(S,)``.
        sample_rate: of both, in hertz.
        extended: compute ESTOI (Jensen and Taal 2016), which also covers modulated noise.

    Returns:
        0 to 1; NaN if there are too few frames of speech.

    Raises:
        ImportError: the pystoi library is not installed.
    """
    return intelligibility(reference, decoded, sample_rate)[extended]


def intelligibility(reference: Tensor, decoded: Tensor, sample_rate: int) -> tuple[float, float]:
    """STOI and ESTOI in one pass, in less than half the time of two calls to the pystoi library.

    Resampling, removal of silent frames and filter bank are those of pystoi. The results equal pystoi's up to rounding
    (pystoi adds noise at the level of rounding errors to the segments of ESTOI).

    Args:
        reference: the original waveform, ``(S,)``.
        decoded: the waveform to rate, ``(S,)``.
        sample_rate: of both, in hertz.

    Returns:
        STOI and ESTOI; NaN if there are too few frames of speech.

    Raises:
        ImportError: the pystoi library is not installed.
    """
    importlib.import_module("pystoi")
    library: Any = importlib.import_module("pystoi.stoi")  # the package itself exports one function only
    if not reference.any():
        return math.nan, math.nan
    pair = [x.numpy() for x in (reference, decoded)]
    if sample_rate != library.FS:
        pair = [library.utils.resample_oct(x, library.FS, sample_rate) for x in pair]
    length = library.N_FRAME
    if len(pair[0]) <= length:
        return math.nan, math.nan
    pair = library.utils.remove_silent_frames(*pair, library.DYN_RANGE, length, length // 2)
    window = np.hanning(length + 2)[1:-1]
    bands = []
    for x in pair:
        frames = np.lib.stride_tricks.sliding_window_view(x, length)[: len(x) - length : length // 2]
        power = np.square(np.abs(np.fft.rfft(window * frames, library.NFFT)))
        bands.append(np.sqrt(library.OBM @ power.T))
    if bands[0].shape[1] < library.N:
        return math.nan, math.nan  # shorter than one segment
    x, y = (np.lib.stride_tricks.sliding_window_view(z, library.N, axis=1).transpose(1, 0, 2) for z in bands)
    scale = np.linalg.norm(x, axis=2, keepdims=True) / (np.linalg.norm(y, axis=2, keepdims=True) + _EPSILON)
    clipped = np.minimum(y * scale, x * (1 + 10 ** (-library.BETA / 20)))
    plain = (_normalised(x, 2) * _normalised(clipped, 2)).sum() / (x.shape[0] * x.shape[1])
    extended = (_normalised(_normalised(x, 2), 1) * _normalised(_normalised(y, 2), 1)).sum() / (x.shape[0] * library.N)
    return float(plain), float(extended)


_EPSILON = np.finfo(np.float64).eps


def _normalised(segments: np.ndarray, axis: int) -> np.ndarray:
    """Segments with zero mean and unit norm along an axis."""
    centred = segments - segments.mean(axis, keepdims=True)
    norms: np.ndarray = np.sqrt(np.square(centred).sum(axis, keepdims=True))
    result: np.ndarray = centred / (norms + _EPSILON)
    return result


_SPEAKER_RATE = 16_000


def speaker_embedding(waveform: Tensor, sample_rate: int) -> np.ndarray | None:
    """Speaker embedding by the encoder of resemblyzer (Wan et al. 2018, arXiv 1710.10467).

    The dot product of two embeddings is their cosine similarity: see :func:`speaker_similarity`.

    Args:
        waveform: ``(S,)``.
        sample_rate: in hertz.

    Returns:
        Float32 ``(256,)`` of unit norm, computed at 16 kHz after long silences are removed; None if the waveform
        contains no voice.

    Raises:
        ImportError: the resemblyzer library is not installed.
    """
    encoder, audio = _speaker_encoder()
    samples = resample(waveform[None], sample_rate, _SPEAKER_RATE)[0].numpy()
    if not samples.any():
        return None  # the library divides by the loudness
    speech = audio.preprocess_wav(samples)
    if not speech.any():
        return None
    embedding: np.ndarray = encoder.embed_utterance(speech)
    return embedding if np.isfinite(embedding).all() else None


def speaker_similarity(a: Tensor, b: Tensor, sample_rate: int) -> float:
    """Cosine similarity of the speaker embeddings of two waveforms.

    Args:
        a: ``(S,)``.
        b: ``(S',)``.
        sample_rate: of both, in hertz.

    Returns:
        0 to 1 (the embeddings have no negative elements); NaN if either waveform contains no voice.

    Raises:
        ImportError: the resemblyzer library is not installed.
    """
    embeddings = [speaker_embedding(waveform, sample_rate) for waveform in (a, b)]
    if embeddings[0] is None or embeddings[1] is None:
        return math.nan
    return float(embeddings[0] @ embeddings[1])


@functools.cache
def _speaker_encoder() -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from its imports of scipy and pkg_resources
        warnings.simplefilter("ignore", UserWarning)
        resemblyzer: Any = importlib.import_module("resemblyzer")
        return resemblyzer.VoiceEncoder("cpu", verbose=False), resemblyzer.audio


@dataclass(frozen=True)
class PhoneScore:
    """Agreement of discrete labels with phones (Hsu et al. 2021, arXiv 2106.07447, section IV-C).

    Attributes:
        pnmi: phone-normalised mutual information, the share of the phones' entropy that the labels explain, 0 to 1;
            NaN if there is only one phone.
        phone_purity: share of the frames whose phone is the most frequent one for their label.
        cluster_purity: share of the frames whose label is the most frequent one for their phone.
        frames: number of frames counted.
    """

    pnmi: float
    phone_purity: float
    cluster_purity: float
    frames: int


def phone_score(labels: Any, phones: Any) -> PhoneScore:
    """Compare labels with the phones of the same frames.

    Args:
        labels: integers ``(T,)``.
        phones: integers ``(T,)``. A frame with a negative label or phone is not counted.

    Raises:
        InputError: the arrays are not integers ``(T,)`` of equal length, or no frame has both a label and a phone.
    """
    pair = [np.asarray(values) for values in (labels, phones)]
    for name, values in zip(("labels", "phones"), pair, strict=True):
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise InputError(f"{name} is {values.dtype} {values.shape}; expected integers (T,), one for each frame")
    if len(pair[0]) != len(pair[1]):
        raise InputError(f"got {len(pair[0])} labels and {len(pair[1])} phones; expected one of each per frame")
    counted = (pair[0] >= 0) & (pair[1] >= 0)
    if not counted.any():
        raise InputError(f"none of {len(counted)} frames has both a label and a phone; expected at least one")
    (_, rows), (_, columns) = (np.unique(values[counted], return_inverse=True) for values in pair)
    counts = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(counts, (rows, columns), 1.0)
    frames = int(counted.sum())
    joint = counts / frames
    entropy_phones, entropy_labels, entropy_joint = (_entropy(p) for p in (joint.sum(0), joint.sum(1), joint.ravel()))
    information = entropy_phones + entropy_labels - entropy_joint
    pnmi = min(max(information / entropy_phones, 0.0), 1.0) if entropy_phones else math.nan
    return PhoneScore(pnmi, float(joint.max(1).sum()), float(joint.max(0).sum()), frames)


def phone_normalised_mutual_information(labels: Any, phones: Any) -> float:
    """:attr:`PhoneScore.pnmi` of :func:`phone_score`."""
    return phone_score(labels, phones).pnmi


def _entropy(probabilities: np.ndarray) -> float:
    positive = probabilities[probabilities > 0]
    return float(-np.sum(positive * np.log(positive)))
