"""Lyra with a runtime that stands in for its models."""

import sys
import types

import numpy as np
import pytest
import torch

from benchmarks.codecs.load import load_codec
from benchmarks.codecs.lyra import FILES
from speechtok.errors import InputError


class Runner:
    """Features are the first 64 samples; indices are their signs; decoding returns the sum of the indices."""

    def __init__(self, name: str, frames: list[np.ndarray]) -> None:
        self.name, self.frames = name, frames

    def get_input_details(self) -> dict[str, object]:
        return {"anything": None}

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        if "input_audio" in inputs:
            assert inputs["input_audio"].shape == (1, 320)
            return {"output_0": inputs["input_audio"][:, None, :64]}
        if "input_frames" in inputs:
            assert inputs["num_quantizers"] in (16, 30, 46)
            return {"output_0": (inputs["input_frames"][0, 0, :46, None, None] > 0).astype(np.int32) * 7}
        if "encoding_indices" in inputs:
            self.frames.append(inputs["encoding_indices"][:, 0, 0])
            return {"output_0": inputs["encoding_indices"].sum() * np.ones((1, 1, 64), np.float32)}
        return {"output_0": 0.001 * inputs["anything"][:, 0, :1] * np.ones((1, 320), np.float32)}


@pytest.fixture
def frames(monkeypatch) -> list[np.ndarray]:
    found: list[np.ndarray] = []

    class Interpreter:
        def __init__(self, model_content: bytes) -> None:
            assert model_content == b"model"

        def get_signature_runner(self, name: str) -> Runner:
            return Runner(name, found)

    module = types.ModuleType("ai_edge_litert.interpreter")
    module.Interpreter = Interpreter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    return found


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes(b"model")
    return tmp_path


def test_a_waveform_is_encoded_frame_by_frame_with_the_codebooks_of_its_bitrate(frames, folder):
    codec = load_codec(f"lyra:6000@{folder}")
    waveform = torch.ones(1_000)
    result = codec(waveform)
    assert result.waveform.shape == waveform.shape
    assert result.codes is not None
    assert result.codes.shape == (30, 4)
    assert result.bits == 4 * 30 * 4
    assert all((frame[30:] == -1).all() and (frame[:30] >= 0).all() for frame in frames)
    assert float(result.waveform[0]) == pytest.approx(0.001 * frames[0].sum())


def test_what_is_missing_is_named(frames, folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="lyra:6000@DIR"):
        load_codec("lyra:6000")
    with pytest.raises(InputError, match=r"expected one of \(3200, 6000, 9200\)"):
        load_codec(f"lyra:6@{folder}")
    (folder / FILES[2]).unlink()
    with pytest.raises(InputError, match=f"lacks {FILES[2]}"):
        load_codec(f"lyra:6000@{folder}")
    (folder / FILES[2]).write_bytes(b"model")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match="pip install ai-edge-litert"):
        load_codec(f"lyra:6000@{folder}")
