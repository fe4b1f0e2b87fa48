"""The program that a machine's files come with: one training step of a small network."""

from __future__ import annotations

from hwsim.hardware import Accelerator
from hwsim.workload import Network, default_precision
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.steps import step_program

__all__ = ["demo_program"]

_BATCH, _INPUTS, _HIDDEN, _OUTPUTS = 4, 12, 10, 3


def demo_program(hw: Accelerator) -> CosimProgram:
    """Give one step of SGD of a 12-10-3 perceptron with mean squared error: every unit and every form of product.

    Parameters
    ----------
    hw : Accelerator
        What runs it.

    Raises
    ------
    HwsimError
        If the step does not fit.
    """
    net = Network("demo", _BATCH)
    hidden = net.input((_INPUTS,)).linear(_HIDDEN, name="fc1").relu(name="relu")
    graph = hidden.linear(_OUTPUTS, name="fc2").mean_squared_error()
    return step_program(graph, hw, default_precision(hw), optimizer="sgd")
