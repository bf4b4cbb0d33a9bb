import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtok.nn import seanet
from speechtok.nn.seanet import Conv, SEANetDecoder, SEANetEncoder, TransposedConv, reflect_pad

ENDS = [pytest.param(False, id="reflection"), pytest.param(True, id="causal")]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_a_convolution_equals_conv1d(frames, kernel_size, dilation, inputs, outputs, with_gradients):
    conv = Conv(inputs, outputs, kernel_size, dilation=dilation)
    x = noise(2, frames, inputs)
    padding = (kernel_size - 1) * dilation
    ends = reflect_pad(x, padding - padding // 2, padding // 2)
    expected = F.conv1d(ends.transpose(1, 2), conv.weight, conv.bias, dilation=dilation).transpose(1, 2)
    with torch.set_grad_enabled(with_gradients):
        assert torch.allclose(conv(x), expected, atol=1e-5)


@given(st.integers(1, 60), st.integers(2, 8), st.integers(1, 5))
def test_a_strided_convolution_equals_conv1d(frames, stride, outputs):
    conv = Conv(3, outputs, 2 * stride, stride)
    x = noise(1, frames, 3)
    ends = reflect_pad(x, stride - stride // 2, stride // 2 + -frames % stride)
    expected = F.conv1d(ends.transpose(1, 2), conv.weight, conv.bias, stride).transpose(1, 2)
    with torch.no_grad():
        assert conv(x).shape == (1, -(-frames // stride), outputs)
        assert torch.allclose(conv(x), expected, atol=1e-5)


@given(st.integers(1, 40), st.integers(2, 8), st.integers(1, 5))
def test_a_transposed_convolution_equals_conv_transpose1d(frames, stride, outputs):
    conv = TransposedConv(3, outputs, stride)
    x = noise(1, frames, 3)
    whole = F.conv_transpose1d(x.transpose(1, 2), conv.weight, conv.bias, stride).transpose(1, 2)
    with torch.no_grad():
        assert conv(x).shape == (1, frames * stride, outputs)
        assert torch.allclose(conv(x), whole[:, stride - stride // 2 :][:, : frames * stride], atol=1e-5)


@pytest.mark.parametrize("samples", [1, 500, 30 * 50, 30 * 199 + 1, 30 * 251 + 7, 30 * 400])
@pytest.mark.parametrize("dilation_base", [1, 2])
@pytest.mark.parametrize("causal", ENDS)
def test_pieces_equal_the_whole(samples, dilation_base, causal, monkeypatch):
    monkeypatch.setattr(seanet, "PIECE_STEPS", 130)
    size = 4, (5, 3, 2), 6, 2, 3, dilation_base
    encoder, decoder = SEANetEncoder(*size, "elu", causal, 1, not causal), SEANetDecoder(*size, "snake", causal, 1)
    waveform = noise(1, samples)
    with torch.no_grad():
        latent = encoder(waveform)
        assert torch.allclose(torch.cat(list(encoder.pieces(waveform)), 1), latent, atol=1e-5)
        audio = torch.cat(list(decoder.pieces(latent.split(seanet.PIECE_FRAMES, 1))), 1)
        whole = decoder(latent)  # random weights may be loud
        assert torch.allclose(audio, whole, atol=1e-5 * max(1.0, float(whole.abs().max())))


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(0, 2), st.integers(1, 7), st.integers(1, 3), st.integers(0, 2))
def test_a_causal_network_does_not_depend_on_the_future(start, layers, kernel_size, dilation_base, lstm_layers):
    size = 2, (5, 2), 3, layers, kernel_size, dilation_base
    encoder, decoder = (
        SEANetEncoder(*size, "elu", True, lstm_layers, False),
        SEANetDecoder(*size, "snake", True, lstm_layers),
    )
    waveform = noise(1, 1003)
    other = waveform.clone()
    other[:, start:] = -3.0
    with torch.no_grad():
        before, after = encoder(waveform), encoder(other)
        frame = start // 10  # the first one that depends on a changed sample
        assert torch.equal(before[:, :frame], after[:, :frame])
        assert not torch.equal(before[:, frame], after[:, frame])
        after = torch.cat([before[:, :frame], after[:, frame:]], 1)
        assert torch.equal(decoder(before)[:, : frame * 10], decoder(after)[:, : frame * 10])


@pytest.mark.parametrize("causal", ENDS)
def test_gradients_reach_every_weight(causal):
    size = 4, (5, 2), 6, 1, 3, 2
    encoder, decoder = SEANetEncoder(*size, "snake", causal, 1, not causal), SEANetDecoder(*size, "elu", causal, 1)
    decoder(encoder(noise(2, 200))).square().sum().backward()
    for part in (encoder, decoder):
        assert all(parameter.grad is not None for parameter in part.parameters())
