import pytest
import torch

from training import autocast


@pytest.mark.parametrize(("enabled", "supported"), [(True, True), (True, False), (False, True), (False, False)])
def test_products_are_in_bfloat16_if_enabled_and_supported(monkeypatch, enabled, supported):
    monkeypatch.setattr(autocast, "cpu_has_bfloat16", lambda: supported)
    x = torch.ones(2, 2)
    with autocast.autocast(torch.device("cpu"), enabled):
        assert (x @ x).dtype is (torch.bfloat16 if enabled and supported else torch.float32)


def test_instructions_of_the_cpu_do_not_matter_to_a_gpu(monkeypatch):
    asked = []
    monkeypatch.setattr(autocast, "cpu_has_bfloat16", lambda: asked.append(0))
    autocast.autocast(torch.device("cuda"), True)
    assert not asked


def test_instructions_for_bfloat16_are_detected(monkeypatch):
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    for able in ([False, False], [True, False], [False, True]):
        for name, value in zip(names, able, strict=True):
            monkeypatch.setattr(torch.cpu, name, lambda value=value: value)
        autocast.cpu_has_bfloat16.cache_clear()
        assert autocast.cpu_has_bfloat16() is any(able)
    autocast.cpu_has_bfloat16.cache_clear()
