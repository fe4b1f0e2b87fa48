"""Is what a sweep says of its table true, against brute force, and whatever the parts are?"""

import math
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hwsim.errors import HwsimError
from hwsim.explore import Plan, analyse, analysis, hypervolume_ratio, nondominated, read_space, run_sweep
from hwsim.explore.analysis import INDICATORS, RANKED
from hwsim_models import build

TEXT = """
hardware = "edge-8x8-int8"
constraints = ["power_w < {power}", "area_mm2 < 1e6"]
objectives = ["energy_j", "-samples_per_s"]
workload = {{ model = "digits-mlp" }}
[knobs]
batch = [4, 16]
array.rows = [4, 8]
array.dataflow = ["ws", "os"]
clock_mhz = [50, 80, 100]
node_nm = [16, 45]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep half of whose points are feasible: space, parts of seven points, all rows."""
    free = read_space(TEXT.format(power=1e9))
    out = tmp_path_factory.mktemp("swept")
    rows = pq.read_table(run_sweep(free, out / "free", build, Plan(), workers=1)[0]).to_pylist()
    middle = sorted(row["power_w"] for row in rows)[len(rows) // 2]
    space = read_space(TEXT.format(power=middle))
    parts = run_sweep(space, out / "parts", build, Plan(chunk=7), workers=1)
    rows = [row for path in parts for row in pq.read_table(path).to_pylist()]
    assert {row["feasible"] for row in rows} == {True, False}
    return space, parts, rows


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(0, 30), st.integers(2, 4)), elements=st.integers(0, 5).map(float)))
def test_front_is_what_nothing_betters(values):
    rows = [tuple(row) for row in values.tolist()]
    brute = [not any(dominates(other, row) for other in rows) and row not in rows[:i] for i, row in enumerate(rows)]
    assert nondominated(values).tolist() == brute


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8), st.integers(0, 7))
def test_hypervolume_is_the_share_of_dominated_area(points, keep):
    exhaustive = np.array(points, np.float64)
    some = exhaustive[: 1 + keep % len(points)]
    front = exhaustive[nondominated(exhaustive)]
    reference = 1.1 * front.max(axis=0)
    edges = [np.unique(np.concatenate([exhaustive[:, i], [reference[i]]])) for i in range(2)]

    def area(chosen):
        total = 0.0
        for x, right in zip(edges[0], edges[0][1:], strict=False):
            for y, top in zip(edges[1], edges[1][1:], strict=False):
                inside = right <= reference[0] and top <= reference[1]
                if inside and any(p[0] <= x and p[1] <= y for p in chosen):
                    total += (right - x) * (top - y)
        return total

    assert hypervolume_ratio(some, front) == pytest.approx(area(some) / area(front), rel=1e-9)


def test_counts_front_and_best(swept):
    space, parts, rows = swept
    found = analyse(space, parts)
    feasible = [row for row in rows if row["feasible"]]
    assert (found.evaluated, found.failed, found.feasible) == (48, 0, len(feasible))
    costs = {row["point"]: (row["energy_j"], -row["samples_per_s"]) for row in feasible}
    brute = {p for p, cost in costs.items() if not any(dominates(other, cost) for other in costs.values())}
    assert set(found.front.column("point").to_pylist()) == brute
    assert found.on_front.tolist() == [p in brute for p in found.shown.column("point").to_pylist()]
    assert sorted(found.shown.column("point").to_pylist()) == list(range(48))
    best = {(b.objective, b.without): b for b in found.best}
    free = min(row["energy_j"] for row in rows)
    assert best["energy_j", ""].value == min(row["energy_j"] for row in feasible)
    power = space.constraints[0].expression.text
    assert best["energy_j", power].value == free
    assert best["energy_j", power].ratio == pytest.approx(free / best["energy_j", ""].value)
    assert best["energy_j", "area_mm2 < 1e6"].ratio == 1
    assert best["samples_per_s", ""].value == max(row["samples_per_s"] for row in feasible)


def test_parts_do_not_matter(swept, tmp_path):
    space, parts, _ = swept
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(p) for p in reversed(parts)]), whole)
    one, many = analyse(space, [whole]), analyse(space, parts)
    assert one.front.equals(many.front)
    assert one.best == many.best
    assert sorted(one.shown.column("point").to_pylist()) == sorted(many.shown.column("point").to_pylist())
    for a, b in zip(one.sensitivities, many.sensitivities, strict=True):
        assert (a.knob, a.objective) == (b.knob, b.objective)
        assert a.ratio == pytest.approx(b.ratio)
        assert a.share == pytest.approx(b.share, abs=1e-9)


def test_points_drawn_for_the_page_do_not_depend_on_parts(swept, tmp_path, monkeypatch):
    space, parts, _ = swept
    monkeypatch.setattr(analysis, "SHOWN", 10)
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(p) for p in reversed(parts)]), whole)
    drawn = [set(analyse(space, p).shown.column("point").to_pylist()) for p in ([whole], parts, parts[::-1])]
    assert drawn[0] == drawn[1] == drawn[2]
    assert 10 <= len(drawn[0]) < 48
    assert max(drawn[0]) - min(drawn[0]) > 20


def test_sensitivity_is_that_of_group_means(swept):
    space, parts, rows = swept
    found = {(s.knob, s.objective): s for s in analyse(space, parts).sensitivities}
    assert {knob for knob, _ in found} == {k.name for k in space.axes}
    for (knob, objective), sensitivity in found.items():
        groups = {}
        for row in rows:
            groups.setdefault(row[knob], []).append(math.log(row[objective]))
        means = {value: sum(g) / len(g) for value, g in groups.items()}
        everything = [x for g in groups.values() for x in g]
        mean = sum(everything) / len(everything)
        spread = sum((x - mean) ** 2 for x in everything)
        between = sum(len(groups[v]) * (means[v] - mean) ** 2 for v in groups)
        assert sensitivity.ratio == pytest.approx(math.exp(max(means.values()) - min(means.values())))
        assert sensitivity.share == pytest.approx(between / spread, abs=1e-9)
    shares = sum(s.share for (_, objective), s in found.items() if objective == "energy_j")
    assert 0.9 < shares <= 1 + 1e-9  # a full grid: what single knobs do not explain, pairs do


def test_rankings_are_those_of_all_pairs(swept):
    space, parts, rows = swept
    feasible = [row for row in rows if row["feasible"]]
    assert len(feasible) <= RANKED
    rankings = analyse(space, parts).rankings
    assert [(r.first, r.second) for r in rankings] == list(combinations(INDICATORS, 2))
    for ranking in rankings:
        a = {row["point"]: row[ranking.first] for row in feasible}
        b = {row["point"]: row[ranking.second] for row in feasible}
        agree = differ = tie_a = tie_b = 0
        furthest = 0.0
        for p, q in combinations(a, 2):
            first, second = a[q] - a[p], b[q] - b[p]
            tie_a += first == 0
            tie_b += second == 0
            agree += first * second > 0
            differ += first * second < 0
            if first * second < 0:
                apart = min(abs(math.log(a[q] / a[p])), abs(math.log(b[q] / b[p])))
                furthest = max(furthest, apart)
        pairs = len(a) * (len(a) - 1) / 2
        if tie_a == pairs or tie_b == pairs:
            assert math.isnan(ranking.tau)
            continue
        assert ranking.tau == pytest.approx((agree - differ) / math.sqrt((pairs - tie_a) * (pairs - tie_b)))
        if not differ:
            assert ranking.points == ()
            continue
        p, q = ranking.points
        assert a[p] < a[q]
        assert b[p] > b[q]
        assert min(map(math.log, ranking.ratios)) == pytest.approx(furthest)
        assert ranking.ratios == pytest.approx((a[q] / a[p], b[p] / b[q]))


def test_nothing_feasible_says_what_constraints_cost(tmp_path):
    space = read_space(TEXT.format(power=1e-30))
    found = analyse(space, run_sweep(space, tmp_path / "out", build, Plan(), workers=1))
    assert (found.feasible, len(found.front), len(found.rankings)) == (0, 0, 15)
    assert {b.without for b in found.best} == {space.constraints[0].expression.text}
    assert all(math.isnan(b.ratio) for b in found.best)


def test_broken_parts_are_named(swept, tmp_path):
    space = swept[0]
    with pytest.raises(HwsimError, match=r"^there is no part of the sweep to look at$"):
        analyse(space, [])
    broken = tmp_path / "part-000000.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(
        HwsimError, match=r"^cannot read '.*part-000000.parquet': .*; remove it and go on with --resume$"
    ):
        analyse(space, [broken])
