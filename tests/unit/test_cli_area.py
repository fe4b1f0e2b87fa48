"""Does `hwsim area` print the areas that `hwsim.area` gives, as tables and as JSON, and refuse the rest?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwsim.area import area_list, fpga
from hwsim.cli import main
from hwsim.hardware import load_accelerator


def test_json_has_every_part_and_their_sum(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["area", "--hw", "edge-8x8-int8", "--target", "ecp5-85k", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    areas, cells = area_list(load_accelerator("edge-8x8-int8")), fpga(load_accelerator("edge-8x8-int8"))
    assert (found["schema"], found["hardware"], found["node_nm"]) == ("hwsim.area/1", "edge-8x8-int8", 40)
    assert found["area_mm2"] == pytest.approx(areas.total.value)
    assert found["area_low_mm2"] < found["area_mm2"] < found["area_high_mm2"]
    assert sum(part["area_mm2"] for part in found["parts"].values()) == pytest.approx(found["area_mm2"])
    assert list(found["parts"]) == [part.part for part in areas.parts]
    assert found["fpga"]["fits"] is True
    assert found["fpga"]["used"]["BRAM"] == {"value": 108, "low": 108, "high": 108}
    assert found["fpga"]["used"]["LUT"]["value"] == pytest.approx(cells.used["LUT"].value)


def test_tables_say_what_each_part_takes_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["area", "--hw", "edge-8x8-bf16", "--target", "ecp5-85k"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    total = area_list(load_accelerator("edge-8x8-bf16")).total
    assert f"Area of edge-8x8-bf16 at 40 nm: {total.value:.3g} mm² [{total.low:.3g} … {total.high:.3g}]" in printed
    lack = fpga(load_accelerator("edge-8x8-bf16")).lacks[0]
    assert (
        f"Does not fit: {lack['used']:,} LUT are needed, the device has 83,640, {lack['missing']:,} too few" in printed
    )


def test_without_a_target_nothing_is_said_of_an_fpga(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["area"]) == 0
    printed = capsys.readouterr().out
    assert "Area of edge-32x32-bf16 at 22 nm" in printed
    assert "fit" not in printed


def test_a_step_says_the_area(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "digits-mlp", "--hw", "edge-8x8-int8", "--batch", "4"]) == 0
    total = area_list(load_accelerator("edge-8x8-int8")).total
    printed = " ".join(capsys.readouterr().out.split())
    assert f"area {total.value:.3g} mm² at 40 nm [{total.low:.3g} … {total.high:.3g}]" in printed


def test_an_own_table_is_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    header = "component,kind,format_or_size,node_nm,value_um2,low_um2,high_um2,source,grade"
    path.write_text(f"{header}\nsram,cell,6t,22,9,9,9,made up,C\n", "utf-8")
    assert main(["area", "--area-table", str(path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["area_mm2"] > 100


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "ice40"], "no area of target 'ice40'; choose one of ecp5-85k"),
        (["--area-table", "none.csv"], "cannot read area table 'none.csv': No such file or directory"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    assert main(["area", *arguments]) == 2
    assert capsys.readouterr().err == f"hwsim: {sentence}\n"
