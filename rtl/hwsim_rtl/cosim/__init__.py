"""Co-simulation: programs on the RTL and on the simulator, every byte of memory and every start and end compared.

docs/rtl-cosim.md says how.
"""

from hwsim_rtl.cosim.compare import Expected, MemoryDifference, Result, TimeDifference, cosimulate, expect
from hwsim_rtl.cosim.machines import random_machines, small_machine
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.cosim.programs import graph_program
from hwsim_rtl.cosim.random_programs import check_legal, random_programs
from hwsim_rtl.cosim.saved import load_program, save_program
from hwsim_rtl.cosim.steps import step_program
from hwsim_rtl.cosim.testbench import write_testbench
from hwsim_rtl.cosim.training import CosimMachine, CosimStep, CosimTraining

__all__ = [
    "CosimMachine",
    "CosimProgram",
    "CosimStep",
    "CosimTraining",
    "Expected",
    "MemoryDifference",
    "Result",
    "TimeDifference",
    "check_legal",
    "cosimulate",
    "expect",
    "graph_program",
    "load_program",
    "random_machines",
    "random_programs",
    "save_program",
    "small_machine",
    "step_program",
    "write_testbench",
]
