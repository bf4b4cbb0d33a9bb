import numpy as np
import pytest

from benchmarks.events.turns import (
    Policy,
    Watched,
    choose_policies,
    compare_timer,
    make_turn,
    timer_at,
)
from training.events.scenes import Turn

HOP, RATE = 320, 16_000


@pytest.fixture
def recorded():
    """Two bursts of a tone with a pause of 0.3 s between them."""
    t = np.arange(RATE * 3 // 2) / RATE
    talks = ((t >= 0.3) & (t < 0.7)) | ((t >= 1.0) & (t < 1.3))
    noise = 0.001 * np.random.default_rng(0).standard_normal(len(t))
    return Turn(
        (0.5 * np.sin(2 * np.pi * 200 * t) * talks + noise).astype(np.float32), ((4_800, 11_200), (16_000, 20_800))
    )


@pytest.fixture
def turn(recorded):
    return make_turn(recorded, HOP, RATE, 0)


def watched(turn, end_of_turn=None):
    speech = turn.labels.speech.astype(float)
    return Watched([turn], [speech], None if end_of_turn is None else [end_of_turn], HOP, RATE)


def test_a_turn_has_its_own_pauses_and_a_long_silence_after_it(turn):
    assert turn.end - turn.start == 16_000
    assert len(turn.waveform) - turn.end >= 2.5 * RATE
    assert np.flatnonzero(np.diff(turn.labels.speech)).size == 4


@pytest.mark.parametrize(("frames", "cut_off"), [(5, True), (14, True), (16, False), (40, False)])
def test_a_timer_cuts_the_turn_off_if_it_is_shorter_than_the_pause(turn, frames, cut_off):
    result = watched(turn).apply(Policy(2.0, 0, frames))
    assert result.cut_off.tolist() == [cut_off]
    assert result.delays[0] == pytest.approx(frames * HOP / RATE, abs=0.02)


def test_a_perfect_probability_ends_the_turn_at_once_and_never_before(turn):
    end_of_turn = np.zeros(len(turn.labels.speech))
    end_of_turn[-(-turn.end // HOP) :] = 1.0
    result = watched(turn, end_of_turn).apply(Policy(0.5, 1, 99))
    assert result.cut_off.tolist() == [False]
    assert 0 <= result.delays[0] <= 0.04


def test_a_probability_counts_after_the_shortest_delay_only(turn):
    ones = np.ones(len(turn.labels.speech))
    assert watched(turn, ones).apply(Policy(0.5, 16, 99)).cut_off.tolist() == [False]
    assert watched(turn, ones).apply(Policy(0.5, 10, 99)).cut_off.tolist() == [True]


def test_nothing_ends_a_turn_before_any_speech_was_heard(turn):
    silence = Watched([turn], [np.zeros(len(turn.labels.speech))], [np.ones(len(turn.labels.speech))], HOP, RATE)
    result = silence.apply(Policy(0.5, 0, 5))
    assert result.cut_off.tolist() == [False]
    assert result.delays[0] == pytest.approx((len(turn.waveform) - turn.end) / RATE, abs=0.02)


def test_policies_are_chosen_by_their_cut_offs_within_a_mean_delay(turn):
    end_of_turn = np.where(np.arange(len(turn.labels.speech)) * HOP >= turn.end, 0.9, 0.1)
    seen = watched(turn, end_of_turn)
    for policy, wanted in zip(choose_policies(seen, [0.1, 0.8]), [0.1, 0.8], strict=True):
        result = seen.apply(policy)
        assert result.cut_off.mean() == 0
        assert result.delays.mean() <= wanted


def test_a_timer_is_compared_at_the_same_mean_delay(turn):
    seen = watched(turn)
    assert timer_at(seen, 0.25).delays.mean() == pytest.approx(0.25, abs=1e-6)
    both = compare_timer(seen.apply(Policy(2.0, 0, 40)), timer_at(seen, 0.2))
    assert both["cut_off"] == 1
    assert both["more"] == [1, 1]


def test_noise_is_added_at_the_ratio_that_was_asked_for(recorded, turn):
    noisy = make_turn(recorded, HOP, RATE, 0, None, 10.0)
    noise = noisy.waveform - turn.waveform
    speech = np.sqrt(np.mean(np.square(turn.waveform[turn.start + 100 : turn.start + 6_000])))
    assert 20 * np.log10(speech / np.sqrt(np.mean(np.square(noise)))) == pytest.approx(10, abs=0.5)
    assert np.array_equal(noisy.labels.speech, turn.labels.speech)
