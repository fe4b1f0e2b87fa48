"""The vector unit: micro-operations on lines of the accumulator, a group of lanes a cycle (docs/rtl-vector.md)."""

from hwsim_rtl.vector.command import VectorPrepare, vector_command
from hwsim_rtl.vector.lane import Lane
from hwsim_rtl.vector.special import LapControl, SpecialLane
from hwsim_rtl.vector.stages import Stages, split
from hwsim_rtl.vector.unit import VectorUnit
from hwsim_rtl.vector.walk import Walk

__all__ = [
    "Lane",
    "LapControl",
    "SpecialLane",
    "Stages",
    "VectorPrepare",
    "VectorUnit",
    "Walk",
    "split",
    "vector_command",
]
