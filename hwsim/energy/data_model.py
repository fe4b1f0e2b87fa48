"""Energy of a PE and cycle as a function of what its operands do: the file, and prices of an array from it.

`load_data_model` reads what `hwsim calibrate --out` wrote, `ArrayPrices` applies it to the action counts of an op.
Normative: docs/contracts/calibration.md, section 6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwsim.energy.actions import ACTIONS
from hwsim.energy.operands import STATISTICS
from hwsim.energy.scaling import Estimate, scale
from hwsim.errors import HwsimError
from hwsim.hardware import FORMAT_BITS, Accelerator

__all__ = ["BOUNDS", "MODEL_PHASES", "MODEL_SCHEMA", "TERMS", "ArrayPrices", "DataModel", "load_data_model",
           "predicted_pj"]  # fmt: skip

MODEL_SCHEMA = "hwsim.data-model/1"
#: What the energy of a PE and cycle is a sum of, each with its coefficient.
TERMS = ("constant", *STATISTICS)
#: Phases whose ops are priced by the model.
MODEL_PHASES = ("forward", "dgrad", "wgrad")
BOUNDS = ("value", "low", "high")

_MACS, _GATED, _HOPS, _IDLE = (
    ACTIONS.index(f"array.{name}") for name in ("macs", "gated_macs", "hop_bytes", "idle_pe_cycles")
)

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Statistics = NDArray[np.float64]


def predicted_pj(coefficients: NDArray[np.float64], statistics: Statistics) -> NDArray[np.float64]:
    """Give ``constant + Σ coefficient · term`` [pJ per cycle] for statistics of shape (…, len(STATISTICS)).

    Examples
    --------
    >>> predicted_pj(np.array([20.0, 1, 2, 3, 4, -5]), np.array([[1.0, 1, 1, 1, 0], [0, 0, 0, 0, 1]])).tolist()
    [30.0, 15.0]
    """
    energies: NDArray[np.float64] = coefficients[0] + statistics @ coefficients[1:]
    return energies


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CellLibrary(_Part):
    """Where the gates are from: name and SHA-256 of the Liberty file, its node [nm] and supply [V]."""

    name: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    node_nm: Annotated[float, Field(ge=3, le=250)]
    supply_v: Positive


class Bounded(_Part):
    """A positive figure with its bounds."""

    value: Positive
    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _in_order(self) -> Bounded:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"low ≤ value ≤ high does not hold: {self.low:g}, {self.value:g}, {self.high:g}")
        return self


class Coefficients(_Part):
    """One coefficient per term of `TERMS` [pJ], under the assumptions of value, low and high."""

    value: Annotated[tuple[Finite, ...], Field(min_length=len(TERMS), max_length=len(TERMS))]
    low: Annotated[tuple[Finite, ...], Field(min_length=len(TERMS), max_length=len(TERMS))]
    high: Annotated[tuple[Finite, ...], Field(min_length=len(TERMS), max_length=len(TERMS))]


class HeldOutError(_Part):
    """How far the model is off on the streams it was not fitted to, as a share: mean over them, and the largest."""

    mean: Annotated[float, Field(ge=0, lt=1)]
    largest: Annotated[float, Field(ge=0, lt=1)]


class PhaseStatistics(_Part):
    """Means of `STATISTICS` over the MACs of a phase."""

    moving_toggles: Annotated[float, Field(ge=0, le=64)]
    effective_toggles: Annotated[float, Field(ge=0, le=64)]
    product_toggles: Annotated[float, Field(ge=0, le=64)]
    sum_toggles: Annotated[float, Field(ge=0, le=64)]
    zeros: Annotated[float, Field(ge=0, le=1)]

    @property
    def array(self) -> Statistics:
        """In the order of `STATISTICS`."""
        return np.array([getattr(self, name) for name in STATISTICS])


class DataModel(_Part):
    """The model of one PE, and the statistics of the training that it was measured on.

    Attributes
    ----------
    schema_id : str
        `MODEL_SCHEMA`; ``schema`` in the file.
    hardware, dataflow : str
        Whose PE it is.
    operand_format, add_latency_cycles, multiply_latency_cycles
        Of the PE: its format, α and μ.
    rows, cols : int
        Of the array that the statistics are for.
    library, tools
        What it was measured with.
    terms : tuple of str
        `TERMS`.
    coefficients_pj, held_out_error, idle_pj
        The model, its error, and the energy of a PE in which nothing changes but the clock.
    trained : str
        What the statistics were measured on.
    statistics : mapping of str to PhaseStatistics
        By phase.
    """

    schema_id: Annotated[Literal["hwsim.data-model/1"], Field(alias="schema")]
    hardware: str
    dataflow: Literal["ws", "is"]
    operand_format: Literal[tuple(FORMAT_BITS)]  # type: ignore[valid-type]
    add_latency_cycles: Annotated[int, Field(ge=1)]
    multiply_latency_cycles: Annotated[int, Field(ge=0)]
    rows: Annotated[int, Field(ge=1)]
    cols: Annotated[int, Field(ge=1)]
    library: CellLibrary
    tools: dict[str, str]
    terms: tuple[str, ...]
    coefficients_pj: Coefficients
    held_out_error: HeldOutError
    idle_pj: Bounded
    trained: str
    statistics: dict[Literal["forward", "dgrad", "wgrad"], PhaseStatistics]

    @model_validator(mode="after")
    def _whole(self) -> DataModel:
        if self.terms != TERMS:
            raise ValueError(f"the terms are {', '.join(TERMS)}")
        missing = [phase for phase in MODEL_PHASES if phase not in self.statistics]
        if missing:
            raise ValueError(f"statistics of {missing[0]} are missing")
        for phase, found in self.statistics.items():
            if self.cycle_pj(found.array).low <= 0:
                raise ValueError(f"the energy of a cycle of {phase} must be above 0")
        return self

    def cycle_pj(self, statistics: Statistics) -> Estimate:
        """Energy of a PE in a cycle with a MAC at the model's node [pJ]; its bounds have the held-out error in them.

        Parameters
        ----------
        statistics : ndarray of shape (len(STATISTICS),)
            Means over MACs.
        """
        value, low, high = (
            float(predicted_pj(np.array(getattr(self.coefficients_pj, bound)), statistics)) for bound in BOUNDS
        )
        error = self.held_out_error.largest
        low, high = min(low, value) / (1 + error), max(high, value) / (1 - error)
        return Estimate(value, low, high, (self.source,))

    @property
    def sha256(self) -> str:
        """Digest of all that it says."""
        return sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()

    @property
    def source(self) -> str:
        """Where the figures are from."""
        return f"[A] model of data, measured at the gates of {self.hardware}'s RTL; {self.library.name}"

    def check(self, hw: Accelerator) -> None:
        """Refuse an accelerator with another PE.

        Raises
        ------
        HwsimError
            If format, α, μ or dataflow differ.
        """
        array = hw.array
        own = _pe(self.operand_format, self.add_latency_cycles, self.multiply_latency_cycles, self.dataflow)
        its = _pe(array.operand_format, array.add_latency_cycles, array.multiply_latency_cycles, array.dataflow.value)
        if own != its:
            raise HwsimError(
                f"{hw.name}: its PE has {its}, the data model's ({self.hardware}) {own}; take a model of this PE: "
                "hwsim calibrate --out DIR writes it"
            )


def _pe(format: str, add: int, multiply: int, dataflow: str) -> str:
    return f"{format} operands, α = {add} and μ = {multiply} in dataflow {dataflow}"


def load_data_model(path: str | Path) -> DataModel:
    """Read a model of data.

    Raises
    ------
    HwsimError
        If the file cannot be read or is not such a model; one sentence that names the first thing wrong.
    """
    try:
        found = json.loads(Path(path).read_text("utf-8"))
        return DataModel.model_validate(found)
    except OSError as error:
        raise HwsimError(f"cannot read data model '{path}': {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise HwsimError(f"data model '{path}': {f'{place}: ' if place else ''}{said}") from None
    except ValueError:
        raise HwsimError(f"data model '{path}': not a JSON file; hwsim calibrate --out DIR writes one") from None


@dataclass(frozen=True, eq=False)
class ArrayPrices:
    """What the array of an accelerator costs by a model of data.

    Attributes
    ----------
    model : DataModel
        That fits the accelerator.
    node_nm : float
        Of the accelerator [nm].
    """

    model: DataModel
    node_nm: float

    @staticmethod
    def of(model: DataModel, hw: Accelerator) -> ArrayPrices:
        """Give those of an accelerator.

        Raises
        ------
        HwsimError
            If the model is of another PE.
        """
        model.check(hw)
        return ArrayPrices(model, hw.node_nm)

    def cycle_pj(self, statistics: Statistics) -> Estimate:
        """Energy of a PE in a cycle with a MAC [pJ]."""
        return self.model.cycle_pj(statistics) * scale(self.model.library.node_nm, self.node_nm)

    def idle_pj(self) -> Estimate:
        """Energy of a PE in a cycle without a MAC [pJ]."""
        idle = self.model.idle_pj
        measured = Estimate(idle.value, idle.low, idle.high, (self.model.source,))
        return measured * scale(self.model.library.node_nm, self.node_nm)

    def recorded(self) -> Mapping[str, Statistics]:
        """Statistics of the model's own training, by phase."""
        return {phase: found.array for phase, found in self.model.statistics.items()}

    def array_pj(self, actions: NDArray[np.float64], statistics: Statistics) -> NDArray[np.float64]:
        """Energy of the array: ndarray of shape (3,), value, low, high [pJ].

        Parameters
        ----------
        actions : ndarray of shape (len(ACTIONS),)
            Counts of an op.
        statistics : ndarray of shape (len(STATISTICS),)
            Of its operands.
        """
        energies: NDArray[np.float64] = self.applied(np.zeros((3, len(ACTIONS))), actions, statistics).sum(axis=-1)
        return energies

    def applied(
        self, energies: NDArray[np.float64], actions: NDArray[np.float64], statistics: Statistics
    ) -> NDArray[np.float64]:
        """Give an op's energies [pJ], ndarray of shape (3, len(ACTIONS)), with those of the array by the model.

        Every MAC, with a zero operand or without, is a cycle of a PE with all that hops in it, and stands under
        ``array.macs``.
        """
        found = energies.copy()
        cycle, idle = self.cycle_pj(statistics), self.idle_pj()
        found[:, _MACS] = (actions[_MACS] + actions[_GATED]) * np.array([cycle.value, cycle.low, cycle.high])
        found[:, _IDLE] = actions[_IDLE] * np.array([idle.value, idle.low, idle.high])
        found[:, _GATED] = found[:, _HOPS] = 0
        return found
