"""Does the energy table load, carry a source in every row, and refuse every malformed row in one sentence?"""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.energy import EnergyTable, load_energy_table
from hwsim.energy.table import COLUMNS, GRADES
from hwsim.errors import HwsimError

HEADER = ",".join(COLUMNS)
GOOD = "mac_mul,mul,bf16,22,0.4,0.3,0.5,measured on our chip,A"


def write(folder: Path, *lines: str) -> Path:
    path = folder / "own.csv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_every_row_has_bounds_node_source_and_grade() -> None:
    rows = load_energy_table().rows
    assert len(rows) > 50
    for row in rows:
        assert 0 <= row.low_pj <= row.value_pj <= row.high_pj
        assert row.value_pj > 0
        assert len(row.source) > 10
        assert row.grade in GRADES
        assert (row.node_nm == 0) == (row.component == "dram")
        if row.grade == "C":
            assert "estimate of this project" in row.source
            assert row.high_pj / row.low_pj > 1.9


def test_facts_are_those_of_the_sources() -> None:
    table = load_energy_table()

    def values(component: str, action: str, name: str) -> dict[float, float]:
        return {row.node_nm: row.value_pj for row in table.select(component, action, name)}

    # Horowitz, ISSCC 2014, Fig. 1.1.9 (45 nm); Jouppi et al., ISCA 2021, Table 2 (7 nm)
    assert values("mac_mul", "mul", "int8") == {45: 0.2, 7: 0.07}
    assert values("mac_add", "add", "int32") == {45: 0.1, 7: 0.03}
    assert values("mac_add", "add", "fp32") == {45: 0.9, 7: 0.38}
    assert values("mac_mul", "mul", "fp32") == {45: 3.7, 7: 1.31}
    assert values("mac_mul", "mul", "bf16")[7] == 0.21
    assert values("sram", "read_64b", "8KB") == {45: 10, 7: 7.5}
    assert values("sram", "read_128b", "64KB") == {45: 38.4, 22: 8.43}
    assert values("dram", "read_byte", "LPDDR4-2400") == {0: 48.8}


def test_an_own_operation_replaces_the_packages_at_all_nodes(tmp_path: Path) -> None:
    own = load_energy_table(
        write(tmp_path, "# ours", HEADER, GOOD, "mac_mul,mul,int8,45,0.25,0.25,0.25,data sheet,A", "")
    )
    assert [(r.node_nm, r.value_pj) for r in own.select("mac_mul", "mul", "bf16")] == [(22, 0.4)]
    assert [(r.node_nm, r.value_pj) for r in own.select("mac_mul", "mul", "int8")] == [(45, 0.25)]
    default = load_energy_table()
    assert own.select("mac_mul", "mul", "fp16") == default.select("mac_mul", "mul", "fp16")
    assert len(own.rows) == len(default.rows) - 4 + 2  # both formats had two nodes


def test_own_sram_rows_join_the_fit(tmp_path: Path) -> None:
    rows = "sram,read_64b,8KB,45,9,9,9,measured,A", "sram,read_64b,8KB,22,8,8,8,measured,A"
    own = load_energy_table(write(tmp_path, HEADER, *rows))
    assert [(r.node_nm, r.value_pj) for r in own.select("sram", "read_64b", "8KB")] == [(7, 7.5), (22, 8), (45, 9)]
    assert len(own.rows) == len(load_energy_table().rows) + 1


def test_default_table_is_loaded_once_and_hashable() -> None:
    assert load_energy_table() is load_energy_table()
    assert hash(load_energy_table()) == hash(load_energy_table(None))


def test_missing_row_is_refused_by_name() -> None:
    with pytest.raises(HwsimError) as error:
        EnergyTable("bare.csv", ()).select("mac_mul", "mul", "fp16")
    assert str(error.value) == "bare.csv has no row for mac_mul 'mul' of 'fp16'; add one, nothing is free"


def row(**changes: str) -> str:
    cells = dict(zip(COLUMNS, GOOD.split(","), strict=True)) | changes
    return ",".join(cells.values())


FORMATS = "bf16, fp16, fp32, fp8_e4m3, fp8_e5m2, int32, int8"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            row(component="mac"),
            ", column 'component': must be one of mac_add, mac_mul, array, sram, dram, not 'mac'",
        ),
        (row(action="fma"), ", column 'action': must be mul for component 'mac_mul', not 'fma'"),
        (
            row(format_or_size="bf17"),
            f", column 'format_or_size': must be one of {FORMATS} for component 'mac_mul', not 'bf17'",
        ),
        (
            row(component="sram", action="read_b"),
            ", column 'action': must be one of leakage_ns, read_<bits>b, write_<bits>b for component 'sram', "
            "not 'read_b'",
        ),
        (
            row(component="sram", action="read_64b", format_or_size="64kB"),
            ", column 'format_or_size': must be a size such as 64KB for component 'sram', not '64kB'",
        ),
        (
            row(component="dram", action="read_byte", format_or_size="DDR5"),
            ", column 'format_or_size': must be one of DDR4-2400, HBM2, LPDDR4-2400 for component 'dram', not 'DDR5'",
        ),
        (row(node_nm="2"), ", column 'node_nm': must be a number of nm, 3 to 250, not '2'"),
        (row(node_nm="N7"), ", column 'node_nm': must be a number of nm, 3 to 250, not 'N7'"),
        (
            row(component="dram", action="read_byte", format_or_size="HBM2"),
            ", column 'node_nm': must be a number of nm, 0 (off chip, not scaled), not '22'",
        ),
        (row(value_pj=""), ", column 'value_pj': must be a number of pJ, at least 0, not ''"),
        (row(value_pj="nan"), ", column 'value_pj': must be a number of pJ, at least 0, not 'nan'"),
        (row(high_pj="inf"), ", column 'high_pj': must be a number of pJ, at least 0, not 'inf'"),
        (row(low_pj="-1"), ", column 'low_pj': must be a number of pJ, at least 0, not '-1'"),
        (
            row(value_pj="0", low_pj="0"),
            ", column 'value_pj': must be above 0 pJ, nothing is free, not 0",
        ),
        (row(low_pj="0.45"), ", column 'low_pj': must be at most value_pj, 0.4 pJ, not 0.45"),
        (row(high_pj="0.35"), ", column 'high_pj': must be at least value_pj, 0.4 pJ, not 0.35"),
        (row(source=" "), ", column 'source': must say where the figure comes from, but is empty"),
        (row(grade="D"), ", column 'grade': must be one of A, B, C, not 'D'"),
        ("mac_mul,mul", f": must have 9 columns ({HEADER}), not 2"),
    ],
)
def test_malformed_row_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, "# comment", HEADER, row(node_nm="28"), line)
    with pytest.raises(HwsimError) as error:
        load_energy_table(path)
    assert str(error.value) == f"{path}, line 4{message}"


def test_duplicate_row_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER, GOOD, GOOD)
    with pytest.raises(HwsimError) as error:
        load_energy_table(path)
    assert str(error.value) == (
        f"{path}, line 3, column 'node_nm': component, action, format_or_size and node must be unique, "
        "but mac_mul, mul, bf16 at 22 nm is also in line 2"
    )


def test_wrong_header_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "", "component,action", GOOD)
    with pytest.raises(HwsimError) as error:
        load_energy_table(path)
    assert str(error.value) == f"{path}, line 2: the header must be {HEADER}, not component,action"


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "# nothing")
    with pytest.raises(HwsimError) as error:
        load_energy_table(path)
    assert str(error.value) == f"{path}: must have the header {HEADER}, but has no line"


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    missing, binary = tmp_path / "none.csv", tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HwsimError) as error:
        load_energy_table(missing)
    assert str(error.value) == f"cannot read energy table '{missing}': No such file or directory"
    with pytest.raises(HwsimError) as error:
        load_energy_table(binary)
    assert str(error.value) == f"cannot read energy table '{binary}': not UTF-8 text"
