"""Is the page of powers what the measured files say, are the tables theirs, and does measuring again give them?"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from hwsim.cli import main
from hwsim.energy import load_energy_table, price_list
from hwsim.energy.data_model import load_data_model
from hwsim.energy.operands import STATISTICS
from hwsim.hardware import load_accelerator
from hwsim.report.calibration import model_text
from hwsim_rtl.power import data_model, table_text

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "hwsim" / "energy" / "data"
NAMES = ("int8", "bf16", "fp8")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("calibration_page", ROOT / "docs" / "scripts" / "calibration.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(name):
    return json.loads((ROOT / "docs" / "calibration" / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_that_of_the_measurement(name):
    assert (TABLES / f"calibrated-180nm-{name}.csv").read_text("utf-8") == table_text(measured(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_model_file_is_that_of_the_measurement(name):
    path, found = TABLES / f"data-model-180nm-{name}.json", measured(name)
    assert path.read_text("utf-8") == model_text(data_model(found))
    model = load_data_model(path)
    streams = {s["stream"]: s for s in found["components"]["PE"]["streams"]}
    for stream, error in found["model"]["held_out_error"]["streams"].items():
        cycle = model.cycle_pj(np.array([streams[stream]["statistics"][term] for term in STATISTICS]))
        assert cycle.value == pytest.approx(streams[stream]["value_pj"] * (1 + error), rel=1e-3)
        assert cycle.low <= streams[stream]["low_pj"] * 1.001
        assert cycle.high >= streams[stream]["high_pj"] * 0.999


def test_the_page_is_written_from_the_measurements(script):
    page = (ROOT / "docs" / "calibration.md").read_text("utf-8")
    assert page == script.render({name: measured(name) for name in NAMES}, measured("phases"))
    assert "{{" not in page


@pytest.mark.parametrize("name", NAMES)
def test_the_model_errs_by_ten_percent_at_most_on_held_out_streams(name):
    error = measured(name)["model"]["held_out_error"]
    assert len(error["streams"]) == 8
    assert error["mean_of_streams"] <= error["mean_of_streams_without_clock"] <= 0.10


@pytest.mark.parametrize(("name", "preset", "format"), [
    ("int8", "edge-8x8-int8", "int8"), ("bf16", "edge-8x8-bf16", "bf16"), ("fp8", "edge-8x8-bf16", "fp8_e4m3"),
])  # fmt: skip
def test_prices_at_the_node_add_up_to_the_measured_pe(name, preset, format):
    hw = load_accelerator(preset).with_format(format).model_copy(update={"node_nm": 180.0})
    prices = price_list(hw, load_energy_table(TABLES / f"calibrated-180nm-{name}.csv"))
    pe = next(float(r["value_pj"]) for r in measured(name)["rows"] if r["action"] == "pe_active")
    idle = next(float(r["value_pj"]) for r in measured(name)["rows"] if r["action"] == "pe_idle")
    hops = (hw.operand_bytes + 4) * prices["array.hop_bytes"].value_pj
    assert prices["array.macs"].value_pj + hops == pytest.approx(pe, rel=1e-3)
    assert prices["array.idle_pe_cycles"].value_pj == pytest.approx(idle, rel=1e-3)


@pytest.mark.long
def test_pricing_by_data_again_gives_the_same_figures(script):
    found = json.loads((ROOT / "docs" / "calibration" / "phases.json").read_text("utf-8"))
    assert script.by_data("int8") == found["int8"]


@pytest.mark.long
@pytest.mark.parametrize(("name", "preset"), [("int8", "edge-8x8-int8"), ("bf16", "edge-8x8-bf16"),
                                              ("fp8", "edge-8x8-bf16")])  # fmt: skip
def test_measuring_again_gives_the_same_table(name, preset, tmp_path, monkeypatch):
    """Needs Debian's qflow-tech-osu018; without it the command says so, and this fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["calibrate", "--hw", preset, "--precision", name, "--out", str(tmp_path)]) == 0
    for new, old in (
        ("energy.csv", f"calibrated-180nm-{name}.csv"),
        ("data-model.json", f"data-model-180nm-{name}.json"),
    ):
        assert (tmp_path / new).read_text("utf-8") == (TABLES / old).read_text("utf-8")
