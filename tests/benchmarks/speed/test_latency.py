import speechtok
from benchmarks.speed.latency import chunk_latency


def test_every_chunk_after_the_warm_up_is_timed(model):
    latency = chunk_latency(speechtok.load(model), 1, 2, 40, 7)
    assert latency.milliseconds.shape == (7,)
    assert 0 < latency.percentile(50) <= latency.percentile(99) <= latency.percentile(100)
