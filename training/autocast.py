"""Mixed precision: matrix products in bfloat16 where the device has instructions for it."""

import functools

import torch


def autocast(device: torch.device, bfloat16: bool) -> torch.autocast:
    """Context with matrix products in bfloat16, if ``bfloat16`` is set and the device has instructions for it."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=bfloat16 and (device.type != "cpu" or cpu_has_bfloat16())
    )


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether this processor has bfloat16 products; without them, bfloat16 is several times slower than float32."""
    names = "_is_avx512_bf16_supported", "_is_amx_tile_supported"
    return any(getattr(torch.cpu, name, bool)() for name in names)
