"""DNSMOS P.835 (Reddy et al. 2022): overall quality predicted from the decoded waveform alone."""

import functools
import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics.metric import Value
from benchmarks.metrics.speech import SAMPLE_RATE, Speech

WINDOW = 144_160
"""Samples that the model sees: 9.01 s."""


def dnsmos(original: Speech, decoded: Speech) -> Value:
    """DNSMOS of the decoded waveform, repeated to 9.01 s if it is shorter."""
    if not decoded.waveform.any():
        return math.nan, 1.0
    x = decoded.waveform.numpy().clip(-1, 1)
    # the library doubles shorter audio until it exceeds the window, and then rates up to 8 windows of the same loop
    x = np.resize(x, max(len(x), WINDOW))
    return float(_model()(x, SAMPLE_RATE, False)["ovrl_mos"]), 1.0


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
