"""Updates of one parameter, in PyTorch's conventions; with a master copy, the weight is the updated master.

References
----------
I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep learning", ICML
2013 (Nesterov); D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015; I. Loshchilov, F. Hutter,
"Decoupled weight decay regularization", ICLR 2019 (AdamW).
"""

from __future__ import annotations

import numpy as np

from hwsim.values.reference.call import Array, Arrays, Call, Rule

__all__ = ["RULES"]


def _sgd(call: Call, p: Array, g: Array) -> Arrays:
    return _written(call, p - call.attrs["learning_rate"] * _decayed(call, p, g))


def _momentum(call: Call, p: Array, g: Array, velocity: Array) -> Arrays:
    velocity = call.attrs["momentum"] * velocity + _decayed(call, p, g)
    return _written(call, p - call.attrs["learning_rate"] * velocity, velocity)


def _nesterov(call: Call, p: Array, g: Array, velocity: Array) -> Arrays:
    """Look ahead: the step takes the gradient and once more the momentum of the new velocity."""
    g = _decayed(call, p, g)
    velocity = call.attrs["momentum"] * velocity + g
    return _written(call, p - call.attrs["learning_rate"] * (g + call.attrs["momentum"] * velocity), velocity)


def _adam(call: Call, p: Array, g: Array, m: Array, v: Array) -> Arrays:
    return _adam_step(call, p, _decayed(call, p, g), m, v)


def _adamw(call: Call, p: Array, g: Array, m: Array, v: Array) -> Arrays:
    shrunk = p * (1 - call.attrs["learning_rate"] * call.attrs["weight_decay"])
    return _adam_step(call, shrunk, g, m, v)


def _adam_step(call: Call, p: Array, g: Array, m: Array, v: Array) -> Arrays:
    """Divide both moments by what is missing from their sums of weights, since they began at zero."""
    a, t = call.attrs, call.step_number
    m = a["beta1"] * m + (1 - a["beta1"]) * g
    v = a["beta2"] * v + (1 - a["beta2"]) * np.square(g)
    corrected_m, corrected_v = m / (1 - a["beta1"] ** t), v / (1 - a["beta2"] ** t)
    return _written(call, p - a["learning_rate"] * corrected_m / (np.sqrt(corrected_v) + a["eps"]), m, v)


def _decayed(call: Call, p: Array, g: Array) -> Array:
    """Gradient with the weight decay's: that of weight_decay / 2 · p²."""
    decay: float = call.attrs["weight_decay"]
    return g + decay * p


def _written(call: Call, p: Array, *states: Array) -> Arrays:
    """Outputs of an update: the parameter, its copy in the operand format where there is a master, the states."""
    copies = len(call.shapes) - 1 - len(states)
    return (p, *[p.copy()] * copies, *states)


RULES: dict[str, Rule] = {
    "sgd_update": _sgd,
    "momentum_update": _momentum,
    "nesterov_update": _nesterov,
    "adam_update": _adam,
    "adamw_update": _adamw,
}
