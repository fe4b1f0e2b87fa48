"""When each tensor of a step is live, what the backward pass keeps, and how many bytes a tensor is.

Peak memory is the sum of `tensor_bytes` over the live tensors of an op, stacked by `memory_category`.
"""

from __future__ import annotations

from hwsim.hardware.formats import FORMAT_BITS
from hwsim.workload.graph import Graph, Phase, Role, Tensor

__all__ = ["lifetimes", "memory_category", "stashes", "tensor_bytes"]

#: Roles that are stored in the operand format; the others take 32 bits.
_OPERANDS = frozenset({Role.INPUT, Role.ACTIVATION, Role.GRADIENT, Role.WEIGHT})
_PARAMETERS = frozenset({Role.WEIGHT, Role.VECTOR_PARAMETER, Role.BUFFER})
_OPTIMIZER = frozenset({Role.MASTER, Role.STATE})
_STASHED = frozenset({Role.INPUT, Role.ACTIVATION, Role.STATISTIC})


def tensor_bytes(tensor: Tensor, operand_bytes: int) -> int:
    """Bytes of a tensor's elements, without the padding of lines (docs/contracts/program.md).

    Parameters
    ----------
    tensor : Tensor
        Any tensor of a graph. Labels of one axis are class indices, of more axes regression targets.
    operand_bytes : int
        Width of the operand format [bytes], for tensors that have no format of their own.

    Examples
    --------
    >>> tensor_bytes(Tensor("conv1", (2, 4, 4, 8), Role.ACTIVATION), operand_bytes=2)
    512
    >>> tensor_bytes(Tensor("labels", (2,), Role.LABEL), operand_bytes=2)
    8
    """
    if tensor.format:
        return tensor.elements * FORMAT_BITS[tensor.format] // 8
    target = tensor.role is Role.LABEL and len(tensor.shape) > 1
    return tensor.elements * (operand_bytes if target or tensor.role in _OPERANDS else 4)


def lifetimes(graph: Graph) -> dict[str, tuple[int, int]]:
    """First and last op, as indices into ``graph.ops``, during which each tensor is live.

    Parameters, buffers and optimizer state are live during the whole graph; inputs and labels from op 0 to their last
    use; other tensors from the op that gives them to their last use.
    """
    last_op = max(len(graph.ops) - 1, 0)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, op in enumerate(graph.ops):
        for name in op.outputs:
            first.setdefault(name, index)
            last[name] = index
        for name in op.inputs:
            last[name] = index
    return {
        name: (0, last_op)
        if tensor.role in _PARAMETERS or tensor.role in _OPTIMIZER
        else (first.get(name, 0), last.get(name, 0))
        for name, tensor in graph.tensors.items()
    }


def stashes(step: Graph) -> tuple[str, ...]:
    """Return the forward tensors that a backward op or a recomputation reads, in the order of the graph's tensors."""
    made_later: set[str] = set()
    read: set[str] = set()
    for op in step.ops:
        if op.phase is not Phase.FORWARD:
            made_later.update(op.outputs)
        if op.phase in (Phase.DGRAD, Phase.WGRAD, Phase.RECOMPUTE):
            read.update(op.inputs)
    kept = read - made_later
    return tuple(name for name, tensor in step.tensors.items() if name in kept and tensor.role in _STASHED)


def memory_category(tensor: Tensor, is_stash: bool) -> str:
    """Category under which reports stack a tensor's bytes.

    Returns
    -------
    str
        ``parameters``, ``optimizer_state``, ``gradients`` (of parameters), ``stash`` or ``workspace`` (the rest).
    """
    if tensor.role in _PARAMETERS:
        return "parameters"
    if tensor.role in _OPTIMIZER:
        return "optimizer_state"
    if tensor.role is Role.WEIGHT_GRADIENT:
        return "gradients"
    return "stash" if is_stash else "workspace"
