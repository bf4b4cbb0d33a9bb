import torch

from benchmarks.codecs.load import load_codec


def test_identity_loses_nothing(audio):
    same = load_codec("identity")(audio)
    assert torch.equal(same.waveform, audio)
    assert same.bits == 16 * len(audio)


def test_lowpass_removes_what_is_above_the_cutoff(audio):
    low = load_codec("lowpass:2000")(audio)
    assert len(low.waveform) == len(audio)
    power = torch.fft.rfft(low.waveform).abs().square()
    hertz = torch.fft.rfftfreq(len(audio), 1 / 16_000)
    assert power[hertz > 2300].sum() < 1e-4 * power.sum()
    assert power[hertz < 1500].sum() > 0.5 * torch.fft.rfft(audio).abs().square()[hertz < 1500].sum()
