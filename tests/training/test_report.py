import torch

from training.report import spectrogram_figure


def test_the_picture_shows_both_spectrograms_in_kilohertz_and_seconds():
    figure = spectrogram_figure(torch.randn(16_000), torch.zeros(16_000), 16_000)
    assert [axes.get_title() for axes in figure.axes] == ["original", "decoded"]
    assert list(figure.axes[0].images[0].get_extent()) == [0, 1.0, 0, 8.0]
