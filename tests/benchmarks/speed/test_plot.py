import pytest
import torch

from benchmarks.speed.latency import ChunkLatency
from benchmarks.speed.plot import plot
from benchmarks.speed.throughput import OfflineSpeed, offline, ours


def test_the_plot_is_drawn(model, tmp_path):
    pytest.importorskip("matplotlib")
    rows = [offline(ours(model), 1, 1, 0.1), OfflineSpeed("other", 1, 1, 3.0, 4.0)]
    latencies = [ChunkLatency(1, 1, 20, torch.rand(50).numpy())]
    plot(rows, latencies, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
