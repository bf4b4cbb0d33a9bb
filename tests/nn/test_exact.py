import copy
import itertools
import os
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from speechtok.errors import ConfigError
from speechtok.nn import exact
from speechtok.nn.exact import ExactLinear, prepare, sums, to_levels, use_int8, weight_levels


def levels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(seed)).float()


def signal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make(in_features: int, out_features: int, fine: bool = False, normed: bool = False) -> ExactLinear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ExactLinear(in_features, out_features, normed, fine).requires_grad_(False).eval()


@pytest.fixture(params=["int8", "float32"])
def any_kernel(request):
    with use_int8(request.param == "int8"):
        yield


@settings(max_examples=200)
@given(m=st.integers(1, 80), n=st.integers(1, 70), k=st.integers(1, 1300), seed=st.integers(0, 10_000))
def test_sums_of_both_kernels_equal_those_of_integer_arithmetic(m, n, k, seed):
    left, right = levels(m, k, seed=seed), weight_levels(levels(n, k, seed=seed + 1))[0]
    expected = left.long() @ right.long().T
    assert torch.equal(sums(left, right.t()).long(), expected)
    assert torch.equal(sums(left, prepare(right)).long(), expected)


@pytest.mark.parametrize("k", [1, 1041, 5_000, 2**16])
def test_no_sum_exceeds_what_float32_holds_exactly(any_kernel, k):
    weight, _ = weight_levels(torch.full((3, k), -0.3))
    assert weight.abs().max() <= 127
    assert int(weight.abs().double().sum(1).max()) * 127 <= 2**24
    largest = torch.full((2, k), 127.0)
    assert torch.equal(sums(largest, prepare(weight)).long(), largest.long() @ weight.long().T)


@pytest.mark.parametrize("top", [127, 127 * 128])
@settings(max_examples=100)
@given(power=st.integers(-25, 25), width=st.integers(1, 40), seed=st.integers(0, 10_000))
def test_levels_are_integers_at_most_half_a_level_from_the_signal(top, power, width, seed):
    x = signal(5, width, seed=seed) * 10.0**power
    levels, size = to_levels(x, top)
    assert torch.equal(levels, levels.round())
    assert ((levels * size - x).abs() <= 0.51 * size).all()
    assert torch.equal(levels.abs().amax(1), torch.full((5,), float(top)))


@settings(max_examples=50)
@given(scale=st.floats(0.01, 100.0), seed=st.integers(0, 10_000))
def test_a_floor_keeps_negative_values_within_the_levels(scale, seed):
    x = (signal(5, 40, seed=seed) * scale).clamp_min(-0.375)
    levels, size = to_levels(x, floor=0.375)
    assert levels.abs().max() <= 127
    assert ((levels * size - x).abs() <= 0.51 * size).all()


def test_an_input_is_never_modified():
    x = signal(5, 40)
    before = x.clone()
    make(40, 8).requires_grad_(False)(x)
    to_levels(x, floor=5.0)
    assert torch.equal(x, before)


@pytest.mark.parametrize("kind", [{}, {"fine": True}, {"normed": True}, {"normed": True, "fine": True}])
def test_silence_gives_the_bias(kind):
    layer = make(8, 4, **kind)
    assert torch.equal(layer(torch.zeros(2, 8)), layer.bias.expand(2, 4))


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("width", [3, 384, 2_000])
@pytest.mark.parametrize("loudness", [1e-20, 1.0, 1e20])
def test_a_normed_layer_approximates_rms_norm_and_a_linear_layer(fine, width, loudness):
    layer, x = make(width, 16, fine, normed=True), signal(6, width)
    expected = torch.nn.functional.linear(torch.nn.functional.rms_norm(x, (width,)), layer.weight, layer.bias)
    assert torch.allclose(layer(x * loudness), expected, atol=0.1)
    exactly = layer(x * loudness)
    assert torch.allclose(layer.requires_grad_()(x * loudness), exactly, atol=1e-5)


@pytest.mark.parametrize("fine", [False, True])
def test_a_layer_approximates_a_linear_layer_to_the_precision_of_its_levels(any_kernel, fine):
    layer, x = make(48, 33, fine), signal(28, 48)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.allclose(layer(x), expected, atol=0.03)
    fine_weight, scale = weight_levels(layer.weight)
    expected = torch.nn.functional.linear(x, fine_weight * scale[:, None], layer.bias)
    assert torch.allclose(layer(x), expected, atol=2e-4 if fine else 0.03)


@pytest.mark.parametrize("fine", [False, True])
def test_training_computes_what_inference_computes(any_kernel, fine):
    layer, x = make(48, 33, fine), signal(28, 48)
    exactly = layer(x)
    assert torch.allclose(layer.requires_grad_()(x), exactly, atol=1e-5)


def test_gradients_approximate_those_without_rounding():
    layer, x = make(16, 8).requires_grad_(), signal(4, 16).requires_grad_()
    target = signal(4, 8, seed=1)
    (layer(x) * target).sum().backward()
    assert torch.allclose(x.grad, target @ layer.weight, atol=0.05)
    assert torch.allclose(layer.weight.grad, target.T @ x, atol=0.05)
    assert torch.allclose(layer.bias.grad, target.sum(0), atol=1e-5)


@pytest.mark.parametrize("fine", [False, True])
@settings(max_examples=50)
@given(cuts=st.lists(st.integers(0, 90), max_size=6), threads=st.sampled_from([1, 2, 4]))
def test_a_row_does_not_depend_on_other_rows_or_the_number_of_threads(fine, cuts, threads):
    layer, x = make(200, 77, fine), signal(90, 200)
    whole = layer(x)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        bounds = [0, *sorted(cuts), 90]
        parts = [layer(x[a:b]) for a, b in itertools.pairwise(bounds) if a < b]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.cat(parts), whole)


def test_both_kernels_give_the_same_bits():
    layer, x = make(200, 77), signal(90, 200)
    results = []
    for int8 in (False, True):
        with use_int8(int8):
            results.append(copy.deepcopy(layer)(x))
    assert torch.equal(*results)


def test_an_int8_kernel_that_overflows_is_not_used(monkeypatch):
    real = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: real(a, b).clamp(-(2**15), 2**15))
    with use_int8(True):
        assert prepare(levels(16, 64)).dtype is torch.float32


def test_one_input_is_never_an_int8_product_which_would_return_memory_that_was_not_written(monkeypatch):
    monkeypatch.setattr(exact, "_agree", lambda *_: True)  # as if the memory held the right sums by chance
    with use_int8(True):
        assert prepare(levels(16, 1)).dtype is torch.float32
        assert prepare(levels(16, 2)).dtype is torch.int8


def test_a_pytorch_without_int8_products_uses_float32(monkeypatch):
    def absent(*_: Tensor) -> Tensor:
        raise RuntimeError("not implemented")

    monkeypatch.setattr(torch, "_int_mm", absent)
    exact.int8_is_faster.cache_clear()
    try:
        assert not exact.int8_is_faster()
    finally:
        exact.int8_is_faster.cache_clear()


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_neither_autocast_nor_reduced_precision_changes_a_bit(any_kernel, precision):
    layer, x = make(200, 77), signal(90, 200)
    expected = layer(x)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(copy.deepcopy(layer)(x), expected)
    finally:
        torch.set_float32_matmul_precision(before)


def test_changed_weights_are_noticed():
    layer, x = make(8, 4), signal(3, 8)
    layer(x)
    layer.weight.mul_(2)
    assert torch.equal(layer(x), copy.deepcopy(layer)(x))
    layer.load_state_dict({"weight": torch.zeros(4, 8), "bias": torch.ones(4)})
    assert torch.equal(layer(x), torch.ones(3, 4))


def test_changes_of_weights_made_in_inference_mode_are_noticed():
    with torch.inference_mode():
        layer = ExactLinear(8, 4).eval()
        x = signal(3, 8)
        before = layer(x)
        layer.weight.mul_(2)
        assert not torch.equal(layer(x), before)


def test_replaced_weights_are_noticed():
    layer, x = make(8, 4), signal(3, 8)
    for factor in range(1, 50):  # the allocator reuses freed memory
        layer.weight = torch.nn.Parameter(torch.full((4, 8), float(factor)), requires_grad=False)
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))
    layer.half().float()
    assert torch.equal(layer(x), copy.deepcopy(layer)(x))


@pytest.mark.parametrize("needs", ["signal", "weight"])
def test_gradients_are_computed_where_they_are_required_in_evaluation_too(any_kernel, needs):
    layer, x = make(8, 4).eval(), signal(3, 8)
    (x if needs == "signal" else layer.weight).requires_grad_()
    layer(x).sum().backward()
    with torch.no_grad():
        exactly = layer.train()(x)
    assert torch.equal(exactly, make(8, 4)(x.detach()))


NARROW = """
import torch
from speechtok.nn import exact
generator = torch.Generator().manual_seed(0)
for n in (1, 2, 16, 33):
    for k in (2, 7, 16, 64, 300):
        for sign in (None, -1, 1):
            right = torch.randint(-127, 128, (n, k), generator=generator)
            right = right if sign is None else sign * right.abs()
            with exact.use_int8(True):
                prepared = exact.prepare(right)
            for m in (1, 2, 5, 40):
                for left in (torch.randint(-127, 128, (m, k), generator=generator), torch.full((m, k), 127)):
                    for signal in (left, -left):
                        sums = exact.sums(signal.float(), prepared).long()
                        assert torch.equal(sums, signal @ right.T), (n, k, sign, m, prepared.dtype)
"""


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["AVX512_CORE", "AVX2", "SSE41"])
def test_sums_are_exact_on_processors_whose_int8_products_overflow(instructions):
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    subprocess.run([sys.executable, "-c", NARROW], check=True, env=environment)


def test_layers_can_be_copied_and_pickled():
    layer, x = make(8, 4), signal(3, 8)
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)


def test_too_many_inputs_are_refused():
    with pytest.raises(ConfigError, match="65537 inputs; exact products have at most 65536"):
        ExactLinear(2**16 + 1, 1)
