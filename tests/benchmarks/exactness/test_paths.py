import torch

from benchmarks.exactness.paths import alone, batched, decoded_streamed, interleaved, streamed


def test_every_path_encodes_every_utterance_completely(tiny, waveforms):
    expected = [tiny.encode(x, 16_000).codes[0] for x in waveforms]
    audio = alone(tiny, waveforms)[1]
    paths = [alone(tiny, waveforms)[0], batched(tiny, waveforms, 2)[0], streamed(tiny, waveforms)]
    for codes in [*paths, interleaved(tiny, waveforms, 2)]:
        assert all(torch.equal(a, b) for a, b in zip(codes, expected, strict=True))
    assert decoded_streamed(tiny, expected, waveforms) == audio == batched(tiny, waveforms, 2)[1]
