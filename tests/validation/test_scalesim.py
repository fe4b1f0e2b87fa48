"""Does our restatement of SCALE-Sim's convention give every number that SCALE-Sim gave?"""

import csv
from pathlib import Path

import pytest

from hwsim.errors import HwsimError
from hwsim.hardware import Dataflow
from hwsim.validation.scalesim import compute_cycles

GOLDEN = Path(__file__).parent / "golden" / "scalesim_compute_cycles.csv"
with GOLDEN.open(encoding="utf-8") as lines:
    ROWS = list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_golden_rows_cover_all_dataflows():
    assert len(ROWS) == 316
    assert {row["dataflow"] for row in ROWS} == {d.value for d in Dataflow}


@pytest.mark.parametrize("dataflow", Dataflow)
def test_every_golden_row_is_met(dataflow):
    for row in (row for row in ROWS if row["dataflow"] == dataflow):
        sizes = {"m": row["M"], "k": row["K"], "n": row["N"], "rows": row["array_rows"], "cols": row["array_cols"]}
        given = compute_cycles(dataflow, **{name: int(size) for name, size in sizes.items()})
        assert given == int(row["compute_cycles"]), row


@pytest.mark.parametrize("name", ["m", "k", "n", "rows", "cols"])
def test_sizes_below_one_are_refused(name):
    sizes = {"m": 1, "k": 1, "n": 1, "rows": 1, "cols": 1, name: 0}
    with pytest.raises(HwsimError) as error:
        compute_cycles("ws", **sizes)
    assert str(error.value) == f"{name} must be at least 1, not 0"


def test_unknown_dataflow_is_refused():
    with pytest.raises(HwsimError) as error:
        compute_cycles("rs", 1, 1, 1, 1, 1)
    assert str(error.value) == "unknown dataflow 'rs'; choose one of ws, os, is"
