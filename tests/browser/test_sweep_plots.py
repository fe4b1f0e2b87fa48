"""Do the pictures of a sweep show the points, the front's intervals and the knobs where they are?"""

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.collections import LineCollection, PathCollection, PolyCollection

from hwsim.explore import Sensitivity
from hwsim.report.sweep_plots import front_figure, sensitivity_figure


@pytest.fixture(scope="module")
def table(points):
    return points.make_table()


@pytest.fixture(scope="module")
def front(points, table):
    return points.front_of(table)


def numbers(table, name):
    return table[name].to_numpy(zero_copy_only=False)


def test_objectives_are_drawn_two_by_two(points, table, front):
    figure = front_figure(table, front, points.OBJECTIVES)
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels == [("time [ms]", "energy [mJ]"), ("area [mm²]", "energy [mJ]"), ("area [mm²]", "time [ms]")]
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 3
    assert figure.texts[0].get_text() == f"{front.sum()} of 1,993 points are on the front"


def test_front_stands_in_place_with_its_intervals(points, table, front):
    axes = front_figure(table, front, points.OBJECTIVES).axes[1]
    diamonds = [c for c in axes.collections if isinstance(c, PathCollection)][-1]
    area, energy = numbers(table, "area_mm2")[front], 1000 * numbers(table, "energy_j")[front]
    np.testing.assert_allclose(diamonds.get_offsets(), np.stack([area, energy], axis=1))
    horizontal, vertical = (c.get_segments() for c in axes.collections if isinstance(c, LineCollection))
    for segments, name, along, factor in ((horizontal, "area", 0, 1), (vertical, "energy", 1, 1000)):
        unit = "mm2" if name == "area" else "j"
        bounds = [factor * numbers(table, f"{name}_{end}_{unit}")[front] for end in ("low", "high")]
        np.testing.assert_allclose(np.array(segments)[:, :, along], np.stack(bounds, axis=1))


def test_axes_are_linear_below_thirty_times(points, table, front):
    near = table.filter(pa.array(numbers(table, "area_mm2") < 8))
    figure = front_figure(near, points.front_of(near), ("energy_j", "area_mm2"))
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("linear", "log")


@pytest.mark.parametrize("objectives", [("energy_j", "area_mm2"), ("energy_j", "-samples_per_s")])
def test_staircase_has_all_points_of_a_front_of_two(points, table, objectives):
    costs = table.append_column("-samples_per_s", pa.array(-numbers(table, "samples_per_s"), from_pandas=True))
    front = points.front_of(costs, objectives)
    axes = front_figure(table, front, objectives).axes[0]
    assert front.sum() >= 3
    assert sorted(axes.lines[0].get_xdata()) == pytest.approx(sorted(numbers(table, objectives[1].lstrip("-"))[front]))


def test_staircase_leaves_out_what_a_third_objective_keeps(points, table, front):
    axes = front_figure(table, front, points.OBJECTIVES).axes[1]
    two = points.front_of(table, ("energy_j", "area_mm2"))
    assert two.sum() < front.sum()
    assert sorted(axes.lines[0].get_xdata()) == sorted(numbers(table, "area_mm2")[two])


def test_very_many_points_are_drawn_as_density(points, table, front, monkeypatch):
    monkeypatch.setattr("hwsim.report.sweep_plots.DOTS", 500)
    axes = front_figure(table, front, points.OBJECTIVES).axes[0]
    feasible = np.array(table["feasible"].fill_null(False))
    broken, plain = (c for c in axes.collections if isinstance(c, PolyCollection))
    assert plain.get_array().sum() == (feasible & ~front).sum()
    assert broken.get_array().sum() == 1993 - feasible.sum()
    assert axes.get_xlabel() == "time [ms]"


def test_front_of_no_point_is_drawn(points, table):
    nothing = np.zeros(len(table), bool)
    figure = front_figure(table, nothing, points.OBJECTIVES)
    assert figure.texts[0].get_text() == "0 of 1,993 points are on the front"
    figure.canvas.draw()


def test_bars_of_knobs_are_in_order_of_the_first_objective():
    shares = {
        ("rows", "energy_j"): (1.5, 0.1),
        ("batch", "energy_j"): (4.0, 0.8),
        ("clock_mhz", "energy_j"): (1.1, 0.05),
    }
    shares |= {("rows", "time_s"): (6.0, 0.7), ("batch", "time_s"): (2.0, 0.2), ("clock_mhz", "time_s"): (1.0, 0.0)}
    figure = sensitivity_figure([Sensitivity(*key, *value) for key, value in shares.items()])
    energy, time = figure.axes
    assert [tick.get_text() for tick in energy.get_yticklabels()] == ["clock_mhz", "rows", "batch"]
    assert (energy.get_title("left"), time.get_title("left")) == ("energy", "time")
    assert [bar.get_x() + bar.get_width() for bar in energy.patches] == [1.1, 1.5, 4.0]
    assert [bar.get_x() + bar.get_width() for bar in time.patches] == [1.0, 6.0, 2.0]
    assert [text.get_text() for text in time.texts] == ["× 1, 0 %", "× 6, 70 %", "× 2, 20 %"]
