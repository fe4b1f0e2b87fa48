"""The forward ops once more, in JAX and from JAX's own operators, to be differentiated by JAX.

Nothing here knows of gradients, of `hwsim.values` or of how it computes; both follow docs/contracts/workload.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

# Small graphs of many shapes: compiling is what takes time, not running.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hwsim.workload.graph import Graph, Phase

jax.config.update("jax_enable_x64", True)

Arrays = tuple[Any, ...]


def linear(attrs: Mapping[str, Any], x: Any, w: Any, b: Any = 0.0) -> Arrays:
    return (jnp.einsum("bi,oi->bo", x, w) + b,)


def conv2d(attrs: Mapping[str, Any], x: Any, w: Any, b: Any = 0.0) -> Arrays:
    y = lax.conv_general_dilated(
        x,
        w,
        window_strides=attrs["stride"],
        padding=[(p, p) for p in attrs["padding"]],
        rhs_dilation=attrs["dilation"],
        dimension_numbers=("NHWC", "OHWI", "NHWC"),
        feature_group_count=attrs["groups"],
        precision=lax.Precision.HIGHEST,
    )
    return (y + b,)


def batchnorm(attrs: Mapping[str, Any], x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any) -> Arrays:
    pixels = x.reshape(-1, x.shape[-1])
    mean = jnp.mean(pixels, axis=0)
    deviation = jnp.sqrt(jnp.var(pixels, axis=0) + attrs["eps"])
    y = gamma * (x - mean) / deviation + beta
    weight = attrs["momentum"]
    moved_mean = running_mean + weight * (mean - running_mean)
    moved_var = running_var + weight * (jnp.var(pixels, axis=0, ddof=1) - running_var)
    return y, mean, 1 / deviation, moved_mean, moved_var


def max_pool(attrs: Mapping[str, Any], x: Any) -> Arrays:
    return (_reduce(attrs, x, -jnp.inf, lax.max),)


def avg_pool(attrs: Mapping[str, Any], x: Any) -> Arrays:
    return (_reduce(attrs, x, 0.0, lax.add) / np.prod(attrs["kernel"]),)


def _reduce(attrs: Mapping[str, Any], x: Any, start: float, function: Callable[..., Any]) -> Any:
    margins = [(0, 0), *((p, p) for p in attrs["padding"]), (0, 0)]
    return lax.reduce_window(x, start, function, (1, *attrs["kernel"], 1), (1, *attrs["stride"], 1), margins)


def softmax_cross_entropy(attrs: Mapping[str, Any], logits: Any, labels: Any) -> Arrays:
    logs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(logs, labels.astype(int)[:, None], axis=1)
    return -jnp.mean(chosen).reshape(1), jnp.exp(logs)


FORWARD: dict[str, Callable[..., Arrays]] = {
    "linear": linear,
    "conv2d": conv2d,
    "batchnorm": batchnorm,
    "relu": lambda attrs, x: (jax.nn.relu(x),),
    "relu6": lambda attrs, x: (jax.nn.relu6(x),),
    "add": lambda attrs, a, b: (a + b,),
    "max_pool": max_pool,
    "avg_pool": avg_pool,
    "global_avg_pool": lambda attrs, x: (jnp.mean(x, axis=(1, 2)),),
    "flatten": lambda attrs, x: (x.reshape(x.shape[0], -1),),
    "argmax": lambda attrs, x: (jnp.argmax(x, axis=-1).astype(float),),
    "softmax_cross_entropy": softmax_cross_entropy,
    "mean_squared_error": lambda attrs, p, t: (jnp.mean((p - t) ** 2).reshape(1),),
}


def values(graph: Graph, given: Mapping[str, Any]) -> dict[str, Any]:
    """All tensors of the forward ops of a graph."""
    found = dict(given)
    for op in graph.ops:
        if op.phase is Phase.FORWARD:
            results = FORWARD[op.kind](op.attrs, *(found[name] for name in op.inputs))
            found.update(zip(op.outputs, results, strict=True))
    return found


def gradients(
    graph: Graph, given: Mapping[str, Any], parameters: tuple[str, ...], loss: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All forward tensors, and the gradient of `loss` to each parameter."""
    rest = {name: jnp.asarray(array) for name, array in given.items() if name not in parameters}

    def loss_of(moved: dict[str, Any], rest: dict[str, Any]) -> Any:
        found = values(graph, rest | moved)
        return found[loss][0], found

    moved = {name: jnp.asarray(given[name]) for name in parameters}
    differentiated, found = jax.jit(jax.grad(loss_of, has_aux=True))(moved, rest)
    return found, differentiated
