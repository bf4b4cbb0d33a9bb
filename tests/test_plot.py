import torch

from speechtok.plot import roundtrip_figure, spectrogram_figure
from speechtok.tokens import SpeechTokens


def test_the_spectrograms_have_kilohertz_and_seconds():
    figure = spectrogram_figure(torch.randn(16_000), torch.zeros(16_000), 16_000)
    assert [axes.get_title() for axes in figure.axes] == ["before", "after"]
    assert list(figure.axes[1].images[0].get_extent()) == [0, 1.0, 0, 8.0]


def test_the_roundtrip_picture_shows_the_codes_as_they_are():
    codes = torch.randint(0, 32, (1, 4, 50))
    tokens = SpeechTokens(codes, torch.tensor([50]), torch.tensor([16_000]), 16_000, 320, 32, "0")
    figure = roundtrip_figure(torch.randn(16_000) * 0.1, torch.zeros(16_000), tokens)
    grid = figure.axes[3]
    assert torch.equal(torch.as_tensor(grid.images[0].get_array().data), codes[0])
    assert grid.get_xlim() == (0, 1.0)
