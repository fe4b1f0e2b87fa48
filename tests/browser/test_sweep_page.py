"""Does a sweep's page do what it says, in a real browser? Filter, brush, hover, copy, sort, both schemes, no network.

What must be shown is computed here from the table; the page is only asked where it drew something.
"""

import re
import tomllib

import numpy as np
import pyarrow as pa
import pytest

from hwsim.hardware import Accelerator, load_accelerator
from hwsim.report.sweep_page import Knob, write_page

TITLE = "Edge training"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 700, "height": 900}
NASTY = "</title></script><script>alert('1')</script>\"\\\u2028<!-- \x7f & <b>"


class Case:
    """The table of a page, as columns of the points that are shown."""

    def __init__(self, points, folder):
        self.points = points
        base = load_accelerator("edge-32x32-bf16")
        self.base = base.model_copy(update={"vector": base.vector.model_copy(update={"lanes": 16})})
        self.table = points.make_table()
        self.front = points.front_of(self.table)
        self.path = folder / "index.html"
        write_page(
            self.path,
            title=TITLE,
            table=self.table,
            knobs=points.KNOBS,
            objectives=points.OBJECTIVES,
            base=self.base,
            front=self.front,
            notes={"space": "5,184 points", "workload": "resnet18, momentum"},
        )
        evaluated = np.array(self.table["error"].is_null())
        self.rows = self.table.filter(pa.array(evaluated)).to_pylist()
        self.on_front = self.front[evaluated]

    def column(self, name):
        return np.array([row[name] for row in self.rows])


@pytest.fixture(scope="module")
def case(points, tmp_path_factory):
    return Case(points, tmp_path_factory.mktemp("page"))


@pytest.fixture
def opened(browser):
    """Open pages; whatever they say on the console, throw, or ask the network for fails the test."""
    contexts, complaints = [], []

    def open_page(path, viewport=WIDE, scheme="light", script=None):
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("request", lambda request: request.url == path.as_uri() or complaints.append(f"request: {request.url}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        if script:
            page.add_init_script(script)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(opened, case):
    return opened(case.path)


def settle(page):
    """Wait until what was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(page):
    """The count of points shown, and the points in the table of the front."""
    settle(page)
    count = int(page.locator(".shown output b").inner_text().replace(",", ""))
    return count, [int(text) for text in page.locator("#front tbody td:first-child").all_inner_texts()]


def assert_shown(page, case, mask):
    count, front = shown(page)
    assert count == mask.sum()
    assert sorted(front) == sorted(case.column("point")[mask & case.on_front])


def limits(page, name):
    return page.locator(f'fieldset[data-column="{name}"] input')


def place_of(page, row, plot=0):
    """Where on the screen a scatter plot has a row."""
    box = page.locator(".scatters .plot").nth(plot).bounding_box()
    x, y = page.evaluate(f"[scatters[{plot}].xs[{row}], scatters[{plot}].ys[{row}]]")
    return box["x"] + x, box["y"] + y


def row_of(case, point):
    return int(np.flatnonzero(case.column("point") == point)[0])


def clipboard(page):
    page.wait_for_selector(".toast.open")
    return page.evaluate("navigator.clipboard.readText()")


# ---- what is there --------------------------------------------------------------------------------------------------


def test_header_says_what_the_page_holds(page, case):
    assert page.title() == TITLE
    assert page.locator("h1").inner_text() == TITLE
    broken = sum(not row["feasible"] for row in case.rows)
    text = f"1,993 points in this page: {case.front.sum()} on the front · {broken} break a constraint · 7 more failed"
    assert page.locator(".counts").inner_text() == text
    notes = page.locator("header dl").inner_text()
    assert "energy [mJ], time [ms], area [mm²]; less is better" in notes
    assert "resnet18, momentum" in notes
    assert_shown(page, case, np.full(len(case.rows), True))


def test_page_is_one_file_without_addresses(case):
    text = case.path.read_text("utf-8")
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link(?! rel=\"icon\" href=\"data:,\")|<img|@import|url\(", text)


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["1280", "700"])
def test_page_fits_and_stays_where_it_is(opened, case, viewport):
    page = opened(case.path, viewport=viewport)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    shifts = """() => new Promise((done) => {
        const seen = [];
        const watch = new PerformanceObserver((list) => seen.push(...list.getEntries().map((e) => e.value)));
        watch.observe({type: "layout-shift", buffered: true});
        setTimeout(() => done(seen), 200);
    })"""
    assert page.evaluate(shifts) == []


def test_points_stand_where_the_ticks_say(page, case):
    """Position in pixels is linear in the logarithm, between any two ticks' labels."""
    for plot, (up, across) in enumerate([("energy_j", "time_s"), ("energy_j", "area_mm2"), ("time_s", "area_mm2")]):
        factors = {"energy_j": 1000, "time_s": 1000, "area_mm2": 1}
        ticks = page.evaluate(
            f"[...scatters[{plot}].svg.querySelectorAll('text.tick')].map((t) => [t.getAttribute('text-anchor'), "
            "+t.getAttribute('x'), +t.getAttribute('y'), +t.textContent.replaceAll(',', '')])"
        )
        xs, ys = page.evaluate(f"[scatters[{plot}].xs, scatters[{plot}].ys]")
        for name, anchor, index, drawn in ((across, "middle", 1, xs), (up, "end", 2, ys)):
            chosen = [tick for tick in ticks if tick[0] == anchor]
            assert len(chosen) >= 3
            pixels = np.array([tick[index] - (3.5 if index == 2 else 0) for tick in chosen])
            slope, start = np.polyfit(np.log([tick[3] for tick in chosen]), pixels, 1)
            expected = start + slope * np.log(case.column(name) * factors[name])
            np.testing.assert_allclose(drawn, expected, atol=0.05)


def test_staircase_joins_the_best_of_two_objectives(page, case):
    path = page.evaluate("scatters[1].svg.querySelector('.stairs').getAttribute('d')")
    corners = len(re.findall("[MH]", path))
    energy, area = case.column("energy_j")[case.on_front], case.column("area_mm2")[case.on_front]
    best = [
        i
        for i in range(len(area))
        if not ((energy <= energy[i]) & (area <= area[i]) & ((energy < energy[i]) | (area < area[i]))).any()
    ]
    assert corners == len(best) >= 5


def test_text_is_never_markup(opened, case, tmp_path):
    names = [NASTY, "plain"]
    table = case.table.slice(0, 40)
    table = table.append_column("model", pa.array([names[i % 2] for i in range(40)]))
    path = tmp_path / "nasty.html"
    base = case.base.model_copy(update={"name": NASTY, "source": "a\nb"})
    knobs = [*case.points.KNOBS, Knob("model", "", "text", tuple(names))]
    write_page(
        path, title=NASTY, table=table, knobs=knobs, objectives=("energy_j", "-samples_per_s"), base=base,
        front=case.points.front_of(table), notes={NASTY: NASTY},
    )  # fmt: skip
    page = opened(path)
    assert page.evaluate("document.title") == NASTY.replace("\x7f ", "")  # a title has no control characters
    assert page.locator("h1").text_content() == NASTY
    assert page.locator("header dt", has_text="script").text_content() == NASTY
    assert page.locator("body script, head script").count() == 2
    page.locator("#front tbody button").first.click()
    text = clipboard(page)
    copied = tomllib.loads(text)
    assert copied["name"].removesuffix(" as fp8_e4m3").removesuffix(" as fp16") == NASTY
    assert copied["source"] == "a\nb"
    workload = next(line for line in text.split("\n") if line.startswith("# workload "))
    assert tomllib.loads(workload.removeprefix("# workload ").replace(", ", "\n"))["model"] in names


# ---- filter ---------------------------------------------------------------------------------------------------------


def test_limits_filter_in_the_unit_that_is_shown(page, case):
    limits(page, "energy_j").nth(1).fill("500")
    mask = case.column("energy_j") <= 0.5  # mJ
    assert_shown(page, case, mask)
    limits(page, "time_s").nth(0).fill("100")  # ms
    mask &= case.column("time_s") >= 0.1
    assert_shown(page, case, mask)
    limits(page, "scratchpad.capacity_bytes").nth(0).fill("1024")  # KiB
    mask &= case.column("scratchpad.capacity_bytes") >= 2**20
    assert_shown(page, case, mask)
    limits(page, "scratchpad.capacity_bytes").nth(1).fill("1024")
    mask &= case.column("scratchpad.capacity_bytes") == 2**20
    assert_shown(page, case, mask)
    assert 0 < mask.sum() < 200
    page.click("#reset")
    assert_shown(page, case, np.full(len(case.rows), True))
    assert [field.input_value() for field in page.locator(".filters input[type=number]").all()].count(
        ""
    ) == page.locator(".filters input[type=number]").count()


def test_figures_that_are_no_objectives_filter_too(page, case):
    page.locator(".filters summary").click()
    limits(page, "utilization").nth(0).fill("30")  # %
    assert_shown(page, case, case.column("utilization") >= 0.3)


def test_boxes_filter_text(page, case):
    page.locator('fieldset[data-column="array.dataflow"] label', has_text="ws").click()
    assert_shown(page, case, case.column("array.dataflow") != "ws")
    page.locator("label", has_text="points that break a constraint").click()
    assert_shown(page, case, (case.column("array.dataflow") != "ws") & case.column("feasible"))


# ---- brush ----------------------------------------------------------------------------------------------------------


def drag(page, name, start, end):
    """Drag along an axis of the parallel coordinates, from one height to another, 0 at the top and 1 at the bottom."""
    page.locator(".wide").scroll_into_view_if_needed()
    box = page.locator(f'.handle[data-axis="{name}"]').bounding_box()
    x, top, height = box["x"] + box["width"] / 2, box["y"] + 6, box["height"] - 12
    page.mouse.move(x, top + start * height)
    page.mouse.down()
    page.mouse.move(x + 3, top + (start + end) / 2 * height)
    page.mouse.move(x + 30, top + end * height)
    page.mouse.up()


def test_brush_on_an_objective_selects_everywhere(page, case):
    drag(page, "time_s", 0.25, 0.6)
    time = case.column("time_s")
    low, high = (time.min() * (time.max() / time.min()) ** t for t in (0.25, 0.6))
    mask = (time >= low) & (time <= high)
    assert 300 < mask.sum() < 1700
    count, _ = shown(page)
    assert count == pytest.approx(mask.sum(), abs=12)  # the mouse moves by pixels
    least, most = (float(field.input_value()) / 1000 for field in limits(page, "time_s").all())
    assert (least, most) == (pytest.approx(low, rel=0.03), pytest.approx(high, rel=0.03))
    assert page.locator(".brush").count() == 1
    exact = page.evaluate("(() => { const f = state.filters.get(byName.get('time_s')); return [f.low, f.high]; })()")
    mask = (time >= exact[0]) & (time <= exact[1])
    assert_shown(page, case, mask)

    drag(page, "array.rows", 0.7, 1.0)  # and on a second axis: fewer rows are further down
    assert page.locator(".brush").count() == 2
    assert_shown(page, case, mask & (case.column("array.rows") < 32))

    page.locator('.handle[data-axis="time_s"]').dblclick()
    assert_shown(page, case, case.column("array.rows") < 32)
    assert page.locator(".brush").count() == 1


def test_brush_on_text_checks_its_boxes(page, case):
    drag(page, "array.dataflow", 0.75, 0.9)  # the lowest of three
    assert_shown(page, case, case.column("array.dataflow") == "ws")
    boxes = page.locator('fieldset[data-column="array.dataflow"] input').all()
    assert [box.is_checked() for box in boxes] == [True, False, False]


def test_click_on_an_axis_selects_nothing(page, case):
    box = page.locator('.handle[data-axis="energy_j"]').bounding_box()
    page.mouse.move(box["x"] + 14, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + 15, box["y"] + 92)  # a hand is never quite still
    page.mouse.up()
    assert_shown(page, case, np.full(len(case.rows), True))
    assert not page.locator(".toast.open").count()


# ---- hover ----------------------------------------------------------------------------------------------------------


def best_of(case, name="energy_j"):
    return int(np.flatnonzero(case.on_front)[np.argmin(case.column(name)[case.on_front])])


def test_hover_shows_the_whole_configuration(page, case):
    row = best_of(case)
    page.mouse.move(*place_of(page, row))
    card = page.locator(".card.open")
    values, text = case.rows[row], card.inner_text()
    assert text.startswith(f"Point {values['point']} on the front")
    entries = dict(zip(card.locator("dt").all_inner_texts(), card.locator("dd").all_inner_texts(), strict=True))
    assert entries["array.rows"] == str(values["array.rows"])
    assert entries["array.dataflow"] == values["array.dataflow"]
    assert entries["scratchpad.capacity_bytes"] == f"{values['scratchpad.capacity_bytes'] >> 20} MiB"
    assert entries["clock_mhz"] == f"{values['clock_mhz']:.7g} MHz"
    assert {knob.name for knob in case.points.KNOBS} < entries.keys()
    energy = [float(x) for x in re.findall(r"[\d.]+", entries["energy"].replace("…", " "))]
    expected = [values[name] for name in ("energy_j", "energy_low_j", "energy_high_j")]
    assert energy == pytest.approx([1000 * x for x in expected], rel=1e-3)
    assert entries["energy"].split()[1] == "mJ"
    assert entries["utilization"] == f"{100 * values['utilization']:.4g} %"
    assert "array 30 %" in text
    assert page.locator(".scatters .ring").count() == 3  # the same point in all plots
    assert page.locator(".scatters .plot").nth(0).locator(".interval").count() == 1
    assert page.locator("tr.hovered td").first.inner_text() == str(values["point"])
    box = card.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= WIDE["width"]
    page.mouse.move(5, 5)
    assert not card.count()


def test_points_that_are_filtered_out_have_no_card(page, case):
    row = best_of(case)
    limits(page, "energy_j").nth(0).fill("3000")
    settle(page)
    page.mouse.move(*place_of(page, row))
    assert not page.locator(".card.open").count()


def test_hover_on_a_line_of_the_parallel_plot(page, case):
    limits(page, "energy_j").nth(1).fill("163.5")  # one point is left
    page.locator(".wide").scroll_into_view_if_needed()
    settle(page)
    row = best_of(case)
    x, y = page.evaluate(
        f"[0, 1].map((i) => [parallel.xs, parallel.ys.map((c) => c[{row}])][i]).map((v) => (v[2] + v[3]) / 2)"
    )
    box = page.locator(".wide .plot").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    assert page.locator(".card.open h2").inner_text().startswith(f"Point {case.rows[row]['point']} ")


# ---- copy -----------------------------------------------------------------------------------------------------------


def test_click_copies_a_description_that_loads_as_the_point(page, case, tmp_path):
    rng = np.random.default_rng(3)
    chosen = [best_of(case, name) for name in case.points.OBJECTIVES]
    chosen += [int(i) for i in rng.choice(len(case.rows), 12, replace=False)]
    assert len({case.rows[row]["precision"] for row in chosen}) == 3
    loaded = 0
    for row in chosen:
        page.evaluate(f"copy({row})")
        values = case.rows[row]
        text = clipboard(page)
        assert text.startswith(f'# point {values["point"]} of the sweep "{TITLE}"\n')
        assert f'\n# workload batch = {values["batch"]}, precision = "{values["precision"]}"\n' in text
        figures = re.search(r"^# energy ([\d.,]+) mJ \(([\d.,]+) … ([\d.,]+)\), time ", text, re.MULTILINE)
        expected = [1000 * values[name] for name in ("energy_j", "energy_low_j", "energy_high_j")]
        assert [float(x.replace(",", "")) for x in figures.groups()] == pytest.approx(expected, rel=1e-3)
        (tmp_path / "point.toml").write_text(text, "utf-8")
        assert load_accelerator(tmp_path / "point.toml") == case.points.accelerator_of(case.base, values)
        loaded += 1
    assert loaded == 15


def test_click_on_a_point_copies_that_point(page, case, tmp_path):
    row = best_of(case)
    page.mouse.click(*place_of(page, row))
    text = clipboard(page)
    assert page.locator(".toast").inner_text() == f"Point {case.rows[row]['point']} is in the clipboard, as TOML"
    (tmp_path / "point.toml").write_text(text, "utf-8")
    assert load_accelerator(tmp_path / "point.toml") == case.points.accelerator_of(case.base, case.rows[row])


def test_text_is_offered_where_the_clipboard_is_not(opened, case):
    refuse = "navigator.clipboard.writeText = () => Promise.reject(new Error('no'))"
    page = opened(case.path, script=refuse)
    page.mouse.click(*place_of(page, best_of(case)))
    field = page.locator("dialog[open] textarea")
    field.wait_for()
    text = field.input_value()
    selected = page.evaluate(
        "document.activeElement.value.slice(document.activeElement.selectionStart, document.activeElement.selectionEnd)"
    )
    assert selected == text
    assert Accelerator.model_validate(tomllib.loads(text))
    page.keyboard.press("Escape")
    assert not page.locator("dialog[open]").count()


# ---- the front's table ----------------------------------------------------------------------------------------------


def test_headings_sort(page, case):
    for name in ("area_mm2", "time_s", "array.dataflow"):
        heading = page.locator(f'th[data-column="{name}"]')
        for direction in ("ascending", "descending"):
            heading.locator("button").click()
            assert heading.get_attribute("aria-sort") == direction
            _, order = shown(page)
            values = [case.rows[row_of(case, point)][name] for point in order]
            rank = [("ws", "os", "is").index(v) for v in values] if name == "array.dataflow" else values
            assert rank == sorted(rank, reverse=direction == "descending")
    assert page.locator("th[aria-sort]").count() == 1


def test_keys_walk_the_table_and_copy(page, case):
    _, order = shown(page)
    page.locator("#front tbody button").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.locator(".card.open h2").inner_text().startswith(f"Point {order[1]} ")
    page.keyboard.press("Enter")
    assert clipboard(page).startswith(f"# point {order[1]} of the sweep")


# ---- looks ----------------------------------------------------------------------------------------------------------


def luminance(colour):
    channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize(("scheme", "front"), [("light", (213, 94, 0)), ("dark", (230, 159, 0))])
def test_both_schemes_can_be_read(opened, case, scheme, front):
    page = opened(case.path, scheme=scheme)
    panel = page.evaluate("getComputedStyle(document.querySelector('.panel')).backgroundColor")
    assert (luminance(panel) > 0.5) == (scheme == "light")
    texts = page.evaluate(
        "[...document.querySelectorAll('h1, .quiet, td, dd, dt, legend')].map((e) => getComputedStyle(e).color)"
    )
    ticks = page.evaluate("[...document.querySelectorAll('svg text')].map((e) => getComputedStyle(e).fill)")
    assert min(contrast(colour, panel) for colour in {*texts, *ticks}) >= 4.5
    x, y = page.evaluate(f"[scatters[0].xs[{best_of(case)}], scatters[0].ys[{best_of(case)}]]")
    pixel = page.evaluate(f"[...scatters[0].canvas.getContext('2d').getImageData({x}, {y}, 1, 1).data]")
    assert np.abs(np.array(pixel[:3]) - front).max() <= 3


def test_colours_follow_a_knob(page, case):
    page.select_option("#colour", "array.dataflow")
    settle(page)
    assert page.locator(".swatches .key").all_inner_texts() == ["ws", "os", "is"]
    page.select_option("#colour", "clock_mhz")
    settle(page)
    assert page.locator(".swatches .key").all_inner_texts() == ["200 MHz", "400 MHz", "612.3457 MHz", "800 MHz"]
