import numpy as np
import pytest
import torch

from benchmarks.codecs.interface import Reconstruction
from benchmarks.evaluation import scoring
from benchmarks.evaluation.reconstruct import reconstruct
from benchmarks.evaluation.scoring import Scorer, Settings
from speechtok.errors import InputError


def test_failures_are_named_and_the_rest_is_scored(utterances, late, monkeypatch):
    monkeypatch.setattr(scoring, "load_codec", lambda spec: late)
    scorer = Scorer(Settings(("late",), ("pesq", "stoi", "si_sdr"), ("pocketsphinx",), {"late": 320}))
    found = {utterance.id: scorer(utterance, ("late",), False)[0] for utterance in utterances}
    assert found["silent"].failure == "KeyError: 'silence'"
    assert "broken.wav" in str(found["broken"].failure)
    assert "missing.wav" in str(found["missing"].failure)
    assert {name for name, result in found.items() if result.failure is None} == {"a", "b", "short"}
    assert np.isnan(found["short"].scores["pesq"][0])
    assert found["short"].scores["si_sdr"][0] == 100
    assert found["b"].seconds == pytest.approx(1.5)


@pytest.mark.parametrize("waveform", [torch.zeros(2, 5), torch.zeros(0), torch.tensor([0.0, float("nan")])])
def test_a_codec_without_a_usable_waveform_is_reported(waveform, monkeypatch, late):
    monkeypatch.setattr(type(late), "__call__", lambda *_: Reconstruction(waveform, 1.0))
    with pytest.raises(InputError, match=r"expected a waveform \(S,\) of finite samples"):
        reconstruct(late, torch.zeros(100), 16_000)
