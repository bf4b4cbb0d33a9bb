import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtok.nn.lstm import ResidualLSTM


def make_lstm(dim: int = 8, layers: int = 2, bidirectional: bool = True, seed: int = 0) -> ResidualLSTM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResidualLSTM(dim, layers, bidirectional)


def sequential(lstm: ResidualLSTM, x: torch.Tensor) -> torch.Tensor:
    return lstm.lstm(x)[0] + x.repeat(1, 1, lstm.directions)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25)
@given(st.integers(1, 700), st.integers(1, 3), st.booleans(), st.integers(1, 3), st.integers(0, 99))
def test_the_parallel_lstm_equals_the_sequential_one_to_float32_accuracy(steps, layers, bidirectional, batch, seed):
    lstm = make_lstm(8, layers, bidirectional, seed)
    x = noise(batch, steps, 8, seed=seed)
    with torch.no_grad():
        assert torch.allclose(lstm(x), sequential(lstm, x), atol=1e-5)


@pytest.mark.parametrize("forget", [2.0, 5.0, 20.0])
def test_an_lstm_that_forgets_slowly_or_never_equals_the_sequential_one(forget):
    lstm = make_lstm()
    with torch.no_grad():
        for name, parameter in lstm.lstm.named_parameters():
            if name.startswith("bias_ih"):
                parameter[8:16] += forget
        x = noise(1, 600, 8)
        assert torch.allclose(lstm(x), sequential(lstm, x), atol=1e-4)


def test_a_signal_longer_than_a_piece_equals_the_sequential_one():
    lstm = make_lstm(4, 1)
    x = noise(1, 2 * 2048 + 77, 4)
    with torch.no_grad():
        assert torch.allclose(lstm(x), sequential(lstm, x), atol=1e-5)


def test_pieces_that_pass_on_their_state_equal_the_whole():
    lstm = make_lstm(4, 2, bidirectional=False)
    x = noise(2, 500, 4)
    state, pieces = lstm.initial_state(2), []
    for piece in x.split((1, 140, 200, 159), 1):
        y, state = lstm.advance(piece, state)
        pieces.append(y)
    with torch.no_grad():
        assert torch.allclose(torch.cat(pieces, 1), sequential(lstm, x), atol=1e-5)


def test_gradients_reach_the_input():
    x = noise(1, 10, 8).requires_grad_()
    make_lstm()(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_changed_weights_are_noticed():
    lstm, x = make_lstm(), noise(1, 100, 8)
    with torch.no_grad():
        lstm(x)
        lstm.lstm.weight_hh_l1.mul_(2)
        lstm.lstm.weight_ih_l0_reverse.mul_(2)
        assert torch.allclose(lstm(x), sequential(lstm, x), atol=1e-5)
