import pytest

from benchmarks.speed.memory import streamed_hour_megabytes


@pytest.mark.slow
def test_a_stream_holds_little_and_does_not_grow(model):
    held, grown = streamed_hour_megabytes(model, seconds=120)
    assert 0 < held < 1
    assert grown < 50
