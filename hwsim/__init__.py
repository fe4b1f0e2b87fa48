"""Cycles, joules and values of neural-network training on a systolic accelerator, op by op.

>>> import hwsim
>>> round(hwsim.load_accelerator("edge-32x32-bf16").peak_macs_per_s / 1e9)
512
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Accelerator": "hwsim.hardware",
    "HwsimError": "hwsim.errors",
    "Network": "hwsim.workload",
    "load_accelerator": "hwsim.hardware",
    "preset_names": "hwsim.hardware",
    "training_graph": "hwsim.workload",
}

__all__ = ["Accelerator", "HwsimError", "Network", "__version__", "load_accelerator", "preset_names", "training_graph"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import hwsim`` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hwsim' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
