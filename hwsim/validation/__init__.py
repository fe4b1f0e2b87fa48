"""Other people's conventions, restated, so that their numbers can be compared with ours."""

from __future__ import annotations

from hwsim.validation.scalesim import compute_cycles

__all__ = ["compute_cycles"]
