import copy

import pytest
import torch
from torch import nn

from training.optimizers import Optimizers, learning_rate_factor, muon_and_adamw, restore_optimizer


def test_the_learning_rate_warms_up_stays_and_decays_to_zero():
    factors = [learning_rate_factor(step, steps=100, warmup_steps=10, decay_fraction=0.4) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10:60] == [1.0] * 50
    assert factors[80] == pytest.approx(0.5)
    assert factors[100] == 0.0


def test_there_may_be_no_warm_up():
    assert learning_rate_factor(0, steps=10, warmup_steps=0, decay_fraction=0.5) == 1.0


def test_rates_are_shares_of_each_peak():
    model = nn.Linear(3, 2)
    optimizers = muon_and_adamw([model.weight], [model.bias], muon_lr=0.1, adamw_lr=0.01)
    optimizers.set_rates(0.5)
    assert [optimizer.param_groups[0]["lr"] for optimizer, _ in optimizers.peaks] == [0.05, 0.005]
    assert optimizers.learning_rate == 0.05


def test_without_matrices_there_is_only_adamw():
    ((adamw, peak),) = muon_and_adamw([], nn.Linear(3, 2).parameters(), 0.1, 0.01).peaks
    assert isinstance(adamw, torch.optim.AdamW)
    assert peak == 0.01


def step(model: nn.Module, optimizers: Optimizers, seed: int) -> None:
    model(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
    optimizers.set_rates(1.0)
    optimizers.step()
    optimizers.zero_grad()


def test_restored_optimizers_continue_exactly():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizers = muon_and_adamw([model.weight], [model.bias], 0.1, 0.01)
    step(model, optimizers, 0)
    other = copy.deepcopy(model)
    restored = muon_and_adamw([other.weight], [other.bias], 0.1, 0.01)
    restored.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    step(model, optimizers, 1)
    step(other, restored, 1)
    assert torch.equal(model.weight, other.weight)
    assert torch.equal(model.bias, other.bias)


def test_a_state_that_was_saved_on_a_gpu_is_restored_on_a_cpu():
    optimizer = torch.optim.AdamW(nn.Linear(3, 2).parameters(), capturable=False)
    state = optimizer.state_dict()
    state["param_groups"][0]["capturable"] = True
    restore_optimizer(optimizer, state)
    assert optimizer.param_groups[0]["capturable"] is False


def test_states_of_other_optimizers_are_an_error():
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="zip"):
        muon_and_adamw([model.weight], [model.bias], 0.1, 0.01).load_state_dict([])
