"""The arithmetic of the live benchmarks; the measurements themselves run for minutes."""

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra live is not installed")
pytest.importorskip("websockets", reason="the extra live is not installed")

from benchmarks.latency.echo import make_room
from benchmarks.latency.load import LoadResult
from benchmarks.latency.plot import plot
from benchmarks.latency.soak import SoakResult
from benchmarks.latency.waterfall import Part, Waterfall

WATERFALL = Waterfall("server", [Part("wait", [0.3, 0.5]), Part("transport", [0.01, 0.03], added=True)])


def test_a_waterfall_is_the_sum_of_its_parts_question_by_question():
    assert WATERFALL.total == pytest.approx([0.31, 0.53])
    assert WATERFALL.added == pytest.approx([0.01, 0.03])
    assert "| of which speechtok adds | 20.0 | 10.0 to 30.0 |" in str(WATERFALL)


def test_a_waterfall_is_drawn(tmp_path):
    plot([WATERFALL], tmp_path / "waterfall.png")
    assert (tmp_path / "waterfall.png").stat().st_size > 5_000


def test_a_percentile_of_a_histogram_is_an_upper_bound():
    result = LoadResult(2, 0.1, np.array([0.01]), [(0.01, 50.0), (0.02, 99.0), (float("inf"), 100.0)], 0)
    assert [result.server_percentile(share) for share in (50, 99, 100)] == [0.01, 0.02, float("inf")]


def test_a_soak_fails_for_each_broken_promise():
    good = {"speechtok_callers": 0.0}
    assert not SoakResult(good=3, metrics=good).failed
    for broken in ({"different": 1}, {"broken": 1}, {"tracebacks": 1}):
        assert SoakResult(good=3, metrics=good, **broken).failed
    assert SoakResult(metrics={"speechtok_callers": 1.0}).failed


def test_a_room_does_not_change_the_loudness():
    room = make_room(0.3, 0.1, 16_000, np.random.default_rng(0))
    assert np.square(room).sum() == pytest.approx(1.0)
    assert not room[:1_600].any()
    assert room[1_600]
