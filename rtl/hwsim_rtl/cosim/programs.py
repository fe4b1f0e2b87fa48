"""Programs to compare on: ops of a graph, linked at any addresses, and random legal ones.

`graph_program` links ops of a graph as one program; `random_programs` draws programs of three kinds: ops of random
small graphs, matrix segments in random tilings, and streams of commands that no mapping makes
(`hwsim_rtl.cosim.streams`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.hardware.formats import FORMAT_BITS, array_formats
from hwsim.mapping import MatrixSegment, conv_segments, gemm_segment
from hwsim.mapping import _kernels as kernels
from hwsim.mapping.layout import format_of, stored_bytes
from hwsim.mapping.matrix import machine_vector
from hwsim.mapping.plan import Stored, set_formats
from hwsim.program import (
    COMMAND_BYTES,
    FIELDS,
    FORMAT_CODES,
    Field,
    MoveField,
    Program,
    Unit,
    VectorField,
    VectorFlag,
)
from hwsim.values.machine import Machine
from hwsim.workload import Graph, Network, Value, training_graph
from hwsim.workload.graph import Op, Tensor
from hwsim_rtl.cosim.footprint import stored_bytes_of
from hwsim_rtl.cosim.program import CosimProgram
from hwsim_rtl.limits import check_limits

__all__ = ["graph_program", "place_program", "random_bytes", "random_graph_program",
           "random_tiling", "tiling_program"]  # fmt: skip

_TRIES = 200
_MOST_TILES = 40
_CHUNK_BYTES = 64


class _Placed(Machine):
    """A machine whose tensors lie anywhere, beats and gaps of any size between them."""

    def __init__(self, graph: Graph, hw: Accelerator, rng: Generator) -> None:
        self._rng = rng
        super().__init__(graph, hw)

    def _allocate(self) -> dict[str, int]:
        addresses = super()._allocate()
        own = [n for n in self.graph.tensors if n in addresses]
        distinct: dict[int, str] = {}
        for name in own:
            distinct.setdefault(addresses[name], name)
        beat = max(self.hw.dram.beat_bytes, 4)
        moved, at = {}, 0
        order = list(distinct)
        self._rng.shuffle(order)
        for old in order:
            sizes = [stored_bytes(self.graph.tensors[n], self.hw) for n in own if addresses[n] == old]
            at += beat * int(self._rng.integers(0, 5))
            moved[old] = at
            at += -(-max(sizes) // beat) * beat
        return {name: moved[old] for name, old in addresses.items()}


def graph_program(
    machine: Machine, ops: Sequence[Op], name: str, *, seed: int = 1, step_number: int = 1
) -> CosimProgram:
    """Link ops of a graph as one program, on the machine's memory as it stands.

    Parameters
    ----------
    machine : Machine
        With the graph's tensors in its memory.
    ops : sequence of Op
        Of its graph.
    name : str
        What messages call the program.
    seed : int
        Of stochastic rounding.
    step_number : int
        Number of the training step.

    Raises
    ------
    HwsimError
        If none of the ops has a command, or one has a number that the RTL has too few bits for.
    """
    parts, sections, at = [], [], 0
    for op in ops:
        linked = machine._linked[op.name]
        if not len(linked.flat):
            continue
        linked._link(step_number)
        parts.append(linked.flat.copy())
        sections.append((at, op.name))
        at += len(linked.flat)
    if not parts:
        raise HwsimError(f"{name}: none of its ops has a command")
    tensors = {
        n: (machine._addresses[n], machine._addresses[n] + stored_bytes(t, machine.hw))
        for n, t in machine.graph.tensors.items()
    }
    program = place_program(name, np.concatenate(parts), machine.core.dram, seed, sections, tensors)
    check_limits(machine.hw, program.flat, program.image.size, name)
    return program


def place_program(
    name: str,
    flat: NDArray[np.int64],
    memory: NDArray[np.uint8],
    seed: int,
    sections: Sequence[tuple[int, str]] = (),
    tensors: dict[str, tuple[int, int]] | None = None,
    gap: int = 0,
) -> CosimProgram:
    """Put a program behind the memory that it works on, `gap` times 128 bytes further."""
    address = -(-memory.size // COMMAND_BYTES) * COMMAND_BYTES + gap * COMMAND_BYTES
    image = np.zeros(address + COMMAND_BYTES * len(flat), np.uint8)
    image[: memory.size] = memory
    return CosimProgram(name, flat, image, address, seed, tuple(sections), tensors or {})


# ---- data ---------------------------------------------------------------------------------------------------------


def random_bytes(rng: Generator, size: int, hw: Accelerator) -> NDArray[np.uint8]:
    """Draw memory in chunks: any bits, numbers about one of the operands' formats or fp32, and special ones."""
    found = np.empty(-(-size // _CHUNK_BYTES) * _CHUNK_BYTES, np.uint8)
    for chunk in found.reshape(-1, _CHUNK_BYTES):
        chunk[:] = random_numbers(rng, str(rng.choice([*array_formats(hw.array.operand_format), "fp32"])), _CHUNK_BYTES)
    return found[:size]


#: Bits of the exponent and of the fraction.
_FLOATS = {"fp8_e4m3": (4, 3), "fp8_e5m2": (5, 2), "bf16": (8, 7), "fp16": (5, 10), "fp32": (8, 23)}


def random_numbers(rng: Generator, format: str, size: int) -> NDArray[np.uint8]:
    """Draw `size` bytes of numbers of a format: any bits, or numbers about one, with zeros or special ones between."""
    kind = rng.random()
    count = -(-size // (FORMAT_BITS[format] // 8))
    if format == "int32":
        return rng.integers(-3, 40, count).astype(np.int32).view(np.uint8)[:size]
    if kind < 0.3 or format == "int8":
        return rng.integers(0, 256, size, dtype=np.uint8)
    exponent_bits, fraction_bits = _FLOATS[format]
    most = (1 << exponent_bits) - 1
    exponents = most // 2 + rng.integers(-5, 3, count) + int(rng.integers(-3, 3))
    if kind < 0.5:
        special = rng.random(count) < 0.1
        exponents[special] = rng.choice([0, 1, most - 1, most], int(special.sum()))
    bits = rng.integers(0, 2, count) << exponent_bits | np.clip(exponents, 0, most)
    bits = bits << fraction_bits | rng.integers(0, 1 << fraction_bits, count)
    bits[rng.random(count) < (0.6 if kind > 0.8 else 0.05)] = 0
    return bits.astype(f"<u{FORMAT_BITS[format] // 8}").view(np.uint8)[:size]


# ---- ops of random graphs -----------------------------------------------------------------------------------------


def random_graph_program(hw: Accelerator, rng: Generator, name: str) -> CosimProgram:
    """Draw a small graph, and of its training step some ops in order; data, addresses and exponents are random.

    Raises
    ------
    HwsimError
        If nothing that is drawn fits the machine.
    """
    for _ in range(_TRIES):
        try:
            machine = _Placed(_random_graph(rng, hw), hw, rng)
        except HwsimError:  # an op that does not fit this machine
            continue
        ops = [op for op in machine.graph.ops if len(machine._linked[op.name].flat)]
        first = int(rng.integers(0, len(ops)))
        chosen = ops[first : first + int(rng.integers(1, 7))]
        if sum(len(machine._linked[op.name].flat) for op in chosen) > 400:
            continue
        machine.core.dram[:] = random_bytes(rng, machine.core.dram.size, hw)
        for tensor in machine.graph.tensors.values():
            _fill(machine, tensor, rng)
        return graph_program(machine, chosen, f"{name}: {', '.join(op.name for op in chosen)}",
                             seed=int(rng.integers(0, 1 << 32)))  # fmt: skip
    raise HwsimError(f"{hw.name}: no op of a random graph fits it; make its memories larger")


def _fill(machine: Machine, tensor: Tensor, rng: Generator) -> None:
    format = format_of(tensor, machine.hw)
    at, size = machine._addresses[tensor.name], stored_bytes(tensor, machine.hw)
    machine.core.dram[at : at + size] = random_numbers(rng, format, size)
    if FORMAT_CODES[format] and rng.random() < 0.5:
        machine.exponents[tensor.name] = int(rng.integers(-12, 12))


def _random_graph(rng: Generator, hw: Accelerator) -> Graph:
    """One to four layers with their gradients and updates, or without."""
    net = Network("tiny", batch=int(rng.integers(1, 5)))
    most = 2 * max(hw.array.rows, hw.array.cols)
    lines = rng.random() < 0.35
    value = net.input((int(rng.integers(1, most)),)) if lines else _images(net, rng, max(2, most // 2))
    for _ in range(int(rng.integers(0, 2))):
        value = _vector_layer(value, rng)
    if len(value.shape) == 4:
        value = value.global_avg_pool() if rng.random() < 0.3 else value.flatten()
    value = value.linear(int(rng.integers(1, most)), bias=bool(rng.random() < 0.5), name="fc")
    graph = value.softmax_cross_entropy(name="loss") if rng.random() < 0.5 else value.mean_squared_error(name="loss")
    if rng.random() < 0.2:
        return graph
    optimizer = str(rng.choice(["sgd", "momentum", "nesterov", "adam", "adamw"]))
    return training_graph(graph, optimizer, master_weights=hw.array.operand_format != "fp32")


def _images(net: Network, rng: Generator, most: int) -> Value:
    value = net.input((int(rng.integers(2, 6)), int(rng.integers(2, 6)), int(rng.integers(1, most))))
    for i in range(int(rng.integers(1, 3))):
        kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        smallest = min(value.shape[1], value.shape[2])
        if smallest < 2:
            break
        value = value.conv2d(
            int(rng.integers(1, most)), kernel, stride=int(rng.integers(1, 3)),
            padding=(kernel[0] // 2, kernel[1] // 2), bias=bool(rng.random() < 0.5), name=f"conv{i}",
        )  # fmt: skip
        value = _vector_layer(value, rng)
    return value


def _vector_layer(value: Value, rng: Generator) -> Value:
    kind = rng.choice(["relu", "relu6", "add", "max", "avg", "norm", "none"])
    if kind in ("max", "avg") and len(value.shape) == 4 and min(value.shape[1:3]) >= 2:
        pool = value.max_pool if kind == "max" else value.avg_pool
        return pool(2, stride=int(rng.integers(1, 3)), padding=int(rng.integers(0, 2)))
    if kind == "norm" and len(value.shape) == 4:
        return value.batchnorm()
    if kind == "add":
        return value + value.relu()
    return value.relu6() if kind == "relu6" else value.relu() if kind == "relu" else value


# ---- matrix segments in random tilings -----------------------------------------------------------------------------


def random_tiling(
    hw: Accelerator, rng: Generator, *, most_commands: int = 150
) -> tuple[MatrixSegment, Program, list[Stored]]:
    """Draw a matrix segment and one of all tilings that fit: loop orders, edges, patches and expanded lines.

    Raises
    ------
    HwsimError
        If nothing that is drawn fits the machine.
    """
    machine = machine_vector(hw)
    for _ in range(_TRIES):
        segment = _random_segment(hw, rng)
        spec = np.array(segment.values, np.int64)
        tiles = np.zeros((4000, len(kernels.TILE)), np.int64)
        bounds, beats = np.empty(4000, np.int64), np.empty(4000, np.int64)
        found = kernels._candidates(spec, machine, tiles, bounds, beats)
        if not found:
            continue
        tile = tiles[int(rng.integers(0, found))]
        tile[kernels.TILE["DEFER"]] = int(rng.integers(1, 3))
        items = np.empty((kernels.MAX_ITEMS, FIELDS), np.int64)
        steps = np.empty((kernels.MAX_STEPS, 4), np.int64)
        used, moved = kernels.emit(spec, machine, tile, items, steps)
        program = Program(items[:used].copy(), steps[:moved].copy())
        if program.commands > most_commands:
            continue
        formats = array_formats(hw.array.operand_format)
        stored = [Stored(str(rng.choice(formats))) for _ in range(2)]
        out = "fp32" if segment["OUT_BYTES"] == 4 else str(rng.choice(formats))
        stored += [Stored("fp32")] * bool(segment["BIAS"])
        stored.append(Stored(out, str(rng.choice(["nearest", "stochastic"]))))
        set_formats(program, stored)
        return segment, program, stored
    raise HwsimError(f"{hw.name}: no tile of a random segment fits it; make its memories larger")


def _random_segment(hw: Accelerator, rng: Generator) -> MatrixSegment:
    most = 3 * max(hw.array.rows, hw.array.cols) + 1

    def size(limit: int = most) -> int:
        return int(rng.integers(1, limit))

    if rng.random() < 0.4:
        wgrad = bool(rng.random() < 0.4)
        return gemm_segment(
            size(), size(), size(), hw, transpose_a=bool(not wgrad and rng.random() < 0.4),
            transpose_b=bool(rng.random() < 0.5), bias=bool(not wgrad and rng.random() < 0.4), wgrad=wgrad,
        )  # fmt: skip
    phase = str(rng.choice(["forward", "dgrad", "wgrad"]))
    groups = int(rng.choice([1, 1, 1, 2]))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    padding = (int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1])))
    dilation = (int(rng.integers(1, 3)), 1)
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    height, width = (int(rng.integers(3, 7)) for _ in range(2))
    outs = [
        (size_ + 2 * pad - gap * (taps - 1) - 1) // step + 1
        for size_, pad, gap, taps, step in zip((height, width), padding, dilation, kernel, stride, strict=True)
    ]
    if min(outs) < 1:
        return _random_segment(hw, rng)
    batch, c, n = size(4), groups * size(most // 2 + 1), groups * size(most // 2 + 1)
    x, w, y = (batch, height, width, c), (n, *kernel, c // groups), (batch, *outs, n)
    segments, _ = conv_segments(phase, x, w, y, attrs, hw, bias=bool(phase == "forward" and rng.random() < 0.4))
    if not segments:
        return _random_segment(hw, rng)
    return segments[int(rng.integers(0, len(segments)))]


def tiling_program(hw: Accelerator, rng: Generator, name: str) -> CosimProgram:
    """Draw a matrix segment in a random tiling, with its operands anywhere and random exponents.

    Raises
    ------
    HwsimError
        If nothing that is drawn fits the machine.
    """
    _, program, stored = random_tiling(hw, rng)
    flat = program.expand()
    unit, operand = flat[:, Field.UNIT], flat[:, Field.OPERAND]
    beat, at = max(hw.dram.beat_bytes, 4), 0
    tensors = {}
    for number in rng.permutation(len(stored)).tolist():
        moves = ((unit == Unit.LOAD) | (unit == Unit.STORE)) & (operand == number)
        low, high = extent(flat[moves])
        at += beat * int(rng.integers(0, 4)) - low // beat * beat
        flat[moves, Field.OFFSET] += at
        tensors[f"operand {number}"] = at + low, at + high
        at += -(-high // beat) * beat
    exponents = np.array([int(rng.integers(-9, 9)) if FORMAT_CODES[s.format] else 0 for s in stored])
    link_exponents(flat, exponents)
    memory = random_bytes(rng, at + beat, hw)
    return place_program(name, flat, memory, int(rng.integers(0, 1 << 32)), [(0, "segment")], tensors,
                         gap=int(rng.integers(0, 3)))  # fmt: skip


def link_exponents(flat: NDArray[np.int64], exponents: NDArray[np.int64]) -> None:
    """Write the exponents of the operands into a segment's loads, conversions and first micro-operations."""
    unit, operand = flat[:, Field.UNIT], flat[:, Field.OPERAND]
    loads = (unit == Unit.LOAD) & (flat[:, Field.OPCODE] == 2)
    flat[loads, MoveField.EXPONENT] = exponents[operand[loads]]
    vector = unit == Unit.VECTOR
    converts = vector & (flat[:, VectorField.FORMAT] != 0)
    flat[converts, VectorField.EXPONENT] = -exponents[operand[converts]]
    sums = vector & (flat[:, Field.FLAGS] & VectorFlag.SUMS != 0)
    flat[sums, VectorField.SCALAR] = exponents[0] + exponents[1]


def extent(moves: NDArray[np.int64]) -> tuple[int, int]:
    """First byte that loads or stores touch, and the byte after the last; (0, 0) if there is none."""
    touched = np.concatenate([np.zeros(0, np.int64), *(stored_bytes_of(row) for row in moves)])
    return (int(touched.min()), int(touched.max()) + 1) if touched.size else (0, 0)
