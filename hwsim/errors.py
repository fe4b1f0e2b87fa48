"""The one exception that bad input raises; the command line turns it into one sentence and exit code 2."""

from __future__ import annotations

__all__ = ["HwsimError"]


class HwsimError(ValueError):
    """Input that breaks a rule. The message names the thing, the rule with its unit, the value, and the next step."""
