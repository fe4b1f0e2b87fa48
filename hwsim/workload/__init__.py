"""The workload: a network as a typed graph, and the whole training step that follows from it.

`Network` builds a forward graph, `training_graph` adds gradients and updates by differentiating that graph;
docs/contracts/workload.md is the normative table of ops.
"""

from __future__ import annotations

from hwsim.workload.autodiff import training_graph
from hwsim.workload.builder import Network, Value
from hwsim.workload.freezing import freeze
from hwsim.workload.graph import Graph, Op, Phase, Role, Tensor
from hwsim.workload.inference import inference_graph
from hwsim.workload.liveness import lifetimes, memory_category, stashes, tensor_bytes
from hwsim.workload.losses import with_squared_error
from hwsim.workload.ops import (
    GradientOp,
    OpRule,
    SharedGradient,
    gradient_name,
    macs,
    register,
    registered,
    vector_operations,
)
from hwsim.workload.optimizers import OPTIMIZERS, Adam, AdamW, Momentum, Nesterov, Optimizer, Sgd
from hwsim.workload.precision import PRECISIONS, Precision, default_precision, precision_of, with_precision
from hwsim.workload.recompute import RECOMPUTE_POLICIES, check_policy, with_recompute

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "RECOMPUTE_POLICIES",
    "Adam",
    "AdamW",
    "GradientOp",
    "Graph",
    "Momentum",
    "Nesterov",
    "Network",
    "Op",
    "OpRule",
    "Optimizer",
    "Phase",
    "Precision",
    "Role",
    "Sgd",
    "SharedGradient",
    "Tensor",
    "Value",
    "check_policy",
    "default_precision",
    "freeze",
    "gradient_name",
    "inference_graph",
    "lifetimes",
    "macs",
    "memory_category",
    "precision_of",
    "register",
    "registered",
    "stashes",
    "tensor_bytes",
    "training_graph",
    "vector_operations",
    "with_precision",
    "with_recompute",
    "with_squared_error",
]
