import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn

from speechtok.nn import weight_cache
from speechtok.nn.weight_cache import WeightCache


class Counter:
    """Counts how often a value is computed."""

    def __init__(self) -> None:
        self.cache: WeightCache[int] = WeightCache()
        self.count = 0

    def __call__(self, *sources: Tensor | nn.Module) -> int:
        """How often it was computed, with this call."""
        return self.cache(self._make, *sources)

    def _make(self, *_: Tensor | nn.Module) -> int:
        self.count += 1
        return self.count


@pytest.fixture(params=["one call for all tensors", "one call per tensor"])
def counter(request, monkeypatch) -> Counter:
    if request.param == "one call per tensor":
        monkeypatch.setattr(weight_cache, "_compare_addresses", None)
    return Counter()


@pytest.fixture
def module() -> nn.Module:
    layers = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))])
    return layers.requires_grad_(False)


def test_a_value_is_kept_while_nothing_changes(counter, module):
    weight = torch.ones(3)
    for _ in range(3):
        assert counter(weight, module) == 1
    module.train().eval().requires_grad_().requires_grad_(False)
    assert counter(weight, module) == 1


def add_in_place(module):
    module[0].weight.add_(1.0)


def add_to_buffer(module):
    module[1][1].running_mean += 1.0


def write_one_element(module):
    module[0].weight.view(-1)[-1] += 1e-3


def replace_parameter(module):
    module[0].weight = nn.Parameter(module[0].weight + 1.0)


def replace_parameter_by_its_transpose(module):
    module[0].weight = nn.Parameter(module[0].weight.t())  # the same memory, and the same version


def replace_buffer(module):
    module[1][1].running_mean = torch.ones(4)


def replace_table_entry(module):
    module[0]._parameters["weight"] = nn.Parameter(torch.ones(4, 4))  # as torch.func.functional_call does


def replace_data(module):
    module[0].weight.data = torch.ones(4, 4)


def replace_submodule(module):
    module[1][0] = nn.Linear(4, 4)


def exchange_submodules(module):
    first, second = module[0], module[1][0]
    module[0], module[1][0] = second, first


def exchange_names(module):
    norm = module[1][1]
    weight, bias = norm.weight, norm.bias
    del norm.weight, norm.bias
    norm.bias, norm.weight = weight, bias  # the table has the same values in the same order


def delete_parameter(module):
    del module[0].bias


def append(module):
    module.append(nn.Identity())


def delete_layer(module):
    del module[0]


def load(module):
    module.load_state_dict({name: tensor + 1 for name, tensor in module.state_dict().items()})


def assign(module):
    module.load_state_dict({name: tensor + 1 for name, tensor in module.state_dict().items()}, assign=True)


def optimize(module):
    module.requires_grad_()
    optimizer = torch.optim.AdamW(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def round_to_half(module):
    module.half().float()


def move(module):
    module.to("meta")


def set_forward(module):
    module[0].forward = torch.relu


def add_hook(module):
    module[1][0].register_forward_hook(lambda *_: None)


def add_pre_hook(module):
    module[1][0].register_forward_pre_hook(lambda *_: None)


CHANGES = [
    add_in_place,
    add_to_buffer,
    write_one_element,
    replace_parameter,
    replace_parameter_by_its_transpose,
    replace_buffer,
    replace_table_entry,
    replace_data,
    replace_submodule,
    exchange_submodules,
    exchange_names,
    delete_parameter,
    append,
    delete_layer,
    load,
    assign,
    optimize,
    round_to_half,
    move,
    set_forward,
    add_hook,
    add_pre_hook,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_change_of_a_module_is_noticed_once(counter, module, change):
    assert counter(module) == 1
    change(module)
    assert counter(module) == 2
    assert counter(module) == 2


def test_hooks_of_all_modules_are_noticed(counter, module):
    assert counter(module) == 1
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert counter(module) == 2
    finally:
        handle.remove()
    assert counter(module) == 3


def test_the_end_of_a_hook_or_a_method_is_noticed(counter, module):
    handle = module[0].register_forward_hook(lambda *_: None)
    module[0].forward = torch.relu
    assert counter(module) == 1
    handle.remove()
    assert counter(module) == 2
    del module[0].forward
    assert counter(module) == 3


def test_a_container_that_was_as_before_meanwhile_is_noticed(counter, module):
    assert counter(module) == 1
    module.append(nn.Identity())
    del module[2]  # makes a new table of modules
    counter(module)
    before = counter.count
    del module[1]
    assert counter(module) == before + 1


def test_changes_of_tensors_are_noticed(counter):
    weight, bias = torch.ones(4, 4), torch.ones(4)
    assert counter(weight, bias) == 1
    bias.mul_(2)
    assert counter(weight, bias) == 2
    assert counter(bias, weight) == 3
    assert counter(weight.clone(), bias) == 4
    assert counter(weight.t(), bias) == 5
    assert counter(weight) == 6


def test_changes_made_in_inference_mode_are_noticed(counter):
    weight = torch.ones(3)
    assert counter(weight) == 1
    with torch.inference_mode():
        weight.add_(1.0)
        assert counter(weight) == 2


def test_values_of_inference_tensors_are_never_kept(counter):
    with torch.inference_mode():
        weight = torch.ones(3)
    assert [counter(weight), counter(weight)] == [1, 2]


def test_no_other_tensor_gets_the_address_of_an_old_weight(counter):
    weight = nn.Parameter(torch.ones(3))
    memory = weight.detach().numpy().copy()
    weight.data = torch.from_numpy(memory)
    assert counter(weight) == 1
    weight.data = torch.zeros(3)
    alive = weakref.ref(memory)
    del memory
    gc.collect()
    assert alive() is not None
    assert counter(weight) == 2


def test_a_value_can_be_used_where_gradients_are_computed():
    with torch.inference_mode():
        value = WeightCache()(lambda weight: weight * 2, nn.Parameter(torch.ones(3)))
    x = torch.ones(3, requires_grad=True)
    (x * value).sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 2.0))


def test_an_old_value_is_freed_before_a_new_one_is_computed(module):
    cache: WeightCache[Tensor] = WeightCache()
    value = weakref.ref(cache(lambda _: torch.ones(3), module))
    assert value() is not None
    add_in_place(module)

    def make(_: nn.Module) -> Tensor:
        assert value() is None
        return torch.ones(3)

    cache(make, module)


def test_nothing_is_kept_of_a_failure(counter, module):
    def fail(_: nn.Module) -> int:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        counter.cache(fail, module)
    assert counter(module) == 1


def test_copies_and_pickles_are_empty(counter):
    weight = torch.ones(3)
    assert counter(weight) == 1
    assert copy.deepcopy(counter)(weight) == 2
    assert pickle.loads(pickle.dumps(counter))(weight) == 2
    assert counter(weight) == 1
