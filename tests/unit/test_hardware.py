"""Does the description of an accelerator hold what it says, and refuse well?"""

import re
from importlib import resources

import pytest

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator, Dataflow, load_accelerator, preset_names

EDGE = (resources.files("hwsim.hardware") / "presets" / "edge-32x32-bf16.toml").read_text("utf-8")
UNITS = ("_mhz", "_nm", "_bytes", "_cycles", "bytes_per_cycle", "_format")
COUNTS = {"rows", "cols", "banks", "lanes", "channels", "queue_depth", "dataflow", "kind", "name", "source"}


def test_presets_are_those_of_the_issue():
    assert preset_names() == (
        "edge-32x32-bf16",
        "edge-4x4-bf16",
        "edge-8x8-bf16",
        "edge-8x8-int8",
        "gemmini-16x16-int8",
        "tpuv2-like-128x128-bf16",
    )


@pytest.mark.parametrize("name", preset_names())
def test_preset_has_its_name_and_a_source(name):
    hw = load_accelerator(name)
    assert hw.name == name
    assert len(hw.source) > 40
    assert hash(hw) == hash(load_accelerator(name))


def test_gemmini_preset_is_gemmini():
    hw = load_accelerator("gemmini-16x16-int8")
    assert (hw.array.rows, hw.array.cols, hw.array.operand_format) == (16, 16, "int8")
    assert (hw.scratchpad.capacity_bytes, hw.accumulator.capacity_bytes) == (256 * 1024, 64 * 1024)
    assert (hw.dram.bytes_per_cycle, hw.dram.channels) == (16, 1)


def fields(model, prefix=""):
    for name, field in model.model_fields.items():
        inner = field.annotation
        if hasattr(inner, "model_fields"):
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_field_has_its_unit_in_its_name():
    for path in fields(Accelerator):
        name = path.split(".")[-1]
        assert name in COUNTS or name.endswith(UNITS), path


def test_derived_figures():
    hw = load_accelerator("edge-32x32-bf16")
    assert hw.peak_macs_per_s == 32 * 32 * 500e6
    assert hw.dram_bytes_per_s == 16e9
    assert hw.ridge_macs_per_byte == hw.peak_macs_per_s / hw.dram_bytes_per_s == 32
    assert hw.scratchpad_bank_lines * hw.scratchpad.banks * 32 * 2 == hw.scratchpad.capacity_bytes
    assert hw.accumulator_slot_lines * 2 * 32 * 4 == hw.accumulator.capacity_bytes


def test_dataflow_is_replaced_and_nothing_else():
    hw = load_accelerator("edge-32x32-bf16")
    other = hw.with_dataflow("os")
    assert other.array.dataflow is Dataflow.OUTPUT_STATIONARY
    assert other.with_dataflow("ws") == hw
    with pytest.raises(HwsimError) as error:
        hw.with_dataflow("rs")
    assert str(error.value) == "unknown dataflow 'rs'; choose one of ws, os, is"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rows = 32", "rows = 1", "field 'array.rows' = 1: input should be greater than or equal to 2"),
        ("rows = 32", "", "field 'array.rows' is missing"),
        ("clock_mhz = 500", "clock_mhz = 500\nspeed = 3", "unknown field 'speed'"),
        ("clock_mhz = 500", "clock_mhz = -1", "field 'clock_mhz' = -1: input should be greater than 0"),
        ("bytes_per_cycle = 32", "bytes_per_cycle = 24", "dram: bytes_per_cycle must be a power of two, not 24"),
        ("lanes = 32", "lanes = 64", "vector.lanes must be at most array.cols, 32 (one accumulator line), not 64"),
        (
            "capacity_bytes = 1048576",
            "capacity_bytes = 1000",
            "scratchpad.capacity_bytes must give each of the 16 banks one line of 64 bytes, 1024 in all, not 1000",
        ),
        (
            "capacity_bytes = 524288",
            "capacity_bytes = 128",
            "accumulator.capacity_bytes must hold two lines of 128 bytes, not 128",
        ),
    ],
)
def test_bad_field_is_one_sentence(tmp_path, old, new, message):
    path = tmp_path / "hw.toml"
    path.write_text(EDGE.replace(old, new, 1), "utf-8")
    with pytest.raises(HwsimError, match=rf"^'{re.escape(str(path))}': {re.escape(message)}$"):
        load_accelerator(path)


def test_description_from_a_file_equals_the_preset(tmp_path):
    path = tmp_path / "hw.toml"
    path.write_text(EDGE, "utf-8")
    assert load_accelerator(path) == load_accelerator("edge-32x32-bf16")
