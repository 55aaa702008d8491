"""Questions about autocast, which torch before 2.4 answers by other names.

Torch 2.3 has one function for CUDA and one for the CPU, and none for a device by its name.
"""

from __future__ import annotations

import torch


def has_autocast(device: str) -> bool:
    """Return whether there is autocast for devices of this type; for others torch raises."""
    return device not in ("meta", "lazy", "vulkan", "fpga")


if hasattr(torch, "get_autocast_dtype"):  # since torch 2.4

    def is_autocast(device: str) -> bool:
        """Whether autocast is on for devices of this type."""
        return has_autocast(device) and torch.is_autocast_enabled(device)

    def autocast_dtype(device: str) -> torch.dtype:
        """What autocast computes in on devices of this type."""
        return torch.get_autocast_dtype(device)

else:

    def is_autocast(device: str) -> bool:
        """Whether autocast is on for devices of this type."""
        if not has_autocast(device):
            return False
        return torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()

    def autocast_dtype(device: str) -> torch.dtype:
        """What autocast computes in on devices of this type."""
        return torch.get_autocast_cpu_dtype() if device == "cpu" else torch.get_autocast_gpu_dtype()
