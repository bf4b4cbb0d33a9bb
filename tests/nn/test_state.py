import pytest
import torch

from speechtok.errors import StreamError
from speechtok.nn.state import pack_state, unpack_state


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_unpacking_undoes_packing(tiny, half):
    module = getattr(tiny, half)
    state = tuple(torch.randn_like(tensor) for tensor in module.initial_state(3))
    packed = pack_state(state)
    assert packed.shape == (3, sum(tensor[0].numel() for tensor in state))
    assert all(map(torch.equal, unpack_state(packed, module), state))


def test_a_state_of_another_module_is_refused(tiny):
    state = pack_state(tiny.encoder.initial_state(1))
    with pytest.raises(StreamError, match=r"the state has shape \(1, \d+\); expected \(1, \d+\): start anew"):
        unpack_state(state, tiny.decoder)
