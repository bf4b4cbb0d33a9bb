from importlib import resources
from pathlib import Path

import pytest
import torch

import speechtok
from benchmarks.metrics.recognisers import Pocketsphinx, load_recogniser
from speechtok.errors import InputError


@pytest.mark.slow
def test_pocketsphinx_gives_the_same_transcript_in_any_order():
    spoken, _ = speechtok.read_audio(Path(str(resources.files("speechtok") / "assets" / "sample.flac")))
    random = torch.Generator().manual_seed(0)
    speech = (spoken + 0.01 * torch.randn(len(spoken), generator=random)).numpy()
    recognise = Pocketsphinx()
    first = recognise(speech)
    recognise(0.3 * torch.randn(16_000, generator=random).numpy())  # it adapts to noise
    assert recognise(speech) == first


@pytest.mark.slow
def test_a_missing_whisper_model_is_reported():
    with pytest.raises(InputError, match="cannot be loaded"):
        load_recogniser("whisper:/none")
