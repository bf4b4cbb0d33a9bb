"""Matrix products in bfloat16, where that is the faster way."""

import functools

import torch


def autocast(device: torch.device, bfloat16: bool) -> torch.autocast:
    """A context whose matrix products are in bfloat16, if that is wanted, and the device has instructions for it."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=bfloat16 and (device.type != "cpu" or cpu_has_bfloat16())
    )


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16: one that does not takes several times as long as for float32."""
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    return any(getattr(torch.cpu, name, bool)() for name in names)
