import pytest
import torch

import speechtok
from benchmarks import speed
from benchmarks.speed import (
    ChunkLatency,
    OfflineSpeed,
    chunk_latency,
    median_seconds,
    noise,
    offline,
    ours,
    peers,
    plot,
)


@pytest.fixture(autouse=True)
def same_threads_after():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("model")
    tiny.save(directory)
    return str(directory)


def test_throughput_is_seconds_of_audio_per_second(monkeypatch):
    times = iter([10.0, 2.0])
    monkeypatch.setattr(speed, "median_seconds", lambda call: (call(), next(times))[1])
    codec = speed.Codec("x", 100, lambda x: x.shape, lambda shape: shape)
    assert offline(codec, 1, 4, 5.0) == OfflineSpeed("x", 1, 4, encode=2.0, decode=10.0)


def test_calls_are_timed_after_one_run_of_warm_up():
    runs = []
    assert median_seconds(lambda: runs.append(1), min_runs=5, min_seconds=0.0) >= 0
    assert len(runs) == 6


def test_every_chunk_after_the_warm_up_is_timed(model):
    latency = chunk_latency(speechtok.load(model), 1, 2, 40, 7)
    assert latency.milliseconds.shape == (7,)
    assert 0 < latency.percentile(50) <= latency.percentile(99) <= latency.percentile(100)


@pytest.mark.slow
def test_the_peers_encode_and_decode():
    pytest.importorskip("transformers")
    for codec in peers():
        decoded = codec.decode(codec.encode(noise(1, codec.sample_rate)))
        assert abs(decoded.audio_values.shape[-1] - codec.sample_rate) < codec.sample_rate // 10, codec.name


@pytest.mark.slow
def test_a_stream_holds_little_and_does_not_grow(model):
    held, grown = speed.streamed_hour_megabytes(model, seconds=120)
    assert 0 < held < 1
    assert grown < 50


def test_the_plot_is_drawn(model, tmp_path):
    pytest.importorskip("matplotlib")
    rows = [offline(ours(model), 1, 1, 0.1), OfflineSpeed("other", 1, 1, 3.0, 4.0)]
    latencies = [ChunkLatency(1, 1, 20, torch.rand(50).numpy())]
    plot(rows, latencies, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
