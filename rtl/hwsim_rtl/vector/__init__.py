"""The vector unit: micro-operations on lines of the accumulator, a group of lanes a cycle (docs/rtl-vector.md)."""

from hwsim_rtl.vector.command import VECTOR_OPS_IN_RTL, VectorPrepare, vector_command
from hwsim_rtl.vector.lane import Lane
from hwsim_rtl.vector.stages import Stages, split
from hwsim_rtl.vector.unit import VectorUnit
from hwsim_rtl.vector.walk import Walk

__all__ = [
    "VECTOR_OPS_IN_RTL",
    "Lane",
    "Stages",
    "VectorPrepare",
    "VectorUnit",
    "Walk",
    "split",
    "vector_command",
]
