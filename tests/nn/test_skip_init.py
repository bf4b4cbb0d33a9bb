import torch
from torch import nn

from speechtok import ConvNeXtTokenizer
from speechtok.nn.skip_init import SkipInit


def test_shapes_and_constants_are_set_without_random_numbers(tiny):
    state = torch.get_rng_state()
    with SkipInit():
        made = ConvNeXtTokenizer(tiny.config)
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: x.shape for name, x in made.state_dict().items()} == {
        name: x.shape for name, x in tiny.state_dict().items()
    }
    assert made.decoder.head.bias[-1] == 1
    made.load_state_dict(tiny.state_dict())
    assert made.fingerprint == tiny.fingerprint


def test_every_way_to_call_an_initializer_is_skipped():
    with SkipInit():
        x = torch.full((3,), 7.0)
        assert nn.init.uniform_(tensor=x) is x
        assert nn.init.normal_(x, std=2.0) is x
        assert x.uniform_() is x
        assert torch.equal(x, torch.full((3,), 7.0))
    assert not torch.equal(x.uniform_(), torch.full((3,), 7.0))


def test_weights_are_initialized_outside_the_context():
    assert nn.Linear(8, 8).weight.std() > 0.1
