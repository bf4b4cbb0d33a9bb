import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from speechtok.nn import seanet
from speechtok.nn.seanet import Conv, Decoder, Encoder, TransposedConv, mirrored


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_a_convolution_is_that_of_pytorch(frames, kernel_size, dilation, inputs, outputs, graded):
    conv = Conv(inputs, outputs, kernel_size, dilation=dilation)
    x = noise(2, frames, inputs)
    ends = mirrored(x, conv.padding - conv.padding // 2, conv.padding // 2)
    expected = F.conv1d(ends.transpose(1, 2), conv.weight, conv.bias, dilation=dilation).transpose(1, 2)
    with torch.set_grad_enabled(graded):
        assert torch.allclose(conv(x), expected, atol=1e-5)


@given(st.integers(1, 60), st.integers(2, 8), st.integers(1, 5))
def test_a_strided_convolution_is_that_of_pytorch(frames, stride, outputs):
    conv = Conv(3, outputs, 2 * stride, stride)
    x = noise(1, frames, 3)
    ends = mirrored(x, stride - stride // 2, stride // 2 + -frames % stride)
    expected = F.conv1d(ends.transpose(1, 2), conv.weight, conv.bias, stride).transpose(1, 2)
    with torch.no_grad():
        assert conv(x).shape == (1, -(-frames // stride), outputs)
        assert torch.allclose(conv(x), expected, atol=1e-5)


@given(st.integers(1, 40), st.integers(2, 8), st.integers(1, 5))
def test_a_transposed_convolution_is_that_of_pytorch(frames, stride, outputs):
    conv = TransposedConv(3, outputs, stride)
    x = noise(1, frames, 3)
    whole = F.conv_transpose1d(x.transpose(1, 2), conv.weight, conv.bias, stride).transpose(1, 2)
    with torch.no_grad():
        assert conv(x).shape == (1, frames * stride, outputs)
        assert torch.allclose(conv(x), whole[:, stride - stride // 2 :][:, : frames * stride], atol=1e-5)


@pytest.mark.parametrize("samples", [1, 500, 30 * 50, 30 * 199 + 1, 30 * 251 + 7, 30 * 400])
@pytest.mark.parametrize("dilation_base", [1, 2])
def test_pieces_join_without_a_seam(samples, dilation_base, monkeypatch):
    size = 4, (5, 3, 2), 6, 2, 3, dilation_base, 1
    encoder, decoder = Encoder(*size, True, "elu"), Decoder(*size, False, "snake")
    waveform = noise(1, samples)
    with torch.no_grad():
        latent = encoder(waveform)
        audio = decoder(latent)
        monkeypatch.setattr(seanet, "_PIECE_FRAMES", 10**9)
        assert torch.allclose(latent, encoder(waveform), atol=1e-5)
        assert torch.allclose(audio, decoder(latent), atol=1e-5)


def test_gradients_reach_every_weight():
    size = 4, (5, 2), 6, 1, 3, 2, 1
    encoder, decoder = Encoder(*size, True, "snake"), Decoder(*size, False, "elu")
    decoder(encoder(noise(2, 200))).square().sum().backward()
    for part in (encoder, decoder):
        assert all(parameter.grad is not None for parameter in part.parameters())
