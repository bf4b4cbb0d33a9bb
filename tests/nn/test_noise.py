"""Noise: whole numbers by position, equal everywhere, in pieces of any size."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechtok import ConvNeXtConfig, ConvNeXtStackConfig
from speechtok.errors import ConfigError
from speechtok.nn.noise import LOWEST_FREQUENCY, PERIOD, BandNoise, band_filters, random_signs

RATE = 16_000
STACK = ConvNeXtStackConfig(patch_dim=16, patch_depth=1, frame_dim=32, frame_depth=1)
CONFIG = ConvNeXtConfig(
    latent_dim=8, codebook_size=32, num_codebooks=4, noise_bands=5, encoder=STACK, decoder=STACK
)  # fmt: skip


@pytest.fixture(scope="module")
def noise() -> BandNoise:
    return BandNoise(5, 80, RATE)


@pytest.fixture(scope="module")
def tok(new_tokenizer):
    tok = new_tokenizer(config=CONFIG)
    tok.decoder.head.bias[-5:] = 10.0  # loud noise
    return tok


def level(signal: np.ndarray, low: float, high: float) -> float:
    """Mean power between two frequencies, in decibels."""
    power = np.abs(np.fft.rfft(signal)) ** 2 / len(signal)
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    return 10 * np.log10(power[(frequency >= low) & (frequency < high)].mean() + 1e-12)


def test_signs_are_those_of_the_documented_hash():
    def sign(position: int) -> int:
        x = (position + 1) * 0x9E3779B9 % 2**32
        for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
            x = (x ^ x >> shift) * factor % 2**32
        return 1 if (x ^ x >> 15) & 1 else -1

    assert random_signs(2_000).tolist() == [sign(i) for i in range(2_000)]


def test_the_noise_of_the_default_is_the_same_on_every_machine():
    table = BandNoise(20, 80, RATE).table().numpy()
    assert hashlib.sha256(table.astype("<i4").tobytes()).hexdigest()[:16] == "1c054a2f3daf7a46"


def test_signs_are_white_and_balanced():
    signs = random_signs(PERIOD * 80).numpy()
    assert abs(signs.mean()) < 0.02
    spectrum = np.abs(np.fft.rfft(signs)) ** 2 / len(signs)
    octaves = [spectrum[2**k : 2 ** (k + 1)].mean() for k in range(6, 15)]
    assert max(octaves) < 2 * min(octaves)


def test_each_band_has_its_own_frequencies(noise):
    signals = noise.table().flatten(1).numpy()
    edges = np.exp(np.linspace(np.log(LOWEST_FREQUENCY + 300), np.log(RATE / 2 + 300), 6)) - 300
    for band, signal in enumerate(signals):
        inside = level(signal, edges[band] + 100, edges[band + 1] - 100)
        for other in {0, 1, 2, 3, 4} - {band - 1, band, band + 1}:
            assert level(signal, edges[other], edges[other + 1]) < inside - 40
        assert level(signal, 0, 1_500) < inside - 40


def test_bands_of_equal_gain_add_up_to_white_noise(noise):
    whole = noise.table().flatten(1).sum(0).numpy()
    levels = [level(whole, low, low + 500) for low in range(2_500, 8_000, 500)]
    assert max(levels) - min(levels) < 1.0


def test_overlapping_windowed_pieces_of_constant_gain_add_up_to_the_noise_itself(noise):
    pieces, _ = noise(torch.zeros(1, 7, 160), torch.full((1, 7, 5), 2.0**10.5), noise.initial_position(1))
    window = torch.hann_window(160, dtype=torch.float64).float()
    first, second = (pieces * window).view(1, 7, 2, 80).unbind(2)
    joined = (first[:, 1:] + second[:, :-1]).flatten()
    expected = noise.table().flatten(1)[:, 80 : 7 * 80].sum(0)
    assert torch.allclose(joined, expected, rtol=1e-5, atol=1e-2)


@given(st.integers(0, PERIOD - 1), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_pieces_of_any_size_have_the_noise_of_the_whole(noise, position, sizes):
    roots = torch.rand(1, sum(sizes), 5, generator=torch.Generator().manual_seed(0))
    start = torch.full((1, 1), float(position))
    whole, after = noise(torch.zeros(1, sum(sizes), 160), roots, start)
    parts, at = [], start
    for size, some in zip(sizes, roots.split(sizes, 1), strict=True):
        part, at = noise(torch.zeros(1, size, 160), some, at)
        parts.append(part)
    assert torch.equal(torch.cat(parts, 1), whole)
    assert torch.equal(at, after)
    assert int(after) == (position + sum(sizes)) % PERIOD


def test_decoded_noise_does_not_depend_on_batches_threads_or_chunks(tok, speech):
    lengths = [80_000, 48_000, 16_123]  # longer than a period of the noise, and than a piece
    batch = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(speech(n / RATE, seed=n)) for n in lengths], True)
    tokens = tok.encode(batch, RATE, lengths)
    audio = tok.decode(tokens)
    for row, n in enumerate(lengths):
        assert torch.equal(tok.decode(tokens[row])[0], audio[row, :n])
    torch.set_num_threads(3)
    try:
        assert torch.equal(tok.decode(tokens), audio)
        assert torch.equal(tok.decode(tokens[0])[0], audio[0])
    finally:
        torch.set_num_threads(1)
    codes = tokens.codes[:1]
    with tok.stream() as stream:
        parts = [stream.decode(chunk) for chunk in codes.split([1, 2, 97, 3, 147], 2)]
        assert torch.equal(torch.cat([*parts, stream.drain()], 1)[:, :80_000], audio[:1])


def test_rows_of_a_stream_that_start_anew_have_the_noise_of_a_start(tok, speech):
    tokens = tok.encode(speech(0.3), RATE)
    with tok.stream(2) as stream:
        both = tokens.codes.repeat(2, 1, 1)
        first = torch.cat([stream.decode(both), stream.drain()], 1)
        stream.reset(rows=[1])
        again = both.clone()
        again[0] = -1
        second = torch.cat([stream.decode(again), stream.drain(rows=[1])], 1)
    assert torch.equal(first[1], second[1])


def test_the_decoder_without_gains_is_silent_where_the_waveform_is(new_tokenizer):
    tok = new_tokenizer(config=CONFIG)
    tok.decoder.head.weight.zero_()
    tok.decoder.head.bias.zero_()
    assert tok.decode(torch.zeros(1, 4, 5, dtype=torch.int64)).abs().max() == 0


def test_tokenizers_with_noise_are_saved_and_loaded(tok, tmp_path, speech):
    import speechtok

    tok.save(tmp_path)
    loaded = speechtok.load(tmp_path)
    assert loaded.config == tok.config
    assert torch.equal(loaded.decode(loaded.encode(speech(0.3), RATE)), tok.decode(tok.encode(speech(0.3), RATE)))


def test_noise_does_not_change_the_fingerprint_of_the_codes(tok, new_tokenizer, tmp_path):
    plain = new_tokenizer(config=ConvNeXtConfig(**{**vars(CONFIG), "noise_bands": 0}))
    combined = ConvNeXtConfig(**vars(CONFIG))
    assert combined.codes_dict() == plain.config.codes_dict()
    assert combined.decoder_dict() != plain.config.decoder_dict()


@pytest.mark.parametrize("value", [0.5, 2.0**25])
def test_filters_that_are_not_small_whole_numbers_are_refused(value):
    noise = BandNoise(2, 80, RATE)
    noise.filters[0, 0] = value
    with pytest.raises(ConfigError, match="not whole numbers, or their sizes add up"):
        noise.table()


def test_a_sample_rate_without_room_for_noise_is_refused():
    with pytest.raises(ConfigError, match="noise_bands is 3 at a sample_rate of 4000; expected noise_bands 0"):
        BandNoise(3, 20, 4_000)
    assert band_filters(3, 8_000).shape == (3, 255)
