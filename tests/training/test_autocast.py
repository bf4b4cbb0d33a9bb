import pytest
import torch

from training import autocast


@pytest.mark.parametrize(("wanted", "able"), [(True, True), (True, False), (False, True), (False, False)])
def test_products_are_in_bfloat16_where_wanted_and_fast(monkeypatch, wanted, able):
    monkeypatch.setattr(autocast, "cpu_has_bfloat16", lambda: able)
    x = torch.ones(2, 2)
    with autocast.autocast(torch.device("cpu"), wanted):
        assert (x @ x).dtype is (torch.bfloat16 if wanted and able else torch.float32)


def test_a_gpu_is_not_asked_what_the_cpu_can(monkeypatch):
    asked = []
    monkeypatch.setattr(autocast, "cpu_has_bfloat16", lambda: asked.append(0))
    autocast.autocast(torch.device("cuda"), True)
    assert not asked


def test_a_processor_without_instructions_for_it_is_known(monkeypatch):
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    for able in ([False, False], [True, False], [False, True]):
        for name, value in zip(names, able, strict=True):
            monkeypatch.setattr(torch.cpu, name, lambda value=value: value)
        autocast.cpu_has_bfloat16.cache_clear()
        assert autocast.cpu_has_bfloat16() is any(able)
    autocast.cpu_has_bfloat16.cache_clear()
