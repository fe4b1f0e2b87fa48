"""Energy: action counts × energy per action, each with an interval and a source (docs/contracts/energy.md)."""

from __future__ import annotations

from hwsim.energy.actions import ACTIONS, COMPONENTS, component_of
from hwsim.energy.pricing import Driver, PricedAction, PriceList, drivers, energy, price_list
from hwsim.energy.table import EnergyRow, EnergyTable, load_energy_table

__all__ = [
    "ACTIONS",
    "COMPONENTS",
    "Driver",
    "EnergyRow",
    "EnergyTable",
    "PriceList",
    "PricedAction",
    "component_of",
    "drivers",
    "energy",
    "load_energy_table",
    "price_list",
]
