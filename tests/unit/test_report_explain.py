"""Does `hwsim explain` know every word that hwsim prints?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwsim.energy.actions import ACTIONS, COMPONENTS
from hwsim.errors import HwsimError
from hwsim.explain import Entry, entries, explain, one_line
from hwsim.hardware import Accelerator
from hwsim.program.fields import CAUSES, UNIT_NAMES
from hwsim.report.files import CSV_COLUMNS
from hwsim.report.summary import gemm_summary, step_summary
from hwsim.results import MEMORY_CATEGORIES, StepResult
from hwsim.workload import registered
from hwsim.workload.graph import Phase

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"


def names_of(kind: str) -> set[str]:
    return {name for entry in entries() if entry.kind == kind for name in entry.names}


def hardware_fields(model: type = Accelerator, prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        part = field.annotation
        nested = hasattr(part, "model_fields")
        found |= hardware_fields(part, f"{name}.") if nested else {prefix + name}
    return found


def test_actions_causes_components_phases_and_categories_are_all_there() -> None:
    assert names_of("action") == set(ACTIONS)
    assert names_of("stall cause") == set(CAUSES)
    assert names_of("component") == set(COMPONENTS)
    assert names_of("phase") == {str(phase) for phase in Phase}
    assert names_of("memory category") == set(MEMORY_CATEGORIES)
    assert set(UNIT_NAMES) <= names_of("term")


def test_hardware_fields_are_all_there() -> None:
    assert names_of("hardware field") == hardware_fields()


def test_op_kinds_are_all_there() -> None:
    ours = {kind for kind in registered() if not kind.startswith(("own_", "page_"))}  # those are of tests and pages
    assert ours <= names_of("op kind")


@pytest.mark.usefixtures("fakes")
def test_json_keys_and_csv_columns_are_all_there(fake_step: StepResult) -> None:
    summary = step_summary(fake_step)
    keys = set(summary) | set(CSV_COLUMNS) | set(summary["interval_drivers"][0])
    for group in ("by_phase", "by_component", "by_op"):
        keys |= set(next(iter(summary[group].values())))
    assert keys <= names_of("JSON key")


@pytest.mark.usefixtures("fakes")
def test_gemm_keys_are_all_there(fake_step: StepResult, fake_gemm) -> None:  # type: ignore[no-untyped-def]
    assert set(gemm_summary(fake_gemm(4, 4, 4, fake_step.hardware))) <= names_of("JSON key")


def test_units_of_measure_are_all_there() -> None:
    assert {"pJ", "mJ", "J", "W", "ms", "MiB", "MHz", "M cycles", "bytes"} <= names_of("unit of measure")


def test_terms_of_the_glossary_are_all_there() -> None:
    lines = GLOSSARY.read_text("utf-8").splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ") and not line.startswith("| term")]
    for term in (part.strip() for row in rows for part in row.split(",")):
        assert explain(term), term


@pytest.mark.parametrize("entry", entries(), ids=lambda e: e.names[0])
def test_entries_are_sentences_and_are_found_by_each_name(entry: Entry) -> None:
    assert entry.text.endswith(".")
    assert entry.text[0].isupper() or not entry.text[0].isalpha() or entry.text.startswith("x ")
    for name in entry.names:
        assert entry in explain(name)


def test_names_are_unique_within_a_kind() -> None:
    pairs = [(entry.kind, name) for entry in entries() for name in entry.names]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("spelling", ["time_s", "Time S", "TIME-S"])
def test_case_and_separators_do_not_matter(spelling: str) -> None:
    assert explain(spelling) == explain("time_s")


def test_part_after_the_dot_is_enough() -> None:
    assert [entry.names[0] for entry in explain("activations")] == ["dram.activations"]


def test_unknown_term_is_refused_with_the_nearest() -> None:
    with pytest.raises(HwsimError, match=re.escape("unknown term 'wgard'; did you mean wgrad") + ".*"):
        explain("wgard")
    with pytest.raises(HwsimError, match=re.escape("unknown term 'qqqq'; `hwsim explain` lists the terms") + "$"):
        explain("qqqq")


def test_first_sentence_of_a_cause_fits_a_table() -> None:
    assert all(0 < len(one_line(cause, "stall cause")) <= 90 for cause in CAUSES)
    assert one_line("nonsense", "stall cause") == ""
