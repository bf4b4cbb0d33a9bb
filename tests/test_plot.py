import numpy as np
import torch

from speechtok.plot import MIN_DB, codebook_vectors, level, roundtrip_figure, spectrogram_figure
from speechtok.tokens import SpeechTokens


def tokens_of(codes: torch.Tensor) -> SpeechTokens:
    frames = torch.tensor([codes.shape[2]])
    return SpeechTokens(codes, frames, 320 * frames, 16_000, 320, 32, "0")


def test_level_of_a_full_scale_tone_is_0_db_and_of_silence_the_minimum():
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    assert abs(float(level(tone)[32, 60])) < 0.1  # bins of 31.25 Hz
    assert torch.equal(level(torch.zeros(16_000)), torch.full((257, 126), MIN_DB))


def test_spectrograms_share_one_labelled_colour_scale_and_have_kilohertz_and_seconds():
    figure = spectrogram_figure(torch.randn(16_000), torch.zeros(16_000), 16_000)
    upper, lower, bar = figure.axes
    assert [axes.get_title(loc="left") for axes in (upper, lower)] == ["Original", "Decoded"]
    assert list(lower.images[0].get_extent()) == [0, 1.0, 0, 8.0]
    assert upper.images[0].get_clim() == lower.images[0].get_clim()
    assert bar.get_ylabel() == "level, dB relative to full scale"


def test_roundtrip_figure_shows_scores_both_spectrograms_their_difference_and_the_codes():
    codes = torch.randint(0, 32, (1, 4, 50))
    original, decoded = torch.randn(16_000) * 0.1, torch.randn(16_000) * 0.2
    figure = roundtrip_figure(original, decoded, tokens_of(codes), "a.wav", [("STOI", "0.9")])
    assert figure.get_suptitle() == "a.wav"
    assert "STOI 0.9" in [text.get_text() for text in figure.texts]
    before, after, difference, grid = figure.axes[:4]
    assert before.images[0].get_clim() == after.images[0].get_clim()
    expected = after.images[0].get_array() - before.images[0].get_array()
    assert np.array_equal(difference.images[0].get_array(), expected)
    assert difference.images[0].get_clim() == (-30, 30)
    assert np.array_equal(grid.images[0].get_array(), codes[0].numpy() / 31)
    assert (grid.get_xlabel(), grid.get_ylabel(), grid.get_xlim()) == ("time, s", "codebook", (0, 1.0))
    assert [bar.get_ylabel() for bar in figure.axes[4:]] == [
        "level, dB relative to full scale", "dB (red: decoded is louder)", "number of the entry",
    ]  # fmt: skip


def test_codes_with_similar_vectors_get_similar_colours():
    codes = torch.tensor([[[7, 3, 5, 3]]])
    vectors = torch.tensor([[[0.0, 0.0], [5.0, 0.1], [1.0, 0.0], [5.0, 0.1]]])
    figure = roundtrip_figure(torch.zeros(1280), torch.zeros(1280), tokens_of(codes), vectors=vectors)
    assert figure.axes[3].images[0].get_array().tolist() == [[0.0, 1.0, 0.5, 1.0]]


def test_codebook_vectors_sum_to_the_embedding(tiny, speech):
    tokens = tiny.encode(speech(0.5), 16_000)
    vectors = codebook_vectors(tiny.embed, tokens)
    assert vectors.shape[:2] == tokens.codes.shape[1:]
    assert torch.allclose(vectors.sum(0), tiny.embed(tokens)[0], atol=1e-5)
