import sys

import pytest
import torch

import speechtok
from benchmarks.exactness.paths import alone
from benchmarks.exactness.processes import run_elsewhere, save_waveforms


@pytest.mark.slow
def test_another_process_gives_the_same_codes_and_audio(model, waveforms, tmp_path):
    audio = tmp_path / "waveforms.npz"
    save_waveforms(waveforms, audio)
    variables = {"ATEN_CPU_CAPABILITY": "default"}
    codes, hashes = run_elsewhere(sys.executable, variables, "float32", model, audio, tmp_path)
    expected, expected_hashes = alone(speechtok.load(model), waveforms)
    assert all(torch.equal(a, b) for a, b in zip(codes, expected, strict=True))
    assert hashes == expected_hashes
