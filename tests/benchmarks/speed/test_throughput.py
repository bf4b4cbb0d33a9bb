import pytest

from benchmarks.speed import throughput
from benchmarks.speed.noise import noise
from benchmarks.speed.throughput import Codec, OfflineSpeed, median_seconds, offline, peers


def test_throughput_is_seconds_of_audio_per_second(monkeypatch):
    times = iter([10.0, 2.0])
    monkeypatch.setattr(throughput, "median_seconds", lambda call: (call(), next(times))[1])
    codec = Codec("x", 100, lambda x: x.shape, lambda shape: shape)
    assert offline(codec, 1, 4, 5.0) == OfflineSpeed("x", 1, 4, encode=2.0, decode=10.0)


def test_calls_are_timed_after_one_run_of_warm_up():
    runs = []
    assert median_seconds(lambda: runs.append(1), min_runs=5, min_seconds=0.0) >= 0
    assert len(runs) == 6


@pytest.mark.slow
def test_the_peers_encode_and_decode():
    pytest.importorskip("transformers")
    for codec in peers():
        decoded = codec.decode(codec.encode(noise(1, codec.sample_rate)))
        assert abs(decoded.audio_values.shape[-1] - codec.sample_rate) < codec.sample_rate // 10, codec.name
