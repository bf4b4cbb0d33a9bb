"""The one check of a device."""

import torch

from speechtok.errors import InputError, quoted


def check_device(device: torch.device | str, name: str = "device") -> torch.device:
    """Return ``device`` as PyTorch's type, after placing a tensor on it.

    Args:
        device: a PyTorch device or its name, for example ``"cpu"`` or ``"cuda:1"``.
        name: of the argument, for the error message.

    Raises:
        InputError: PyTorch does not know the device, cannot use it on this machine, or it holds no values (``meta``).
    """
    reason = "which holds no values"
    try:
        checked = torch.device(device)
        if checked.type != "meta":
            torch.zeros(1, device=checked).item()
            return checked
    # PyTorch asserts that it was compiled for a device, and imports what some devices need
    except (RuntimeError, AssertionError, TypeError, ValueError, ImportError, NotImplementedError) as error:
        reason = f"which cannot be used here ({str(error).partition(chr(10))[0]})"
    raise InputError(f"{name} is {quoted(device)}, {reason}; expected a device of this machine, such as 'cpu'")
