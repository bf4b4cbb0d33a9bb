import pytest
import torch

from speechtok.errors import InputError
from speechtok.nn.state import pack_state, state_size, unpack_state


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_unpacking_undoes_packing(tiny, half):
    module = getattr(tiny, half)
    state = tuple(torch.randn_like(tensor) for tensor in module.initial_state(3))
    packed = pack_state(state)
    assert packed.shape == (3, state_size(module))
    assert all(map(torch.equal, unpack_state(packed, module), state))


def test_a_state_of_another_module_is_refused(tiny):
    state = pack_state(tiny.encoder.initial_state(1))
    with pytest.raises(InputError, match=r"the state has shape \(1, \d+\); expected \(1, \d+\): start anew"):
        unpack_state(state, tiny.decoder)
