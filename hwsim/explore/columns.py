"""Columns of the sweep's table, and fields of the accelerator as columns: names, units, what programs depend on.

Normative: docs/contracts/sweep.md, sections 1 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from hwsim.energy import COMPONENTS
from hwsim.hardware import Accelerator, describe_error

__all__ = [
    "FIELDS",
    "FLOATS",
    "FPGA",
    "MEASURED",
    "PRICE_FIELDS",
    "SCRATCHPAD",
    "UNITS",
    "WORKLOAD_FIELDS",
    "accelerator_of",
    "check_field",
    "columns_accelerator",
    "is_text",
    "unit_of",
]

SCRATCHPAD = "scratchpad.capacity_bytes"
#: Fields that only change prices; programs do not see them.
PRICE_FIELDS = ("clock_mhz", "node_nm", "dram.kind")
#: Fields that are not whole numbers.
FLOATS = ("clock_mhz", "node_nm")
WORKLOAD_FIELDS = ("model", "batch", "precision", "optimizer", "recompute")
#: Columns that evaluation gives, numbers all of them.
MEASURED = (
    "cycles",
    "time_s",
    "energy_j",
    "energy_low_j",
    "energy_high_j",
    *(f"energy_{component}_j" for component in COMPONENTS),
    "power_w",
    "edp_js",
    "area_mm2",
    "area_low_mm2",
    "area_high_mm2",
    "samples_per_s",
    "energy_per_sample_j",
    "macs",
    "parameters",
    "dram_bytes",
    "peak_memory_bytes",
    "utilization",
)

#: Columns beside `MEASURED` where the space names an FPGA: cells, with bounds where they come from a fit.
FPGA = ("lut", "lut_low", "lut_high", "ff", "ff_low", "ff_high", "dsp", "bram")

#: Units that a quantity may have, by the end of the field's name: factor to the field's unit.
UNITS: Mapping[str, Mapping[str, float]] = {
    "_bytes": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "_mhz": {"kHz": 1e-3, "MHz": 1, "GHz": 1e3},
    "_nm": {"nm": 1, "um": 1e3, "µm": 1e3},
    "_cycles": {"cycles": 1},
}


def _flat(model: type[BaseModel], prefix: str = "") -> dict[str, TypeAdapter[Any]]:
    found: dict[str, TypeAdapter[Any]] = {}
    for name, info in model.model_fields.items():
        kind: Any = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.update(_flat(kind, f"{prefix}{name}."))
        elif prefix or name not in ("name", "source"):
            found[prefix + name] = TypeAdapter(Annotated[kind, *info.metadata] if info.metadata else kind)
    return found


#: Fields of an accelerator by dotted name, each with its check.
FIELDS: Mapping[str, TypeAdapter[Any]] = _flat(Accelerator)


@lru_cache(maxsize=256)
def is_text(field: str) -> bool:
    """Whether the values of a field are texts.

    >>> is_text("array.dataflow"), is_text("array.rows"), is_text("batch")
    (True, False, False)
    """
    if field in FIELDS:
        return "enum" in FIELDS[field].json_schema()
    return field != "batch"


def unit_of(name: str) -> str:
    """Unit of a field or column, from the end of its name; empty if it has none.

    >>> unit_of("energy_low_j"), unit_of("scratchpad.capacity_bytes"), unit_of("array.rows")
    ('J', 'bytes', '')
    """
    ends = {
        "_bytes": "bytes",
        "_mhz": "MHz",
        "_nm": "nm",
        "_cycles": "cycles",
        "bytes_per_cycle": "bytes/cycle",
        "_per_s": "1/s",
        "_s": "s",
        "_j": "J",
        "_js": "J·s",
        "_w": "W",
        "_mm2": "mm²",
    }
    if name == "cycles":
        return "cycles"
    return next((unit for end, unit in ends.items() if name.endswith(end)), "")


def check_field(field: str, value: Any) -> Any:
    """Give a value of a field as the field has it: a number or a text.

    Raises
    ------
    ValueError
        With the rule that the value breaks.
    """
    if isinstance(value, bool):
        raise ValueError("input should be a number or a text")
    if field == "batch":
        if not isinstance(value, int | float) or value != int(value) or value < 1:
            raise ValueError("input should be a whole number, 1 or more")
        return int(value)
    if field not in FIELDS:
        if not isinstance(value, str):
            raise ValueError("input should be a text")
        return value
    try:
        found = FIELDS[field].validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(message[0].lower() + message[1:]) from None
    part, _, name = field.rpartition(".")
    if part == "dram" and name in ("bytes_per_cycle", "page_bytes", "channels") and found & (found - 1):
        raise ValueError("input should be a power of two")
    return getattr(found, "value", found)


def accelerator_of(base: Accelerator, fields: Mapping[str, Any]) -> Accelerator:
    """Give the accelerator with these fields changed.

    Raises
    ------
    ValueError
        If it breaks a rule; one sentence.
    """
    described = base.model_dump()
    for field, value in fields.items():
        part, _, name = field.rpartition(".")
        (described[part] if part else described)[name] = value
    try:
        return Accelerator.model_validate(described)
    except ValidationError as error:
        raise ValueError(describe_error(error)) from None


def columns_accelerator(base: Accelerator, fields: Mapping[str, Any]) -> Accelerator:
    """Give an accelerator whose fields may be arrays of many points: for price and area rules, which are elementwise.

    Nothing is checked. Properties that compare, such as `line_elements`, are not for it.
    """
    parts: dict[str, Any] = {}
    for name, info in Accelerator.model_fields.items():
        kind, own = info.annotation, getattr(base, name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            changed = {f: fields.get(f"{name}.{f}", getattr(own, f)) for f in kind.model_fields}
            parts[name] = kind.model_construct(**changed)
        else:
            parts[name] = fields.get(name, own)
    return Accelerator.model_construct(**parts)
