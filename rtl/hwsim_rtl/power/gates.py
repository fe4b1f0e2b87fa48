"""What a change of a net costs: ½·C·V² of what hangs on it, and the internal energy of what drives it.

`Assumptions` names what a netlist without a layout leaves open; `Weights.of` prices every net of a netlist under them.
Normative: docs/contracts/calibration.md, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from hwsim_rtl.power.activity import Activity
from hwsim_rtl.power.liberty import Arc, Library
from hwsim_rtl.power.netlist import Instance, Netlist

__all__ = ["CENTRAL", "HIGH", "KINDS", "LOW", "STEP_NS", "Assumptions", "Weights", "delays_of"]

#: What an energy is made of: clock pins; inside the cells; loads.
KINDS = ("clock", "internal", "switching")
#: Step in which delays are counted [ns]; the shortest gate takes two or three.
STEP_NS = 0.04


@dataclass(frozen=True)
class Assumptions:
    """What the netlist does not say.

    Attributes
    ----------
    wire_ff : float
        Wire per input pin that a net feeds [fF].
    slew_ns : float
        Transition time at every input [ns], at which the tables are read.
    neighbour_ff_per_um : float
        Wire from a port to the next PE, per µm of the side of a square of the component's area [fF/µm].
    glitches : bool
        Gates have their delays; else all settles at once, and no net changes twice in a cycle.
    """

    wire_ff: float
    slew_ns: float
    neighbour_ff_per_um: float
    glitches: bool


#: Value and bounds. Wires per fan-out and slews are those usual at 180 nm, an assumption of this project; so are 0.1 to
#: 0.3 fF/µm of wire.
CENTRAL = Assumptions(10.0, 0.12, 0.2, glitches=True)
LOW = Assumptions(5.0, 0.06, 0.1, glitches=False)
HIGH = Assumptions(20.0, 0.3, 0.3, glitches=True)


@dataclass(frozen=True, eq=False)
class Weights:
    """Energy per change of every net, and of the clock per cycle, by part.

    Attributes
    ----------
    parts : tuple of str
        Parts of the component; the first, ``""``, is its own.
    changes : ndarray of shape (parts, 2, nets)
        Energy of one change, internal and switching [pJ].
    clock_pj : ndarray of shape (parts,)
        Energy of the clock pins per cycle [pJ].
    """

    parts: tuple[str, ...]
    changes: NDArray[np.float64]
    clock_pj: NDArray[np.float64]

    @staticmethod
    def of(
        netlist: Netlist,
        library: Library,
        assumed: Assumptions,
        parts: tuple[str, ...] = (),
        feeds: Mapping[str, str] | None = None,
    ) -> Weights:
        """Price the nets.

        Parameters
        ----------
        netlist, library, assumed
            What is priced, and how.
        parts : tuple of str
            Names of the parts that are told apart. A flip-flop that drives a port is the component's own.
        feeds : mapping of str to str
            Output port by input port: the neighbour's port that drives it. Its load then counts at the output, and not
            at the input, so that a chain of components counts it once. Any other input's load counts where it is.
        """
        names = ("", *parts)
        feeds = feeds or {}
        loads = _loads(netlist, assumed)
        for entered, left in feeds.items():
            reach_pf = assumed.neighbour_ff_per_um * sqrt(netlist.area_um2) * 1e-3
            loads[netlist.ports[left]] += loads[netlist.ports[entered]] + reach_pf
        half_v2 = library.voltage_v**2 / 2
        changes = np.zeros((len(names), 2, netlist.nets))
        clock_pj = np.zeros(len(names))
        out_nets = {n for name, bits in netlist.ports.items() if name not in netlist.inputs for n in bits.tolist()}
        for instance in (*netlist.gates, *netlist.flip_flops):
            part = _part(instance, names, out_nets)
            for pin, net in instance.nets.items():
                known = instance.cell.pins[pin]
                if pin == instance.cell.clock:
                    load_pf = known.capacitance_pf + assumed.wire_ff * 1e-3
                    clock_pj[part] += 2 * (half_v2 * load_pf + _mean(known.energies, assumed.slew_ns, 0.0))
                    continue
                changes[part, 0, net] += _mean(known.energies, assumed.slew_ns, loads[net])
                if known.direction == "output":
                    changes[part, 1, net] += half_v2 * loads[net]
        for name in netlist.inputs:
            if name not in feeds:
                changes[0, 1, netlist.ports[name]] += half_v2 * loads[netlist.ports[name]]
        changes[:, :, :2] = 0
        return Weights(names, changes, clock_pj)

    def energy_pj(self, activity: Activity) -> NDArray[np.float64]:
        """Energy per cycle: ndarray of shape (parts, len(KINDS), 64) [pJ], mean over the counted cycles."""
        per_cycle = activity.toggles / activity.cycles
        dynamic = self.changes @ per_cycle
        clock = np.broadcast_to(self.clock_pj[:, None, None], (len(self.parts), 1, per_cycle.shape[1]))
        return np.concatenate([clock, dynamic], axis=1)


def delays_of(netlist: Netlist, assumed: Assumptions) -> NDArray[np.int64]:
    """Inertial delay of every output of every gate: ndarray of shape (len(netlist.outputs),) [steps, 1 or more]."""
    loads = _loads(netlist, assumed)
    found = []
    for instance, pin in netlist.outputs:
        delay_ns = _mean(instance.cell.pins[pin].delays, assumed.slew_ns, loads[instance.nets[pin]])
        found.append(max(1, round(delay_ns / STEP_NS)))
    return np.array(found, np.int64)


def _loads(netlist: Netlist, assumed: Assumptions) -> NDArray[np.float64]:
    """Capacitance that hangs on every net inside the component [pF]."""
    loads = np.zeros(netlist.nets)
    for instance in (*netlist.gates, *netlist.flip_flops):
        for pin, net in instance.nets.items():
            known = instance.cell.pins[pin]
            if known.direction == "input" and pin != instance.cell.clock:
                loads[net] += known.capacitance_pf + assumed.wire_ff * 1e-3
    return loads


def _part(instance: Instance, names: tuple[str, ...], out_nets: set[int]) -> int:
    if instance.cell.clock and any(
        net in out_nets for pin, net in instance.nets.items() if instance.cell.pins[pin].direction == "output"
    ):
        return 0
    return names.index(instance.part)


def _mean(arcs: tuple[Arc, ...], slew_ns: float, load_pf: float) -> float:
    return sum(arc.mean(slew_ns, load_pf) for arc in arcs) / len(arcs) if arcs else 0.0
