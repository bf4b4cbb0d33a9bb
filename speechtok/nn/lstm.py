"""LSTM over a whole signal, computed in parallel over time to the accuracy of float32."""

import torch
from torch import Tensor, nn

from speechtok.nn.packed_linear import Product, pack
from speechtok.nn.weight_cache import WeightCache

PIECE_STEPS = 2048
"""Steps of the signal per run: memory stays bounded."""
_SEGMENT_STEPS = 40
_MAX_SEGMENTS = 32
_CHECK_INTERVAL = 8
_TOLERANCE = 1e-6
"""Two runs whose states differ by less have converged."""

LSTMState = tuple[Tensor, Tensor]
"""Hidden and cell state of one layer in one direction, ``(B, D)`` each."""
Products = tuple[Product, Product]
"""The products with the input and with the hidden state."""


class ResidualLSTM(nn.Module):
    """LSTM layers (Hochreiter and Schmidhuber 1997) with a residual connection around them.

    A step of a recurrence reads all weights to multiply them with one row, so memory limits its speed. Here, a long
    signal is cut into segments that are computed together, as rows of one product. All segments start from a state of
    zeros. Each is then computed again from the final state of the segment before it, until its states equal those of
    the earlier run. LSTMs forget, so this usually takes a few steps. One that does not forget takes as many rounds as
    there are segments, with the same result.

    Args:
        dim: width ``D`` of the input and of each direction.
        num_layers: number of layers.
        bidirectional: whether each layer also runs backwards; the output is then twice as wide.
    """

    def __init__(self, dim: int, num_layers: int, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, num_layers, batch_first=True, bidirectional=bidirectional)
        self.directions = 2 if bidirectional else 1
        self._products: list[WeightCache[Products]] = [WeightCache() for _ in range(num_layers * self.directions)]

    def initial_state(self, batch_size: int) -> list[LSTMState]:
        """State before the first step, of each layer and direction."""
        device = next(self.lstm.parameters()).device
        zeros = torch.zeros(batch_size, self.lstm.hidden_size, dtype=torch.float32, device=device)
        return [(zeros, zeros)] * len(self._products)

    def forward(self, x: Tensor) -> Tensor:
        """``x``: a whole signal, ``(B, T, D)``. Returns ``(B, T, D)``, or ``(B, T, 2 * D)`` if bidirectional."""
        if torch.is_grad_enabled() and (x.requires_grad or self.lstm.weight_hh_l0.requires_grad):
            y: Tensor = self.lstm(x)[0]
            return y + x.repeat(1, 1, self.directions)
        return self.advance(x, self.initial_state(len(x)))[0]

    def advance(self, x: Tensor, state: list[LSTMState]) -> tuple[Tensor, list[LSTMState]]:
        """Compute the next steps of a signal, without gradient. A bidirectional LSTM needs the whole signal.

        Args:
            x: ``(B, T, D)``.
            state: before the first step.

        Returns:
            ``(B, T, D)``, or ``(B, T, 2 * D)`` if bidirectional, and the state after the last step.
        """
        y, after = x, []
        for layer in range(self.lstm.num_layers):
            first = layer * self.directions
            y, states = self._layer(y, layer, state[first : first + self.directions])
            after += states
        for direction in y.chunk(self.directions, 2):
            direction += x
        return y, after

    def _layer(self, x: Tensor, layer: int, state: list[LSTMState]) -> tuple[Tensor, list[LSTMState]]:
        batch, steps, _ = x.shape
        width = self.lstm.hidden_size
        y = x.new_empty(batch, steps, self.directions * width)
        after = []
        for direction, now in enumerate(state):
            names = [
                f"{kind}_l{layer}{'_reverse' * direction}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            weights = [getattr(self.lstm, name) for name in names]
            project, recur = self._products[layer * self.directions + direction](_prepare, *weights)
            starts = range(0, steps, PIECE_STEPS)
            for start in reversed(starts) if direction else starts:
                piece = slice(start, start + PIECE_STEPS)
                gates = project(x[:, piece].flip(1) if direction else x[:, piece].contiguous())
                hidden, now = run(gates, recur, now)
                y[:, piece, direction * width : (direction + 1) * width] = hidden.flip(1) if direction else hidden
            after.append(now)
        return y, after


def run(gates: Tensor, recur: Product, state: LSTMState) -> tuple[Tensor, LSTMState]:
    """Compute all steps of one layer in one direction.

    Args:
        gates: contribution of the input to the gates, ``(B, T, 4 * D)``, in PyTorch's order: input, forget, cell,
            output.
        recur: product of the hidden state that is added to the gates, ``(M, D)`` to ``(M, 4 * D)``.
        state: before the first step.

    Returns:
        Hidden states ``(B, T, D)``, and the state after the last step.
    """
    batch, steps, _ = gates.shape
    width = state[0].shape[1]
    count = max(1, min(_MAX_SEGMENTS, steps // _SEGMENT_STEPS))
    length = -(-steps // count)
    count = -(-steps // length)
    gates = nn.functional.pad(gates, (0, 0, 0, count * length - steps))
    gates = gates.view(batch * count, length, -1).transpose(0, 1).contiguous()
    # begins[:, :, k]: state before segment k, which is the state after segment k - 1
    begins = gates.new_zeros(2, batch, count + 1, width)
    begins[:, :, 0] = torch.stack(state)
    states = gates.new_empty(2, length, batch * count, width)
    rows = torch.arange(batch * count, device=gates.device)
    again = False
    while len(rows):
        hidden, cell = begins[:, :, :-1].reshape(2, -1, width)[:, rows]
        for step in range(length):
            hidden, cell = _step(gates[step, rows] + recur(hidden), cell)
            now = torch.stack([hidden, cell])
            if again and step % _CHECK_INTERVAL == 0 and bool(_converged(now, states[:, step, rows]).all()):
                return _result(states, batch, steps)
            states[:, step, rows] = now
        ends = torch.stack([hidden, cell])
        utterance, segment = rows // count, rows % count
        changed = torch.ones_like(rows, dtype=torch.bool)
        if again:
            changed = ~_converged(ends, begins[:, utterance, segment + 1])
        begins[:, utterance, segment + 1] = ends
        rows = (rows + 1)[changed & (segment + 1 < count)]
        again = True
    return _result(states, batch, steps)


def _step(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    enter, forget, new, leave = gates.chunk(4, 1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * cell.tanh(), cell


def _converged(new: Tensor, old: Tensor) -> Tensor:
    """Whether each row of two states ``(2, M, D)`` is equal within the tolerance, ``(M,)``."""
    return ((new - old).abs() <= _TOLERANCE * old.abs().clamp_min(1.0)).all(-1).all(0)


def _result(states: Tensor, batch: int, steps: int) -> tuple[Tensor, LSTMState]:
    """Join segments, ``states``: ``(2, steps of a segment, segments, D)``."""
    _, length, rows, width = states.shape
    whole = states.view(2, length, batch, rows // batch, width).permute(0, 2, 3, 1, 4).flatten(2, 3)[:, :, :steps]
    hidden, cell = whole.unbind(0)
    return hidden, (hidden[:, -1].clone(), cell[:, -1].clone())  # views would keep all steps in memory


def _prepare(weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Products:
    return pack(weight_ih, bias_ih.float() + bias_hh.float()), pack(weight_hh)
