"""Autocast's state and dtype by device type, for every supported version of torch.

Torch 2.3 has one function for CUDA and one for the CPU, and none that takes a device type.
"""

from __future__ import annotations

import torch

_WITHOUT = ("meta", "lazy", "vulkan", "fpga")
_BY_DEVICE = hasattr(torch, "get_autocast_dtype")  # since torch 2.4


def has_autocast(device: str) -> bool:
    """Return whether there is autocast for this device type; for others torch raises."""
    return device not in _WITHOUT


def is_autocast(device: str) -> bool:
    """Return whether autocast is on for this device type."""
    if device in _WITHOUT:
        return False
    if _BY_DEVICE:
        return torch.is_autocast_enabled(device)
    return torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()


def autocast_dtype(device: str) -> torch.dtype:
    """Return the dtype that autocast computes in on this device type."""
    if _BY_DEVICE:
        return torch.get_autocast_dtype(device)
    return torch.get_autocast_cpu_dtype() if device == "cpu" else torch.get_autocast_gpu_dtype()
