"""``torch.export`` takes the modules as they are, and the programs compute the same bits."""

import pytest
import torch
from torch.export import Dim


@pytest.mark.slow
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_an_exported_module_computes_the_same_for_any_number_of_frames(half, new_tokenizer, tmp_path):
    tokenizer = new_tokenizer(4)
    module, frames = getattr(tokenizer, half), Dim("frames", min=2, max=4096)
    latent = half == "decoder"
    step, axis = (1, {1: frames}) if latent else (tokenizer.hop_length, {1: tokenizer.hop_length * frames})

    def make(count):
        shape = (1, count, tokenizer.config.latent_dim) if latent else (1, count * step)
        return torch.randn(shape, generator=torch.Generator().manual_seed(count))

    state = module.initial_state(1)
    program = torch.export.export(module, (make(5), state), dynamic_shapes=(axis, (None,) * len(state)), strict=False)
    torch.export.save(program, tmp_path / "program.pt2")
    exported = torch.export.load(tmp_path / "program.pt2").module()
    expected_state = state
    for count in (2, 3, 40):
        result, state = exported(make(count), state)
        expected, expected_state = module(make(count), expected_state)
        assert torch.equal(result, expected)
        assert all(map(torch.equal, state, expected_state))


@pytest.mark.slow
def test_an_exported_quantizer_gives_the_same_codes(new_tokenizer):
    quantizer = new_tokenizer(5).quantizer

    class Encode(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer = quantizer

        def forward(self, latent):
            return self.quantizer.encode(latent, 4)

    latent = torch.randn(1, 70, 8, generator=torch.Generator().manual_seed(0))
    frames = {1: Dim("frames", min=2, max=4096)}
    program = torch.export.export(Encode(), (latent[:, :5],), dynamic_shapes=(frames,), strict=False).module()
    for count in (2, 70):
        assert torch.equal(program(latent[:, :count]), quantizer.encode(latent[:, :count], 4))
