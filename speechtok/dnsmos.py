"""DNSMOS P.835 (Reddy et al. 2022): quality predicted from one waveform alone."""

import functools
import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_RATE = 16_000
"""Rate that the model takes, in hertz."""

WINDOW = 144_160
"""Samples that the model sees: 9.01 s."""


@dataclass(frozen=True)
class Dnsmos:
    """Predicted mean opinion scores, 1 to 5; NaN for silence.

    Attributes:
        signal: of the speech itself (SIG).
        background: of the background (BAK).
        overall: of both (OVRL).
    """

    signal: float
    background: float
    overall: float


def dnsmos(waveform: np.ndarray, sample_rate: int) -> Dnsmos:
    """Rate a waveform ``(S,)``, repeated to 9.01 s if it is shorter."""
    if not waveform.any():
        return Dnsmos(math.nan, math.nan, math.nan)
    x = waveform.clip(-1, 1)
    # the library doubles shorter audio until it exceeds the window, and then rates up to 8 windows of the same loop
    x = np.resize(x, max(len(x), WINDOW))
    scores = _model()(x, sample_rate, False)
    return Dnsmos(*(float(scores[name]) for name in ("sig_mos", "bak_mos", "ovrl_mos")))


@functools.cache
def _model() -> Any:
    import onnxruntime

    library: Any = importlib.import_module("speechmos.dnsmos")
    folder = Path(library.__file__).parent / "dnsmos_models"
    files = [str(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    model = library.DNSMOS(*files)
    options = onnxruntime.SessionOptions()  # by default, each worker process would use all cores
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model.onnx_sess = onnxruntime.InferenceSession(files[0], options)
    model.p808_onnx_sess, model.audio_melspec = _SkippedModel(), lambda audio: np.zeros((1, 1))
    return model


class _SkippedModel:
    """Replaces the P.808 model, whose score is not used and takes 90 % of the time."""

    def run(self, *_: object) -> list[list[list[float]]]:
        """Return NaN in the shape of an onnxruntime session's output."""
        return [[[math.nan]]]
