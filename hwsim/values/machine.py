"""The machine that computes: memories, and compiled programs run on them command by command.

A `Machine` holds the tensors of a graph in its DRAM as they are stored, and runs the programs of the graph's ops.
Normative: docs/contracts/values.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.hardware.formats import FORMAT_BITS
from hwsim.mapping import OpPlan, plan_key, plan_op
from hwsim.mapping.layout import format_of, stored_bytes
from hwsim.mapping.stream import StepScalar
from hwsim.mapping.vector import operands_of
from hwsim.numerics import Lfsr, arrays, from_format, storage_dtype, to_format
from hwsim.numerics.lfsr import _LEAP
from hwsim.program import FORMAT_CODES, Field, MoveField, Unit, VectorField, VectorFlag
from hwsim.values import _kernels
from hwsim.workload.graph import Graph, Op, Phase, Tensor

__all__ = ["Core", "Machine", "OpValues", "order_of"]

Bits = NDArray[Any]

_LARGEST_LABEL = 2**31 - 1

#: Exponents of formats that are scaled; those of 32-bit words are 0.
_SCALED = frozenset(name for name, code in FORMAT_CODES.items() if code)


@dataclass(frozen=True)
class OpValues:
    """What one op's execution counted.

    Attributes
    ----------
    op, kind, phase
        The op.
    invalid : int
        Conversions of a NaN, or of an infinity to a format that has none; sums of int8 products that left int32.
    overflow : int
        Conversions of a number beyond the target's largest, saturated ones included.
    nonfinite : int
        Infinities and NaNs stored.
    macs, gated_macs : int
        MACs, and those of them with a zero operand.
    """

    op: str
    kind: str
    phase: Phase
    invalid: int
    overflow: int
    nonfinite: int
    macs: int
    gated_macs: int


class Core:
    """Memories and registers of an accelerator, and what executes linked commands on them.

    Attributes
    ----------
    dram : ndarray of shape (bytes,), dtype uint8
        Off-chip memory.
    scratchpad : ndarray of shape (lines · line elements,), dtype uint32
        Bits of operands, one element a word.
    accumulator : ndarray of shape (2 · slot lines · cols,), dtype uint32
        Words of both halves.
    lfsr : Lfsr
        Random words of stochastic rounding.

    Parameters
    ----------
    hw : Accelerator
        What it is.
    dram_bytes : int
        Size of the memory, rounded up to a multiple of four.
    seed : int
        Of stochastic rounding, 0 … 2³² − 1.
    """

    def __init__(self, hw: Accelerator, dram_bytes: int, seed: int = 1) -> None:
        self.hw = hw
        self.dram: NDArray[np.uint8] = np.zeros(-(-dram_bytes // 4) * 4, np.uint8)
        self.scratchpad = np.zeros(hw.scratchpad.banks * hw.scratchpad_bank_lines * hw.line_elements, np.uint32)
        self.accumulator = np.zeros(2 * hw.accumulator_slot_lines * hw.array.cols, np.uint32)
        self.lfsr = Lfsr(seed, hw.vector.lanes)
        self._machine = (
            hw.array.rows,
            hw.array.cols,
            hw.line_elements,
            hw.accumulator_slot_lines,
            hw.array.add_latency_cycles,
            int(hw.array.operand_format == "int8"),
        )

    def clear(self) -> None:
        """Fill scratchpad and accumulator with NaNs, so that what was not written shows when it is read."""
        self.scratchpad[:] = (1 << 8 * self.hw.operand_bytes) - 1
        self.accumulator[:] = 0xFFFFFFFF

    def execute(self, flat: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Execute linked commands in an order that `order_of` gave.

        Returns
        -------
        ndarray of shape (5,), dtype int64
            The counts of `OpValues`, in its order.
        """
        counts = np.zeros(len(_kernels.STATISTICS), np.int64)
        if len(flat):
            _kernels.execute(
                flat, order, self._machine, self.dram, self.dram.view(np.uint16), self.dram.view(np.uint32),
                self.scratchpad, self.accumulator, self.accumulator.view(np.float32), _tables(), self.lfsr.state, _LEAP,
                _CONSTANTS, counts,
            )  # fmt: skip
        return counts


def order_of(flat: NDArray[np.int64], name: str, *, eager: bool = True) -> NDArray[np.int64]:
    """Order in which commands take effect: each as soon as its unit reaches it and its tokens are there.

    Parameters
    ----------
    flat : ndarray of shape (commands, FIELDS), dtype int64
        What `Program.expand` gives.
    name : str
        What the message calls the program.
    eager : bool
        Where several units could go on, the first from load to store does, else the last.

    Raises
    ------
    HwsimError
        If a command waits for ever.
    """
    order: NDArray[np.int64]
    order, stuck = _kernels.schedule(flat, eager)
    if stuck >= 0:
        raise HwsimError(f"{name}: command {stuck} of its program waits for ever")
    return order


class Machine:
    """An accelerator with the programs of a graph, and its memory.

    Attributes
    ----------
    exponents : dict of str to int
        Per tensor: stored number × 2^exponent = real number. Of a tensor in memory that changes nothing but what it
        stands for; programs are linked anew with what stands here when they run.
    core : Core
        Its memories.
    lfsr_state : ndarray of shape (lanes,), dtype uint32
        Registers of the random words; may be saved and set again.
    plans : dict of str to OpPlan
        Of every op.

    Parameters
    ----------
    graph : Graph
        Training step, or any graph whose ops have lowerings.
    hw : Accelerator
        What executes it.
    seed : int
        Of stochastic rounding, 0 … 2³² − 1.
    eager : bool
        Where several units could go on, let the first from load to store do so, else the last; programs that keep
        the program contract give the same values.

    Raises
    ------
    HwsimError
        If an op has no lowering or does not fit, or a program waits for ever.

    Examples
    --------
    >>> from hwsim.hardware import load_accelerator
    >>> from hwsim.workload import Network
    >>> net = Network("tiny", batch=2)
    >>> machine = Machine(net.input((3,)).linear(1, bias=False, name="fc").relu(name="relu").network.graph(),
    ...                   load_accelerator("edge-8x8-bf16"))
    >>> machine.write("input", [[1, 2, 3], [4, 5, 6]])
    >>> machine.write("fc.weight", [[1, 0.5, -0.25]])
    >>> counts = machine.run()
    >>> machine.read("relu"), counts[0].macs
    (array([[1.25],
           [5.  ]]), 6)
    """

    def __init__(self, graph: Graph, hw: Accelerator, *, seed: int = 1, eager: bool = True) -> None:
        self.graph, self.hw, self.eager = graph, hw, eager
        self.exponents: dict[str, int] = dict.fromkeys(graph.tensors, 0)
        plans: dict[Any, OpPlan] = {}
        for op in graph.ops:
            key = plan_key(op, graph)
            if key not in plans:
                plans[key] = plan_op(op, graph, hw)
        self.plans = {op.name: plans[plan_key(op, graph)] for op in graph.ops}
        self._addresses = self._allocate()
        size = max((self._addresses[n] + stored_bytes(t, hw) for n, t in graph.tensors.items()), default=0)
        self.core = Core(hw, size, seed)
        self._linked = {op.name: _Linked(op, self) for op in graph.ops}

    @property
    def lfsr_state(self) -> NDArray[np.uint32]:
        """Registers of the random words.

        Raises
        ------
        HwsimError
            When they are set, if there are not as many as lanes, or one is zero.
        """
        return self.core.lfsr.state

    @lfsr_state.setter
    def lfsr_state(self, state: ArrayLike) -> None:
        """Set the registers again.

        Raises
        ------
        HwsimError
            If there are not as many as lanes, or one is zero.
        """
        given = np.array(state, np.uint32)
        if given.shape != self.core.lfsr.state.shape or not given.all():
            raise HwsimError(f"the state has {self.core.lfsr.state.size} words, none of them zero, not {given.shape}")
        self.core.lfsr.state = given

    def write(self, name: str, values: ArrayLike) -> None:
        """Store real numbers, rounded to nearest; class labels are whole numbers.

        Raises
        ------
        HwsimError
            If the graph has no such tensor, it has another shape, or a label is no whole number.
        """
        tensor, format = self._tensor(name)
        array = np.asarray(values, np.float64)
        if array.shape != tensor.shape:
            raise HwsimError(f"{name}: the tensor is {tensor.shape}; the array given is {array.shape}")
        if format == "int32":
            if (array != np.rint(array)).any() or (np.abs(array) > _LARGEST_LABEL).any():
                raise HwsimError(f"{name}: class labels are whole numbers of 32 bits; one of those given is not")
            self.restore(name, array.astype(np.int32))
            return
        scaled = np.ldexp(array, -self.exponents[name]).astype(np.float32)
        self.restore(name, to_format(scaled, format))

    def read(self, name: str) -> NDArray[np.float64]:
        """Give real numbers, in the tensor's shape.

        Raises
        ------
        HwsimError
            If the graph has no such tensor.
        """
        _, format = self._tensor(name)
        bits = self.stored(name)
        wide = bits if format in ("int32", "fp32") else from_format(bits, format)
        return np.ldexp(wide.astype(np.float64), self.exponents[name])

    def stored(self, name: str) -> Bits:
        """Give the bits as they are stored, without padding, in the tensor's shape and `storage_dtype`.

        Raises
        ------
        HwsimError
            If the graph has no such tensor.
        """
        return self.stored_in(self.core.dram, name)

    def stored_in(self, memory: NDArray[np.uint8], name: str) -> Bits:
        """Give the bits of a tensor as they lie in another memory of the same layout, as `stored` does.

        Parameters
        ----------
        memory : ndarray of shape (bytes,), dtype uint8
            As long as `core.dram`, or longer.
        name : str
            Of the tensor.

        Raises
        ------
        HwsimError
            If the graph has no such tensor.
        """
        tensor, format = self._tensor(name)
        lines = self._lines(tensor, format, memory)
        width = tensor.shape[-1] if tensor.shape else 1
        return np.array(lines[:, :width]).reshape(tensor.shape)

    def restore(self, name: str, bits: Bits) -> None:
        """Store bits; the inverse of `stored`.

        Raises
        ------
        HwsimError
            If the graph has no such tensor, or its shape or type is another.
        """
        tensor, format = self._tensor(name)
        dtype = storage_dtype(format)
        if bits.shape != tensor.shape or bits.dtype != dtype:
            raise HwsimError(
                f"{name}: the tensor is {dtype} of {tensor.shape}; the array given is {bits.dtype} of {bits.shape}"
            )
        lines = self._lines(tensor, format, self.core.dram)
        width = tensor.shape[-1] if tensor.shape else 1
        lines[:, :width] = bits.reshape(-1, width)

    def run(self, ops: Sequence[Op] | None = None, *, step_number: int = 1) -> list[OpValues]:
        """Execute the programs of some ops, or of all, in order.

        Parameters
        ----------
        ops : sequence of Op, optional
            Ops of the graph.
        step_number : int
            Number of the training step, 1 or more, with which Adam corrects its moments.

        Returns
        -------
        list of OpValues
            What each op counted.

        Raises
        ------
        HwsimError
            If a tensor of 32-bit words has an exponent.
        """
        return [self._linked[op.name].run(step_number) for op in (self.graph.ops if ops is None else ops)]

    def _allocate(self) -> dict[str, int]:
        """Give every tensor an address, on a DRAM page; views share one."""
        page, at = self.hw.dram.page_bytes, 0
        addresses: dict[str, int] = {}
        views = {
            op.outputs[0]: op.inputs[0] for op in self.graph.ops if op.outputs and not self.plans[op.name].segments
        }
        for name, tensor in self.graph.tensors.items():
            if name not in views:
                addresses[name] = at
                at += -(-stored_bytes(tensor, self.hw) // page) * page
        for name, source in views.items():  # in the order of the ops: a source that is a view comes first
            addresses[name] = addresses[source]
        return addresses

    def _tensor(self, name: str) -> tuple[Tensor, str]:
        if name not in self.graph.tensors:
            raise HwsimError(f"{self.graph.name} has no tensor '{name}'; graph.tensors lists them")
        tensor = self.graph.tensors[name]
        return tensor, format_of(tensor, self.hw)

    def _lines(self, tensor: Tensor, format: str, memory: NDArray[np.uint8]) -> Bits:
        """View a tensor's part of a memory as padded lines."""
        width = tensor.shape[-1] if tensor.shape else 1
        at, size = self._addresses[tensor.name], stored_bytes(tensor, self.hw)
        return memory[at : at + size].view(storage_dtype(format)).reshape(tensor.elements // width, -1)


class _Linked:
    """Flat commands of one op with the addresses of its operands, and with exponents and scalars as they stand."""

    def __init__(self, op: Op, machine: Machine) -> None:
        self.op, self.machine = op, machine
        graph, hw = machine.graph, machine.hw
        self.names = [t.name for t in operands_of(op, graph)]
        self.formats = [format_of(t, hw) for t in operands_of(op, graph)]
        plan = machine.plans[op.name]
        self.flat = plan.program.expand() if plan.segments else np.empty((0, len(Field)), np.int64)
        unit, operand = self.flat[:, Field.UNIT], self.flat[:, Field.OPERAND]
        moves = (unit == Unit.LOAD) | (unit == Unit.STORE)
        addresses = np.array([machine._addresses[name] for name in self.names])
        self.flat[moves, Field.OFFSET] += addresses[operand[moves]]
        self.loads = np.flatnonzero((unit == Unit.LOAD) & (self.flat[:, Field.OPCODE] == 2))
        vector = unit == Unit.VECTOR
        self.converts = np.flatnonzero(vector & (self.flat[:, VectorField.FORMAT] != 0))
        flags = self.flat[:, Field.FLAGS]
        self.sums = np.flatnonzero(vector & (flags & VectorFlag.SUMS != 0))
        linked = np.flatnonzero(vector & (flags & VectorFlag.LINKED != 0))
        self.scalars = [(int(i), StepScalar(int(self.flat[i, VectorField.SCALAR]))) for i in linked]
        self.order = order_of(self.flat, op.name, eager=machine.eager)
        self.exponents: list[int] | None = None

    def run(self, step_number: int) -> OpValues:
        self._link(step_number)
        counts = self.machine.core.execute(self.flat, self.order)
        return OpValues(self.op.name, self.op.kind, self.op.phase, *counts.tolist())

    def _link(self, step_number: int) -> None:
        exponents = [self.machine.exponents[name] for name in self.names]
        if exponents != self.exponents:
            for name, format, exponent in zip(self.names, self.formats, exponents, strict=True):
                if exponent and format not in _SCALED:
                    raise HwsimError(f"{name}: a tensor of {format} words has exponent 0, not {exponent}")
            self.exponents = exponents
            of = np.array(exponents, np.int64)
            operand = self.flat[:, Field.OPERAND]
            self.flat[self.loads, MoveField.EXPONENT] = of[operand[self.loads]]
            self.flat[self.converts, VectorField.EXPONENT] = -of[operand[self.converts]]
            self.flat[self.sums, VectorField.SCALAR] = of[0] + of[1] if len(of) > 1 else 0
        for item, scalar in self.scalars:
            self.flat[item, VectorField.SCALAR] = _step_scalar(scalar, self.op, step_number)


def _step_scalar(scalar: StepScalar, op: Op, step_number: int) -> int:
    """Bits of a scalar of the step."""
    a = op.attrs
    if scalar is StepScalar.ADAM_STEP:
        value = -a["learning_rate"] / (1 - a["beta1"] ** step_number)
    else:
        value = 1 / (1 - a["beta2"] ** step_number)
    return int(np.float32(value).view(np.uint32))


_CONSTANTS = (
    arrays._EXP,
    arrays._constants("64/ln2", "C1", "C2", "1/6"),
    arrays._LOG_POINT,
    arrays._LOG_RECIPROCAL,
    arrays._LOG,
    arrays._constants("1/3", "H", "ln2-H"),
    arrays._RECIPROCAL,
    arrays._RECIPROCAL_ROOT,
)
_TABLES: list[NDArray[np.float32]] = []


def _tables() -> NDArray[np.float32]:
    """Values of all narrow numbers, by the code of their format and their bits: ndarray of shape (codes, 65536)."""
    if not _TABLES:
        table = np.zeros((max(FORMAT_CODES.values()) + 1, 1 << 16), np.float32)
        for format in _SCALED:
            bits = np.arange(1 << FORMAT_BITS[format])
            unsigned = np.uint8 if FORMAT_BITS[format] == 8 else np.uint16
            stored = bits.astype(unsigned).view(storage_dtype(format))
            table[FORMAT_CODES[format], : bits.size] = from_format(stored, format)
        _TABLES.append(table)
    return _TABLES[0]
