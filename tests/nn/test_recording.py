"""A recorded step gives what the step gives, for whatever it meets after the recording."""

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechtok.nn.exact import ExactLinear
from speechtok.nn.recording import record


class Counted:
    """A step with a state, of linear layers, that counts how often Python runs it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.layer = ExactLinear(6, 6, normed=True).requires_grad_(False)
        self.calls = 0

    def __call__(self, x, state):
        self.calls += 1
        y = self.layer(x) + state
        return y, torch.cat([state[1:], y[:1]])


EXAMPLE = torch.linspace(-1, 1, 12).view(2, 6), torch.zeros(2, 6)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 9))
def test_a_recording_gives_what_its_step_gives_to_the_bit(scale, seed):
    step = Counted()
    recorded = record(step, *EXAMPLE)
    calls = step.calls
    torch.manual_seed(seed)
    tensors = scale * torch.randn(2, 6), torch.randn(2, 6)
    copies = [x.clone() for x in tensors]
    with torch.inference_mode():
        replayed = recorded(*tensors)
    assert step.calls == calls  # Python had no part in it
    with torch.inference_mode():
        expected = step(*tensors)
    assert all(torch.equal(x, y) for x, y in zip(replayed, expected, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(tensors, copies, strict=True))


def test_a_recording_computes_in_float32_where_the_caller_computes_in_bfloat16(monkeypatch):
    monkeypatch.setattr("speechtok.nn.exact.int8_is_faster", lambda: False)
    step = Counted()
    recorded = record(step, *EXAMPLE)
    with torch.inference_mode():
        expected = step(*EXAMPLE)
        with torch.autocast("cpu", torch.bfloat16):
            replayed = recorded(*EXAMPLE)
    assert all(torch.equal(x, y) for x, y in zip(replayed, expected, strict=True))


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, AttributeError, TypeError])
def test_where_nothing_can_be_recorded_the_step_itself_runs(monkeypatch, error):
    def refuse(*_, **__):
        raise error("no TorchScript here")

    monkeypatch.setattr(torch._C, "_create_graph_by_tracing", refuse)
    step = Counted()
    assert record(step, *EXAMPLE) is step


def test_a_recording_that_gives_something_else_is_not_used(monkeypatch):
    monkeypatch.setattr("speechtok.nn.recording._trace", lambda *_: lambda x, state: (x, state))
    step = Counted()
    assert record(step, *EXAMPLE) is step


def test_what_is_recorded_says_nothing_about_torchscript_to_the_user(recwarn):
    record(Counted(), *EXAMPLE)
    assert not recwarn.list


def test_a_recording_that_is_dropped_takes_its_weights_with_it():
    kept = []

    def make():
        weight = torch.ones(50_000)
        kept.append(weakref.ref(weight.untyped_storage()))
        return record(lambda x: (x + weight[:1],), torch.zeros(1))

    recorded = make()
    assert float(recorded(torch.ones(1))[0]) == 2.0
    del recorded
    gc.collect()
    assert kept[0]() is None
