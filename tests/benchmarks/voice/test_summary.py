import math

import numpy as np
import pytest

from benchmarks.bootstrap import Estimate
from benchmarks.evaluation.scoring import Result
from benchmarks.voice import summary
from benchmarks.voice.measures import ALONE, COMPLETED, SOURCE, TRUE, TWO, key
from benchmarks.voice.speed import Speed
from benchmarks.voice.tables import target_table


def scores(rows, speakers=None):
    """``rows``: scores of each case by name; a number stands for a weight of 1."""
    results = [
        Result(f"u{i}", "", scores={k: v if isinstance(v, tuple) else (v, 1.0) for k, v in row.items()})
        for i, row in enumerate(rows)
    ]
    names = speakers or [f"s{i}" for i in range(len(rows))]
    return summary.Scores(results, {f"u{i}": name for i, name in enumerate(names)})


def gap(alone, completed, source):
    return {key("speaker", ALONE): alone, key("speaker", COMPLETED): completed, key("speaker", SOURCE): source}


def test_the_gap_closed_is_the_ratio_of_the_mean_distances():
    found = summary.gap_closed(scores([gap(0.5, 0.6, 0.9), gap(0.5, 0.7, 0.7), gap(0.6, 0.6, 0.8)]), COMPLETED)
    assert found.mean == pytest.approx((0.1 + 0.2 + 0.0) / (0.4 + 0.2 + 0.2))
    assert found.low < found.mean < found.high
    assert found.count == 3


@pytest.mark.parametrize(("completed", "share"), [(0.5, 0.0), (0.8, 1.0), (0.65, 0.5)])
def test_nothing_half_and_all_of_the_gap(completed, share):
    assert summary.gap_closed(scores([gap(0.5, completed, 0.8)] * 3), COMPLETED).mean == pytest.approx(share)


def test_a_case_without_a_voice_does_not_count():
    found = summary.gap_closed(scores([gap(0.5, math.nan, 0.9), gap(0.5, 0.7, 0.9)]), COMPLETED)
    assert found.mean == pytest.approx(0.5)
    assert found.count == 1


def test_an_interval_is_over_speakers_not_over_their_utterances():
    values = [0.0, 1.0] * 20
    rows = [{key("x", "v"): value} for value in values]
    many = scores(rows).mean("x", "v")
    two = scores(rows, [f"s{i % 2}" for i in range(40)]).mean("x", "v")
    assert many.mean == two.mean == 0.5
    assert many.count == two.count == 40
    assert (two.low, two.high) == (0.0, 1.0)
    assert 0.3 < many.low < many.high < 0.7


def test_word_errors_are_per_word_and_compared_over_the_same_cases():
    rows = [
        {key("wer", COMPLETED): (0.5, 10.0), key("wer", TWO): (0.2, 10.0)},
        {key("wer", COMPLETED): (0.0, 30.0), key("wer", TWO): (0.1, 30.0)},
        {key("wer", TWO): (1.0, 30.0)},
    ]
    assert scores(rows).mean("wer", COMPLETED).mean == pytest.approx(5 / 40)
    difference = scores(rows).difference("wer", COMPLETED, TWO)
    assert difference.mean == pytest.approx((0.3 * 10 - 0.1 * 30) / 40)
    assert difference.count == 2


def test_a_share_counts_margins_above_0_and_leaves_out_what_is_unknown():
    won = summary.share(np.array([0.1, -0.1, 0.0, math.nan]))
    assert won[:3].tolist() == [1, 0, 0]
    assert math.isnan(won[3])


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(summary, "RESAMPLES", 200)


@pytest.mark.usefixtures("few_resamples")
def test_rank_correlations_of_known_orders():
    speakers = np.array(["a", "b", "c", "d"])
    rising = np.arange(7.0) ** 2 + 0.1 * np.arange(4)[:, None]
    assert summary.rank_correlation(rising[:1], speakers[:1]).mean == pytest.approx(1)
    assert summary.rank_correlation(-rising[:1], speakers[:1]).mean == pytest.approx(-1)
    found = summary.rank_correlation(rising, speakers)
    assert 0.95 < found.low <= found.mean <= found.high <= 1
    assert found.count == 4
    holes = np.where(np.eye(4, 7, dtype=bool), math.nan, rising)
    assert summary.rank_correlation(holes, speakers).mean > 0.95
    assert math.isnan(summary.rank_correlation(np.full((4, 7), 2.0), speakers).mean)


@pytest.mark.usefixtures("few_resamples")
def test_utterances_that_differ_more_than_the_steps_lower_the_rank_correlation_over_all():
    values = np.arange(7.0) + 20 * np.arange(4)[:, None]
    assert summary.rank_correlation(values, np.array(["a", "b", "c", "d"])).mean < 0.5


def found_with(**changed):
    even = {name: Estimate(value, math.nan, math.nan, 1) for name, value in changed.items()}
    none = Estimate(math.nan, math.nan, math.nan, 0)
    return {
        "resynthesis": {
            "measures": {"voicing_f1": {COMPLETED: even.get("voicing", none)}},
            "gap_closed": even.get("gap", none),
            "beats_wrong_prompt": none,
            "pitch_distance": {"pitch": {COMPLETED: even.get("pitch", none), TRUE: none}},
            "differences": {
                "dnsmos": even.get("dnsmos", none),
                "comb": even.get("comb", none),
                "wer": none,
                "wer@base": even.get("wer", none),
            },
        }
    }


@pytest.mark.parametrize(
    ("name", "good", "bad", "title"),
    [
        ("gap", 0.5, 0.49, "gap of the speaker similarity closed"),
        ("pitch", 1.5, 1.51, "mean F0 and that of the prompt, semitones apart"),
        ("voicing", 0.75, 0.74, "voicing F1"),
        ("dnsmos", -0.15, -0.16, "DNSMOS over true codes"),
        ("comb", 2.0, 2.1, "comb excess over true codes, dB"),
        ("wer", 0.0, 0.01, "word errors over two true codebooks, base"),
    ],
)
def test_a_target_is_reached_or_missed_or_was_not_measured(name, good, bad, title):
    for value, reached in ((good, True), (bad, False)):
        rows = {row.title: row.reached for row in summary.targets(found_with(**{name: value}))}
        assert rows.pop(title) is reached
        assert set(rows.values()) == {None}


def test_speed_has_targets_and_a_table_says_what_is_missed():
    rows = summary.targets({"speed": Speed(3, 0.1, 0.05, 10.0, 0.3, 0.02)})
    assert [(row.value, row.reached) for row in rows] == [(10.0, True), (300.0, False)]
    assert "| speed, times real time on one core | 10.0 | at least 5 | yes |" in target_table(rows)
    assert "| 300.0 | at most 250 | **no** |" in target_table(rows)
