import pytest
import torch
from torchaudio import pipelines

from speechtok.errors import InputError, MissingFileError
from tests.training.teachers.helpers import assert_keeps_promises, torchaudio_model
from training.teachers import load_teacher
from training.teachers.torchaudio import TorchaudioTeacher


def test_a_bundle_is_a_teacher(monkeypatch):
    model = torchaudio_model()
    monkeypatch.setattr(pipelines.Wav2Vec2Bundle, "get_model", lambda self: model)
    waveform = torch.randn(2, 8_000) * 0.1
    teacher = load_teacher("torchaudio:HUBERT_BASE", 2)
    assert_keeps_promises(teacher, waveform)
    assert (teacher.sample_rate, teacher.dim, teacher.num_layers) == (16_000, 16, 3)
    assert torch.equal(teacher(waveform), model.extract_features(waveform)[0][1])


def test_a_model_that_normalizes_its_input_is_unwrapped():
    class Wrapped(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def extract_features(self, waveform: torch.Tensor) -> tuple[list[torch.Tensor], None]:
            return self.model.extract_features(torch.nn.functional.layer_norm(waveform, waveform.shape))

    teacher = TorchaudioTeacher(Wrapped(torchaudio_model()), 16_000, 16, 3).eval()
    waveform = torch.randn(1, 8_000)
    torch.testing.assert_close(teacher(waveform), teacher(waveform * 0.1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["HUBERT_TINY", "TACOTRON2_WAVERNN_CHAR_LJSPEECH"])
def test_an_unknown_bundle_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=rf"torchaudio:{name}.*expected one of .*WAVLM_BASE"):
        load_teacher(f"torchaudio:{name}")


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch):
    def unreachable(_bundle: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(pipelines.Wav2Vec2Bundle, "get_model", unreachable)
    with pytest.raises(MissingFileError, match="service not known"):
        load_teacher("torchaudio:HUBERT_BASE")
