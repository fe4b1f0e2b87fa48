"""Is a space file read as the contract says, and a bad one refused in one sentence with file, line and field?"""

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.explore import load_space, read_space
from hwsim.explore.columns import FIELDS, MEASURED, check_field
from hwsim.explore.expressions import ExpressionError, parse

GOOD = """\
name = "edge"
hardware = "edge-32x32-bf16"
constraints = ["area_mm2 < 40",
  "array.rows * array.cols <= 4096"]
objectives = ["energy_j", "-samples_per_s"]
[workload]
model = "resnet18"
[knobs]
"array.rows" = [16, 32, 64]
array.cols = "array.rows"
"array.dataflow" = ["ws", "os"]
scratchpad.capacity_bytes = { from = "256 KiB", to = "4 MiB", powers_of_two = true }
"vector.lanes" = "min(array.cols, 32)"
clock_mhz = { from = 200, to = "0.8 GHz", step = 100 }
batch = [32, 128]
"""


def test_points_are_numbered_with_programs_slowest_and_prices_fastest():
    space = read_space(GOOD)
    names = [knob.name for knob in space.axes]
    assert names == ["batch", "array.rows", "array.dataflow", "scratchpad.capacity_bytes", "clock_mhz"]
    assert space.size == 2 * 3 * 2 * 5 * 7
    columns = space.columns(np.arange(space.size))
    assert columns["clock_mhz"][:8].tolist() == [200, 300, 400, 500, 600, 700, 800, 200]
    assert columns["scratchpad.capacity_bytes"][::7][:6].tolist() == [2**18, 2**19, 2**20, 2**21, 2**22, 2**18]
    assert columns["batch"].tolist() == [32] * 210 + [128] * 210
    assert (columns["array.cols"] == columns["array.rows"]).all()
    assert (columns["vector.lanes"] == np.minimum(columns["array.cols"], 32)).all()
    assert len({tuple(str(c[i]) for c in columns.values()) for i in range(space.size)}) == space.size


def test_columns_of_any_numbers_are_those_of_all():
    space = read_space(GOOD)
    whole = space.columns(np.arange(space.size))
    some = np.array([419, 0, 17, 17, 300])
    for name, column in space.columns(some).items():
        assert (column == whole[name][some]).all()


def test_early_constraints_exclude():
    space = read_space(GOOD.replace("<= 4096", "<= 1024"))
    columns = space.columns(np.arange(space.size))
    assert (space.kept(columns) == (columns["array.rows"] <= 32)).all()


def test_bounds_that_leave_one_value_are_no_contradiction():
    space = read_space(
        GOOD.replace("area_mm2 < 40", "area_mm2 <= 40").replace("constraints = [", 'constraints = ["area_mm2 >= 40", ')
    )
    assert len(space.constraints) == 3
    for strict in ("area_mm2 > 40", "40 < area_mm2"):
        with pytest.raises(HwsimError, match="contradicts"):
            read_space(
                GOOD.replace("area_mm2 < 40", "area_mm2 <= 40").replace(
                    "constraints = [", f'constraints = ["{strict}", '
                )
            )


def test_digest_follows_what_decides_figures():
    space = read_space(GOOD)
    assert read_space(GOOD + "\n# a remark\n").digest == space.digest
    for old, new in (("[16, 32, 64]", "[16, 32, 65]"), ("< 40", "< 41"), ("resnet18", "resnet50"), (", 32)", ", 16)")):
        assert read_space(GOOD.replace(old, new)).digest != space.digest


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("{ from = 4, to = 10, step = 3 }", (4, 7, 10)),
        ("{ from = 4, to = 9, step = 3 }", (4, 7)),
        ("{ from = 4, to = 4 }", (4,)),
        ("{ from = 4, to = 32, powers_of_two = true }", (4, 8, 16, 32)),
        ("{ from = 4, to = 16, count = 4 }", (4, 8, 12, 16)),
        ("24", (24,)),
    ],
)
def test_ranges(written, values):
    space = read_space(GOOD.replace("[16, 32, 64]", written))
    assert next(k for k in space.knobs if k.name == "array.rows").values == values


@pytest.mark.parametrize(
    ("quantity", "number"), [("1 kB", 1000), ("64 KiB", 65536), ("2 MiB", 2**21), ("0.5GiB", 2**29), ("300 B", 300)]
)
def test_quantities(quantity, number):
    space = read_space(GOOD.replace('{ from = "256 KiB", to = "4 MiB", powers_of_two = true }', f'["{quantity}"]'))
    assert next(k for k in space.knobs if k.name == "scratchpad.capacity_bytes").values == (number,)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"array.rows" = [', '"array.row" = [', "line 9: unknown field 'array.row', perhaps 'array.rows'; a knob is a "
         "field of the accelerator or one of model, batch, precision, optimizer, recompute"),
        ("from = 200", "from = 900", "line 14: knob 'clock_mhz': the range is empty: from 900.0 is above to 800.0"),
        ("256 KiB", "256 KB", "line 12: knob 'scratchpad.capacity_bytes', from = '256 KB': unknown unit 'KB'; it takes "
         "B, kB, MB, GB, KiB, MiB, GiB"),
        ("[32, 128]", '["32 KiB"]', "line 15: knob 'batch' = '32 KiB': unknown unit 'KiB'; it has no unit"),
        ('"area_mm2 < 40",', '"area_mm2 < 40", "area_mm2 > 50",', "line 3: constraint 'area_mm2 > 50' contradicts "
         "'area_mm2 < 40' in line 3; no area_mm2 meets both"),
        ('"area_mm2 < 40",', '"area_mm2 <= 40",\n"40 < area_mm2",', "line 4: constraint '40 < area_mm2' contradicts "
         "'area_mm2 <= 40' in line 3; no area_mm2 meets both"),
        ("<= 4096", "<= 4", "line 4: the constraint 'array.rows * array.cols <= 4' excludes every one of the 420 "
         "points"),
        ('= "array.rows"', '= "array.rws"', "line 10: knob 'array.cols': unknown field 'array.rws' in 'array.rws', "
         "perhaps 'array.rows'"),
        ('= "array.rows"', '= "vector.lanes"', "line 10: the expressions of 'array.cols' and 'vector.lanes' name each "
         "other; give one values"),
        ("[16, 32, 64]", "[]", "line 9: knob 'array.rows' has no value; give one or more"),
        ("[16, 32, 64]", "[1]", "line 9: knob 'array.rows' = 1: input should be greater than or equal to 2"),
        ("[16, 32, 64]", "[true]", "line 9: knob 'array.rows' = True: input should be a number or a text"),
        ("[16, 32, 64]", "[16, 16]", "line 9: knob 'array.rows' has the value 16 twice"),
        ('["ws", "os"]', '["xs"]', "line 11: knob 'array.dataflow' = 'xs': input should be 'ws', 'os' or 'is'"),
        ('["ws", "os"]', "{ from = 1, to = 2 }", "line 11: knob 'array.dataflow' takes texts, and texts have no range; "
         "give a list"),
        ("powers_of_two = true", "step = 0", "line 12: knob 'scratchpad.capacity_bytes': step must be above 0, not 0"),
        ("256 KiB", "300 KiB", "line 12: knob 'scratchpad.capacity_bytes': the ends of a range of powers of two must "
         "be such, not 307200"),
        ("step = 100", "count = 1", "line 14: knob 'clock_mhz': count must be a whole number, 2 to 1048576, not 1"),
        ("step = 100", "step = 1, count = 2", "line 14: knob 'clock_mhz': a range has one of step, powers_of_two, "
         "count, not step and count"),
        ("step = 100", "by = 1", "line 14: knob 'clock_mhz': unknown field 'by'; a range has from, to and one of "
         "step, powers_of_two, count"),
        ('from = 200, to = "0.8 GHz"', "from = 200", "line 14: knob 'clock_mhz': field 'to' of the range is missing"),
        ('model = "resnet18"', "", "line 6: field 'model' of the workload is missing; `hwsim models` lists them"),
        ('model = "resnet18"', 'model = "resnet18"\nbatch = 3', "line 16: knob 'batch' is fixed by the workload in "
         "line 8; give one"),
        ('model = "resnet18"', 'model = "resnet18"\nweight = 0', "line 8: field 'weight' must be a number above 0, "
         "not 0"),
        ('model = "resnet18"', 'modl = "resnet18"', "line 7: unknown field 'modl' of a workload, perhaps 'model'; it "
         "has model, batch, precision, optimizer, recompute, weight"),
        ('"edge-32x32-bf16"', '"edge"', "line 2: unknown hardware preset 'edge'; choose one of edge-32x32-bf16, "
         "edge-4x4-bf16, edge-8x8-bf16, edge-8x8-int8, gemmini-16x16-int8, tpuv2-like-128x128-bf16, or name a .toml "
         "file"),
        ('name = "edge"', 'target = "ecp6"', "line 1: no fit of cells for target 'ecp6'; choose one of ecp5-85k"),
        ("area_mm2 < 40", "lut < 40", "line 3: constraint: unknown field 'lut' in 'lut < 40'"),
        ('name = "edge"', 'nam = "edge"', "line 1: unknown field 'nam', perhaps 'name'; a space has name, hardware, "
         "workload, knobs, constraints, objectives, target"),
        ("< 40", "<", "line 3: constraint 'area_mm2 <': 'area_mm2 <' is not an expression"),
        ("area_mm2 < 40", "len(area_mm2) < 40", "line 3: constraint 'len(area_mm2) < 40': an expression has the "
         "functions min, max, ceil, floor, log2, sqrt, not 'len(area_mm2)'"),
        ("area_mm2 < 40", "area_m2 < 40", "line 3: constraint: unknown field 'area_m2' in 'area_m2 < 40', perhaps "
         "'area_mm2'"),
        ('["energy_j", "-samples_per_s"]', '["energy"]', "line 5: unknown column 'energy', perhaps 'energy_j'; an "
         f"objective is one of {', '.join(MEASURED)}"),
        ('["energy_j", "-samples_per_s"]', '["energy_j", "-energy_j"]', "line 5: an objective is named twice"),
    ],
)  # fmt: skip
def test_a_bad_space_gets_one_sentence(old, new, sentence):
    assert old in GOOD
    with pytest.raises(HwsimError) as error:
        read_space(GOOD.replace(old, new, 1), "space.toml")
    assert str(error.value) == f"space.toml, {sentence}"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(HwsimError, match=r"^cannot read space '.*none.toml': No such file or directory$"):
        load_space(tmp_path / "none.toml")
    with pytest.raises(HwsimError, match=r"^space.toml is not valid TOML: .*line 1"):
        read_space("= 3", "space.toml")
    with pytest.raises(HwsimError, match=r"^space.toml: field 'hardware' is missing"):
        read_space("", "space.toml")


def test_every_field_of_an_accelerator_is_a_knob():
    assert len(FIELDS) == 21
    assert check_field("dram.bytes_per_cycle", 32) == 32
    with pytest.raises(ValueError, match="power of two"):
        check_field("dram.page_bytes", 96)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + 2 * b", 8),
        ("-a // 2", -1),
        ("a ** 2 / b % 1", 4 / 3 % 1),
        ("min(a, b, 1) + max(a, b)", 4),
        ("ceil(log2(b)) + floor(sqrt(b))", 3),
        ("a if b > 2 and not a == 3 else b", 2),
        ("1 < a <= 2 or b < 0", True),
        ("t == 'ws'", True),
    ],
)
def test_expressions_are_those_of_python(text, value):
    columns = {"a": np.array([2.0]), "b": np.array([3.0]), "t": np.array(["ws"], object)}
    assert parse(text)(columns)[0] == value


@pytest.mark.parametrize(
    "text", ["a[0]", "lambda: 1", "f'{a}'", "a @ b", "[a]", "min(a)", "sqrt(a, b)", "~a", "a is b", "None"]
)
def test_expressions_have_nothing_else(text):
    with pytest.raises(ExpressionError):
        parse(text)
