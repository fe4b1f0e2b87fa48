"""The reference: a graph executed op by op in float64, without mapping, program or hardware.

`run` executes a forward graph or a whole training step, `evaluate` infers, `initial` gives the parameters to start
with. What each op means is docs/contracts/workload.md; what that page leaves open is in the docstring of the op's rule.
"""

from __future__ import annotations

from hwsim.values.reference.call import Array, Call, Rule
from hwsim.values.reference.execute import RULES, evaluate, run
from hwsim.values.reference.initial import initial

__all__ = ["RULES", "Array", "Call", "Rule", "evaluate", "initial", "run"]
