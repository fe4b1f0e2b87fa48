"""Is every figure of a sweep that of `hwsim step`, to the cycle and to 1e-12 of energy, and every error its error?"""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.area import area_list, fpga
from hwsim.energy import COMPONENTS
from hwsim.energy.actions import ACTIONS, component_of
from hwsim.errors import HwsimError
from hwsim.explore import Evaluator, read_space
from hwsim.explore.columns import MEASURED
from hwsim.explore.evaluate import check_names
from hwsim_models import build
from tests.explore.points import WIDE, accelerator_and_workload, simulated


@lru_cache
def wide(model):
    space = read_space(WIDE.format(model=model))
    return space, Evaluator(space, build)


def near(found, expected):
    return found == pytest.approx(expected, rel=1e-12, abs=0)


def hold_to_step(space, row):
    """Compare one row of the table with `simulate`; gives whether it has figures."""
    number = row["point"]
    step, sentence = None, None
    try:
        step = simulated(space, number)
    except (HwsimError, ValueError) as error:
        sentence = str(error)
    assert row["error"] == sentence
    if step is None:
        assert all(row[name] is None for name in MEASURED)
        assert not row["feasible"]
        return False
    assert row["feasible"]
    exact = {
        "cycles": step.cycles,
        "macs": step.macs,
        "dram_bytes": step.dram_bytes,
        "peak_memory_bytes": step.peak_memory_bytes,
        "parameters": step.parameters,
    }
    assert {name: row[name] for name in exact} == exact
    energy = step.energy_pj
    assert near(row["energy_j"], energy.value * 1e-12)
    assert near(row["energy_low_j"], energy.low * 1e-12)
    assert near(row["energy_high_j"], energy.high * 1e-12)
    for component in COMPONENTS:
        mine = [component_of(action) == component for action in ACTIONS]
        assert near(row[f"energy_{component}_j"], float(step.energy[0][mine].sum()) * 1e-12)
    assert near(row["time_s"], step.time_s)
    assert near(row["power_w"], energy.value * 1e-12 / step.time_s)
    assert near(row["edp_js"], energy.value * 1e-12 * step.time_s)
    assert near(row["samples_per_s"], step.batch / step.time_s)
    assert near(row["energy_per_sample_j"], energy.value * 1e-12 / step.batch)
    assert near(row["utilization"], step.compute_utilization)
    hw, _ = accelerator_and_workload(space, number)
    total = area_list(hw.with_format(step.hardware.array.operand_format)).total
    assert near(row["area_mm2"], total.value)
    assert near(row["area_low_mm2"], total.low)
    assert near(row["area_high_mm2"], total.high)
    return True


@pytest.mark.parametrize(("model", "points"), [("digits-mlp", 250), ("digits-cnn", 60), ("digits-resnet", 15)])
def test_points_together_are_those_of_step(model, points):
    space, evaluator = wide(model)
    numbers = np.sort(np.random.default_rng(5).integers(0, space.size, points))
    rows = evaluator.table(numbers).to_pylist()
    assert [row["point"] for row in rows] == numbers.tolist()
    good = sum(hold_to_step(space, row) for row in rows)
    assert points // 3 < good < points  # both kinds are there


@pytest.mark.long
def test_a_thousand_points_of_resnet18_are_those_of_step():
    space = read_space(
        WIDE.format(model="resnet18").replace('"1 MiB"', '"8 MiB"').replace('["4 KiB", "32', '["1 MiB", "32')
    )
    evaluator = Evaluator(space, build)
    numbers = np.sort(np.random.default_rng(6).integers(0, space.size, 1000))
    good = sum(hold_to_step(space, row) for row in evaluator.table(numbers).to_pylist())
    assert good > 300


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_a_point_alone_is_that_of_step(number):
    space, evaluator = wide("digits-mlp")
    hold_to_step(space, evaluator.table(np.array([number % space.size])).to_pylist()[0])


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_point_does_not_depend_on_its_company(random):
    space, evaluator = wide("digits-mlp")
    numbers = [random.randrange(space.size) for _ in range(30)]
    together = evaluator.table(np.array(numbers)).to_pylist()
    fresh = Evaluator(space, build)
    for i in (0, 7, 29):
        assert fresh.table(np.array(numbers[i : i + 1])).to_pylist()[0] == together[i]


def test_every_scratchpad_size_is_that_of_step():
    """The staircase: all sizes at once, against the search for single ones, on both sides of every step."""
    text = """
    hardware = "edge-8x8-int8"
    workload = {{ model = "digits-cnn", batch = 16 }}
    [knobs]
    array.dataflow = ["ws", "os", "is"]
    scratchpad.capacity_bytes = {{ from = {first}, to = 65536, step = 64 }}
    """
    space = read_space(text.format(first=64))
    rows = Evaluator(space, build).table(np.arange(space.size)).to_pylist()
    figures = [(row["cycles"], row["energy_scratchpad_j"], row["error"] is None) for row in rows]
    steps = [i for i in range(1, len(rows)) if figures[i][::2] != figures[i - 1][::2]]
    assert len(steps) > 12
    for at in sorted({at for step in steps for at in (step - 1, step)}):
        hold_to_step(space, rows[at])


def test_several_workloads_add_up():
    text = """
    hardware = "edge-8x8-int8"
    [[workload]]
    model = "digits-mlp"
    batch = 32
    weight = 3
    [[workload]]
    model = "digits-cnn"
    batch = 8
    weight = 0.5
    [knobs]
    clock_mhz = [50, 80]
    """
    space = read_space(text)
    both = Evaluator(space, build).table(np.arange(2)).to_pylist()
    single = {}
    for model, batch in (("digits-mlp", 32), ("digits-cnn", 8)):
        alone = read_space(f'hardware = "edge-8x8-int8"\nworkload = {{ model = "{model}", batch = {batch} }}\n'
                           "[knobs]\nclock_mhz = [50, 80]")  # fmt: skip
        single[model] = Evaluator(alone, build).table(np.arange(2)).to_pylist()
    for i in range(2):
        a, b = single["digits-mlp"][i], single["digits-cnn"][i]
        for name in ("cycles", "time_s", "energy_j", "energy_low_j", "energy_high_j", "macs", "dram_bytes"):
            assert near(both[i][name], 3 * a[name] + 0.5 * b[name])
        assert both[i]["peak_memory_bytes"] == max(a["peak_memory_bytes"], b["peak_memory_bytes"])
        assert both[i]["parameters"] == a["parameters"] + b["parameters"]
        assert near(both[i]["samples_per_s"], (3 * 32 + 0.5 * 8) / both[i]["time_s"])
        assert near(both[i]["area_mm2"], a["area_mm2"])


def test_workloads_for_different_arrays_are_an_error_of_the_point():
    text = """
    hardware = "edge-8x8-int8"
    [[workload]]
    model = "digits-mlp"
    precision = "int8"
    [[workload]]
    model = "digits-cnn"
    precision = "bf16"
    [knobs]
    clock_mhz = [50, 80]
    """
    rows = Evaluator(read_space(text), build).table(np.arange(2)).to_pylist()
    sentence = "the workloads need arrays for int8 and for bf16; give them one operand format"
    assert [row["error"] for row in rows] == [sentence, sentence]


def test_unknown_names_are_errors_of_the_point():
    text = """
    hardware = "edge-8x8-int8"
    [knobs]
    model = ["digits-mlp", "digits"]
    optimizer = ["sgd", "sdg"]
    clock_mhz = "20000 if optimizer == 'sgd' else 80"
    """
    rows = Evaluator(read_space(text), build).table(np.arange(4)).to_pylist()
    assert rows[0]["error"] == rows[2]["error"] == "clock_mhz = 20000: input should be less than or equal to 10000"
    assert rows[1]["error"].startswith("optimizer must be one of sgd, momentum, nesterov, adam, adamw")
    assert rows[3]["error"].startswith("model must be one of digits-")


@pytest.mark.parametrize(
    ("knob", "sentence"),
    [
        ('model = ["digits-mlp", "digits"]', "knob 'model' (line 4): model must be one of"),
        ('optimizer = ["sgd", "sdg"]', "knob 'optimizer' (line 4): optimizer must be one of sgd, momentum"),
        ('precision = ["bf16", "fp9"]', "knob 'precision' (line 4): unknown precision 'fp9'"),
        (
            'recompute = ["none", "all"]',
            "knob 'recompute' (line 4): unknown recompute policy 'all'; choose one of none,",
        ),
    ],
)
def test_names_are_checked_before_a_sweep(knob, sentence):
    model = "" if knob.startswith("model") else 'workload.model = "digits-mlp"'
    space = read_space(f'hardware = "edge-8x8-int8"\n{model}\n[knobs]\n{knob}')
    with pytest.raises(HwsimError) as error:
        check_names(space, build)
    assert str(error.value).startswith(sentence)


def test_constraints_on_columns_mark_and_others_exclude():
    text = """
    hardware = "edge-8x8-int8"
    constraints = ["time_s < 0.0003", "node_nm < 40 or clock_mhz > 100"]
    workload.model = "digits-mlp"
    [knobs]
    clock_mhz = [50, 200]
    node_nm = [22, 45]
    """
    rows = Evaluator(read_space(text), build).table(np.arange(4)).to_pylist()
    assert [row["point"] for row in rows] == [0, 2, 3]
    assert [row["feasible"] for row in rows] == [row["time_s"] < 0.0003 for row in rows]
    assert {row["feasible"] for row in rows} == {True, False}


def test_cells_of_an_fpga_are_those_of_the_area_model():
    text = """
    hardware = "edge-8x8-int8"
    target = "ecp5-85k"
    objectives = ["energy_j", "lut"]
    constraints = ["lut < 50000", "bram <= 208"]
    workload.model = "digits-mlp"
    [knobs]
    array.rows = [4, 8]
    array.cols = [4, 8]
    array.dataflow = ["ws", "os"]
    scratchpad.capacity_bytes = ["32 KiB", "64 KiB"]
    vector.lanes = "array.cols / 2"
    """
    space = read_space(text)
    rows = Evaluator(space, build).table(np.arange(space.size)).to_pylist()
    for row in rows:
        used = fpga(accelerator_and_workload(space, row["point"])[0]).used
        for name, bounds in (("lut", used["LUT"]), ("ff", used["FF"])):
            assert near(row[name], bounds.value)
            assert near(row[f"{name}_low"], bounds.low)
            assert near(row[f"{name}_high"], bounds.high)
        assert near(row["dsp"], used["DSP"].value)
        assert near(row["bram"], used["BRAM"].value)
        assert row["feasible"] == (row["lut"] < 50000 and row["bram"] <= 208)
    assert {row["feasible"] for row in rows} == {True, False}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("array.rows", [8, 16]),
        ("array.cols", [16, 32]),
        ("array.dataflow", ["ws", "os", "is"]),
        ("array.operand_format", ["bf16", "fp8_e4m3", "int8"]),
        ("array.add_latency_cycles", [1, 4]),
        ("array.multiply_latency_cycles", [0, 3]),
        ("scratchpad.capacity_bytes", [16384, 24576, 65536]),
        ("scratchpad.banks", [4, 8, 16]),
        ("accumulator.capacity_bytes", [8192, 32768]),
        ("accumulator.add_latency_cycles", [1, 8]),
        ("vector.lanes", [4, 16]),
        ("vector.latency_cycles", [4, 20]),
        ("dram.bytes_per_cycle", [8, 32]),
        ("dram.channels", [1, 2]),
        ("dram.latency_cycles", [10, 80]),
        ("dram.page_bytes", [64, 2048]),
        ("control.fetch_bytes_per_cycle", [8, 64]),
        ("control.queue_depth", [4, 16]),
        ("dram.kind", ["DDR4-2400", "LPDDR4-2400", "HBM2"]),
        ("node_nm", [7, 30, 90]),
        ("clock_mhz", [50, 777]),
        ("batch", [3, 8]),
        ("optimizer", ["sgd", "adam"]),
        ("precision", ["bf16", "int8"]),
        ("recompute", ["none", "cheap", "sqrt"]),
        ("model", ["digits-cnn", "digits-resnet"]),
    ],
)
def test_points_that_differ_in_one_field_share_nothing_that_it_changes(field, values):
    model = "" if field == "model" else 'workload.model = "digits-cnn"'
    knobs = {"batch": [4], "array.cols": [16], "array.rows": [8], "vector.lanes": [16]} | {field: values}
    lines = "\n".join(f"{name} = {values!r}" for name, values in knobs.items())
    space = read_space(f'hardware = "edge-8x8-bf16"\n{model}\n[knobs]\n{lines}')
    rows = Evaluator(space, build).table(np.arange(space.size)).to_pylist()
    assert [hold_to_step(space, row) for row in rows] == [True] * len(values)
    figures = {(row["cycles"], row["energy_j"], row["area_mm2"], row["peak_memory_bytes"]) for row in rows}
    assert len(figures) == len(values)
