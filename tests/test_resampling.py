"""Changes of the sample rate are exact, and as good as those of the best resamplers."""

import hashlib
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from speechtok import polyphase
from speechtok.errors import AudioError, InputError, StreamError
from speechtok.polyphase import find_filter
from speechtok.resampling import Resampler, resample, resampled_length

RATE = 16_000
PAIRS = [(48_000, RATE), (44_100, RATE), (22_050, RATE), (8_000, RATE), (24_000, RATE), (RATE, 24_000), (RATE, 48_000)]
ODD_PAIRS = [(16_001, RATE), (RATE, 16_001), (44_099, RATE), (768_000, 767_999)]
FAR_PAIRS = [(768_000, 1_000), (1_000, 768_000)]


def noise(samples: int, rows: int = 1, seed: int = 0) -> Tensor:
    """``(rows, samples)`` in [-1, 1], often at full scale."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, samples))).float().clamp(-1, 1)


def in_whole_numbers(x: np.ndarray, from_rate: int, to_rate: int, outputs: range) -> np.ndarray:
    """Some outputs by the specification in ``docs/exactness.md``, in Python's integers."""
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    longer = max(up, down)
    half = -(-72 * longer // up)
    table = [int(entry) for entry in polyphase._table()[0][512:-512]]
    levels = [round(float(sample) * 2**23) for sample in x]
    result = []
    for n in outputs:
        base, phase = divmod(n * down, up)
        coefficients = []
        for k in range(1 - half, half + 1):
            entry, rest = divmod(512 * (k * up - phase) + 72 * 512 * longer, longer)
            inside = 0 <= entry < len(table)
            value = table[entry] if inside else 0
            if inside and entry + 1 < len(table):
                value += ((table[entry + 1] - value) * ((rest << 20) // longer) + 2**19) >> 20
            coefficients.append((value * up + down // 2) // down if down > up else value)
        coefficients[half - 1 if 2 * phase <= up else half] += 2**28 - sum(coefficients)
        inputs = range(base + 1 - half, base + half + 1)
        total = sum(c * levels[i] for c, i in zip(coefficients, inputs, strict=True) if 0 <= i < len(levels))
        result.append(np.float32(total * 2.0**-51))
    return np.array(result).clip(-1, 1)


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS + ODD_PAIRS)
def test_samples_are_those_of_the_specification_in_whole_numbers(from_rate, to_rate):
    x = noise(1_000)
    y = resample(x, from_rate, to_rate)[0].numpy()
    for outputs in (range(40), range(len(y) // 2, len(y) // 2 + 20), range(len(y) - 20, len(y))):
        assert np.array_equal(
            y[outputs.start : outputs.stop], in_whole_numbers(x[0].numpy(), from_rate, to_rate, outputs)
        )


@pytest.mark.parametrize(
    ("from_rate", "to_rate", "digest"),
    [
        (48_000, RATE, "425cac10a337deda"),
        (44_100, RATE, "737f6250f77d5277"),
        (RATE, 24_000, "a0d4cdb1e33da44b"),
        (16_001, RATE, "bf086f1b9f647ffa"),
    ],
)
def test_samples_are_the_same_on_every_machine(from_rate, to_rate, digest):
    x = (torch.arange(5_000, dtype=torch.int64) * 7_919 % 65_521 - 32_760).float()[None] / 32_768
    y = resample(x, from_rate, to_rate).numpy()
    assert hashlib.sha256(y.astype("<f4").tobytes()).hexdigest()[:16] == digest


def test_the_table_does_not_depend_on_the_last_bits_of_a_library():
    """No entry is near the middle of two whole numbers, where a function's last bits would decide."""
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("this machine has no longer floats")
    time = np.arange(-72 * 512, 72 * 512 + 1).astype(np.longdouble) / 512
    pi = np.longdouble("3.14159265358979323846264338327950288")

    def bessel(x: np.ndarray) -> np.ndarray:
        terms = itertools.accumulate(range(1, 60), lambda term, k: term * (x / (2 * k)) ** 2, initial=np.ones_like(x))
        return sum(terms)

    cutoff, beta = np.longdouble(22) / 23, np.longdouble("9.83")
    angle = pi * cutoff * time
    sinc = np.where(angle == 0, 1, np.sin(angle) / np.where(angle == 0, 1, angle))
    window = bessel(beta * np.sqrt(1 - (time / 72) ** 2)) / bessel(np.array([beta]))
    values = cutoff * sinc * window * 2**28
    assert np.array_equal(np.rint(values), polyphase._table()[0][512:-512])
    assert np.abs(values - np.floor(values) - 0.5).min() > 1e-5  # errors of float64 are below 1e-6


@pytest.mark.parametrize(("from_rate", "to_rate"), [*PAIRS, *ODD_PAIRS[:2]])
@settings(max_examples=15)
@given(samples=st.integers(0, 2_000), data=st.data())
def test_rows_in_any_chunks_are_what_each_is_as_a_whole(from_rate, to_rate, samples, data):
    rows = data.draw(st.integers(1, 3))
    lengths = [data.draw(st.integers(0, samples)) for _ in range(rows)]
    x = noise(samples, rows, seed=samples)
    resampler, taken = Resampler(from_rate, to_rate, rows), [0] * rows
    parts: list[list[Tensor]] = [[] for _ in range(rows)]

    def keep(y: Tensor) -> None:
        for row, n in enumerate(resampler.lengths):
            parts[row].append(y[row, :n])
            assert not y[row, n:].any()

    for _ in range(data.draw(st.integers(0, 5))):
        size = data.draw(st.sampled_from([1, 2, 441, 960, 3_000]))
        new = [min(size, n - t) for n, t in zip(lengths, taken, strict=True)]
        chunk = torch.full((rows, size), 0.5)
        for row, n in enumerate(new):
            chunk[row, :n] = x[row, taken[row] : taken[row] + n]
            taken[row] += n
        keep(resampler.push(chunk, new))
    keep(resampler.flush())
    for row, n in enumerate(taken):
        assert torch.equal(torch.cat(parts[row]), resample(x[row : row + 1, :n], from_rate, to_rate)[0])


@pytest.mark.parametrize(("from_rate", "to_rate"), FAR_PAIRS)
def test_the_farthest_rates_stream_too(from_rate, to_rate):
    x = noise(200_000 if from_rate > to_rate else 300, 2)
    resampler = Resampler(from_rate, to_rate, 2)
    parts = [resampler.push(chunk) for chunk in x.split(len(x[0]) // 3, 1)]
    assert torch.equal(torch.cat([*parts, resampler.flush()], 1), resample(x, from_rate, to_rate))


@pytest.mark.parametrize(("from_rate", "to_rate"), [*PAIRS[:2], ODD_PAIRS[0]])
def test_batch_threads_and_modes_change_nothing(from_rate, to_rate):
    x = noise(30_000 if from_rate > 40_000 else 2_000, 5)
    expected = resample(x, from_rate, to_rate)
    for row in range(5):
        assert torch.equal(resample(x[row : row + 1], from_rate, to_rate)[0], expected[row])
    before = torch.get_num_threads()
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(resample(x, from_rate, to_rate), expected)
    finally:
        torch.set_num_threads(before)
    find_filter.cache_clear()
    try:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("meta"), torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            assert torch.equal(resample(x, from_rate, to_rate), expected)
            first = (resampler := Resampler(from_rate, to_rate, 5)).push(x[:, :1_001])
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.cat([first, resampler.push(x[:, 1_001:]), resampler.flush()], 1), expected)
    assert not resample(x.requires_grad_(), from_rate, to_rate).requires_grad


def test_both_ways_to_compute_agree(monkeypatch):
    x = noise(5_000, 2)
    expected = [resample(x, *pair) for pair in PAIRS]
    find_filter.cache_clear()
    monkeypatch.setattr(polyphase, "_MAX_WEIGHTS", 0)
    try:
        assert isinstance(find_filter(*PAIRS[0]), polyphase.DirectFilter)
        assert all(torch.equal(resample(x, *pair), y) for pair, y in zip(PAIRS, expected, strict=True))
    finally:
        find_filter.cache_clear()


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS + ODD_PAIRS + FAR_PAIRS)
def test_no_sum_exceeds_what_float64_holds(from_rate, to_rate):
    f = find_filter(from_rate, to_rate)
    phases = np.unique(np.linspace(0, f.up - 1, 300).round())
    coefficients = polyphase._coefficients(phases, f.up, f.down)
    assert (coefficients == coefficients.round()).all()
    assert (coefficients.sum(1) == 2**28).all()
    assert np.abs(coefficients).sum(1).max() * 2**23 < 3 * 2**51
    worst = torch.from_numpy(np.sign(coefficients[:1, ::-1].copy())).float()
    assert resample(worst.expand(1, -1), from_rate, to_rate).abs().max() == 1.0


# --- quality


def tone(frequency: float, rate: int, seconds: float = 1.0, amplitude: float = 0.5) -> Tensor:
    time = np.arange(round(rate * seconds)) / rate
    return torch.from_numpy(amplitude * np.sin(2 * np.pi * frequency * time)).float()[None]


def level(y: Tensor, rate: int) -> float:
    """Level of the middle of a signal, in dB relative to a tone of amplitude 0.5."""
    middle = y[0, rate // 8 : -rate // 8].double()
    return 10 * math.log10(float(middle.square().mean()) * 8 + 1e-30)


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS)
def test_the_pass_band_is_flat(from_rate, to_rate):
    nyquist = min(from_rate, to_rate) / 2
    for part in (0.01, 0.3, 0.7, 0.85, 0.9, 0.912):
        assert abs(level(resample(tone(part * nyquist, from_rate), from_rate, to_rate), to_rate)) < 0.001


@pytest.mark.parametrize(("from_rate", "to_rate"), [(48_000, RATE), (44_100, RATE), (22_050, RATE), (24_000, RATE)])
def test_frequencies_that_the_new_rate_cannot_hold_are_gone(from_rate, to_rate):
    for frequency in np.linspace(to_rate / 2, from_rate / 2 - 1, 9):
        assert level(resample(tone(frequency, from_rate), from_rate, to_rate), to_rate) < -95


@pytest.mark.parametrize(("from_rate", "to_rate"), [(8_000, RATE), (RATE, 24_000), (RATE, 48_000), (RATE, 44_100)])
def test_a_higher_rate_holds_no_images(from_rate, to_rate):
    for part in (0.1, 0.5, 0.9):
        x = tone(part * from_rate / 2, from_rate)
        same_tone = tone(part * from_rate / 2, to_rate)
        assert level(resample(x, from_rate, to_rate) - same_tone, to_rate) < -95


@pytest.mark.parametrize(("from_rate", "to_rate"), [*PAIRS, (16_001, RATE)])
def test_nothing_is_delayed(from_rate, to_rate):
    x, expected = tone(440, from_rate, 0.5), tone(440, to_rate, 0.5)
    y = resample(x, from_rate, to_rate)
    assert (y - expected)[0, 1_000:-1_000].abs().max() < 1e-6


@pytest.mark.parametrize(("from_rate", "to_rate"), PAIRS + ODD_PAIRS[:2])
@pytest.mark.parametrize("constant", [-1.0, 1.0, 12_345 / 32_768])
def test_a_constant_stays_the_same_to_the_bit(from_rate, to_rate, constant):
    y = resample(torch.full((1, 3_000), constant), from_rate, to_rate)[0]
    assert (y[len(y) // 4 : -len(y) // 4] == constant).all()


@settings(max_examples=60)
@given(st.integers(0, 1_000), st.sampled_from(PAIRS + ODD_PAIRS))
def test_the_length_is_the_duration_rounded_up(samples, pair):
    from_rate, to_rate = pair
    expected = math.ceil(np.longdouble(samples) * to_rate / from_rate)
    assert resample(torch.zeros(2, samples), from_rate, to_rate).shape == (2, expected)
    assert resampled_length(samples, from_rate, to_rate) == expected


def test_the_same_rate_changes_nothing():
    x = noise(100)
    assert torch.equal(resample(x, RATE, RATE), x)
    resampler = Resampler(RATE, RATE)
    assert torch.equal(torch.cat([resampler.push(x), resampler.flush()], 1), x)
    assert resampler.latency == 0


# --- streams


def test_latency_is_what_an_output_waits_for():
    for from_rate, to_rate in PAIRS:
        resampler = Resampler(from_rate, to_rate)
        assert resampler.latency == pytest.approx(72 / min(from_rate, to_rate), rel=0.01)
        needed = round(resampler.latency * from_rate) + 1
        assert resampler.push(noise(needed - 1)).shape[1] == 0
        assert resampler.push(noise(1)).shape[1] == max(1, math.ceil(to_rate / from_rate))


def test_memory_does_not_grow():
    resampler, sizes = Resampler(44_100, RATE), set()
    for chunk in noise(200_000).split(882, 1):
        resampler.push(chunk)
        sizes.add(resampler.num_bytes)
    assert max(sizes) < 10_000


def test_rows_are_reset_alone():
    x = noise(2_000, 2)
    resampler = Resampler(48_000, RATE, 2)
    first = resampler.push(x)
    resampler.reset(rows=[1])
    y = resampler.push(x)
    lengths = resampler.lengths
    last = resampler.flush()
    whole = torch.cat([first[:1], y[:1, : lengths[0]], last[:1, : resampler.lengths[0]]], 1)
    assert torch.equal(whole, resample(torch.cat([x[:1], x[:1]], 1), 48_000, RATE))
    again = torch.cat([y[1:, : lengths[1]], last[1:, : resampler.lengths[1]]], 1)
    assert torch.equal(again, resample(x[1:], 48_000, RATE))


def test_mistakes_get_their_error():
    resampler = Resampler(48_000, RATE, 2)
    with pytest.raises(AudioError, match=r"shape \(1, 10\); expected \(2, S\)"):
        resampler.push(torch.zeros(1, 10))
    resampler.flush(rows=[1])
    with pytest.raises(StreamError, match="push to row 1 after its flush"):
        resampler.push(torch.zeros(2, 10))
    with pytest.raises(StreamError, match="flush of row 1 after its flush"):
        resampler.flush()
    with pytest.raises(InputError, match="rows has 2; expected rows from 0 to 1"):
        resampler.reset(rows=[2])
    with pytest.raises(AudioError, match="sample_rate is 999"):
        Resampler(999, RATE)
