"""Are the statistics of operands what a loop over every PE counts, and are prices by data what the model says?"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.energy import ACTIONS, load_energy_table, price_list
from hwsim.energy.data_model import ArrayPrices, load_data_model
from hwsim.energy.operands import STATISTICS, PeShape, Product, operand_statistics, statistics_from, turned
from hwsim.energy.scaling import scale
from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.numerics import from_format, to_format
from hwsim.simulate import simulate
from hwsim.workload import Phase
from hwsim_models import build

FILE = Path(__file__).parents[2] / "hwsim" / "energy" / "data" / "data-model-180nm-int8.json"
MODEL = load_data_model(FILE)
HW = load_accelerator("edge-8x8-int8")
MACS, GATED, HOPS, IDLE = (
    ACTIONS.index(f"array.{name}") for name in ("macs", "gated_macs", "hop_bytes", "idle_pe_cycles")
)


# Statistics, counted PE by PE


def bits_of(x, format):
    """The bits of an operand or, of 32 bits, of a sum, as a whole number."""
    if format == "int8":
        return int(x) & 0xFF
    if format == "int32":
        return int(x) & 0xFFFFFFFF
    word = int(np.float32(x).view(np.uint32))
    return word >> 16 if format == "bf16" else word


def macs_of_pe(product, shape, row, first):
    """All MACs of one PE in order: moving and stationary operand, product and sum from the north."""
    (m, k), n = product.a.shape, product.b.shape[1]
    for column in range(first, n, shape.cols):
        for top in range(0, k, shape.rows):
            for vector in range(m if top + row < k else 0):
                north = np.float32(0)
                for r in range(top, top + row):
                    north = np.float32(north + product.a[vector, r] * product.b[r, column])
                moving, weight = product.a[vector, top + row], product.b[top + row, column]
                yield (vector, top + row, column), (moving, weight, np.float32(moving * weight), north)


def terms_of(before, now, shape):
    """The five terms from one MAC to the next."""
    wide = "int32" if shape.format == "int8" else "fp32"

    def flips(i, format):
        return (bits_of(before[i], format) ^ bits_of(now[i], format)).bit_count()

    moves = flips(0, shape.format)
    return [moves, moves if now[1] != 0 else 0, flips(2, wide), flips(3, wide), float(now[0] == 0 or now[1] == 0)]


def counted(product, shape):
    """By MAC (m, k, n): its terms, and the MAC that follows in its PE."""
    terms, following = {}, {}
    for row in range(min(shape.rows, product.a.shape[1])):
        for first in range(min(shape.cols, product.b.shape[1])):
            macs = list(macs_of_pe(product, shape, row, first))
            for (place, now), (_, before), (after, _) in zip(
                macs, [macs[-1], *macs[:-1]], [*macs[1:], macs[0]], strict=True
            ):
                terms[place], following[place] = terms_of(before, now, shape), after
    return terms, following


@st.composite
def products(draw):
    format = draw(st.sampled_from(["int8", "bf16"]))
    m, k, n = (draw(st.integers(1, 6)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    whole = [rng.integers(-127, 128, size) * rng.integers(0, 2, size) for size in ((m, k), (k, n))]
    a, b = (x.astype(np.float32) for x in whole)
    if format == "bf16":
        a, b = (from_format(to_format(np.float32(x / 37), "bf16"), "bf16") for x in (a, b))
    shape = PeShape(format, draw(st.integers(1, 4)), draw(st.integers(1, 4)), 1)
    return Product("p", "forward", a, b), shape


@settings(deadline=None, max_examples=60)
@given(products(), st.integers(1, 9), st.integers(0, 99))
def test_statistics_are_those_of_a_loop_over_every_pe(case, cycles, seed):
    product, shape = case
    terms, following = counted(product, shape)
    (m, k), n = product.a.shape, product.b.shape[1]
    assert len(terms) == product.macs == m * k * n
    places = np.array(sorted(terms))
    each = statistics_from(product, shape, places[:, 1], places[:, 2], places[:, 0], 1)
    assert each == pytest.approx(np.array([terms[tuple(p)] for p in places.tolist()]))
    place = tuple(places[seed % len(places)].tolist())
    (found,) = statistics_from(product, shape, [place[1]], [place[2]], [place[0]], cycles)
    walked = []
    for _ in range(cycles):
        walked.append(terms[place])
        place = following[place]
    assert found == pytest.approx(np.mean(walked, axis=0))


def test_a_sample_has_no_bias():
    """One product of a lopsided shape: 9 summands on 8 rows and 10 columns on 8; every MAC counts alike."""
    rng = np.random.default_rng(3)
    a = (rng.integers(-127, 128, (20, 9)) * (np.arange(9) % 3 > 0)).astype(np.float32)
    product = Product("p", "forward", a, rng.integers(-127, 128, (9, 10)).astype(np.float32))
    shape = PeShape("int8", 8, 8, 1)
    exact = np.mean(list(counted(product, shape)[0].values()), axis=0)
    samples = [operand_statistics(product, shape, np.random.default_rng(seed)) for seed in range(40)]
    assert np.mean(samples, axis=0) == pytest.approx(exact, rel=0.02)
    assert (samples[0] == operand_statistics(product, shape, np.random.default_rng(0))).all()


def test_an_input_stationary_array_has_the_operands_change_places():
    product = Product("p", "forward", np.ones((2, 3), np.float32), np.zeros((3, 4), np.float32))
    other = turned(product, HW.with_dataflow("is"))
    assert (other.a.shape, other.b.shape, other.macs) == ((4, 3), (3, 2), product.macs)
    assert turned(product, HW) is product


# The file


def changed(tmp_path, change):
    found = json.loads(FILE.read_text("utf-8"))
    change(found)
    path = tmp_path / "m.json"
    path.write_text(json.dumps(found), "utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.update(schema="hwsim.data-model/9"), "schema: Input should be 'hwsim.data-model/1'"),
        (lambda f: f.pop("idle_pj"), "idle_pj: Field required"),
        (lambda f: f.update(more=1), "more: Extra inputs are not permitted"),
        (lambda f: f["library"].update(sha256="86f7"), "library.sha256: String should match pattern '^[0-9a-f]{64}$'"),
        (lambda f: f["idle_pj"].update(low=50), "idle_pj: low ≤ value ≤ high does not hold: 50, 18.74, 23.217"),
        (lambda f: f["terms"].reverse(), f"the terms are constant, {', '.join(STATISTICS)}"),
        (lambda f: f["statistics"].pop("dgrad"), "statistics of dgrad are missing"),
        (
            lambda f: f["coefficients_pj"]["low"].pop(),
            "coefficients_pj.low: Tuple should have at least 6 items after validation, not 5",
        ),
        (
            lambda f: f["coefficients_pj"].update(low=[-99.0, 0, 0, 0, 0, 0]),
            "the energy of a cycle of forward must be above 0",
        ),
        (lambda f: f["statistics"]["wgrad"].update(zeros=1.5),
         "statistics.wgrad.zeros: Input should be less than or equal to 1"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused(tmp_path, change, said):
    path = changed(tmp_path, change)
    with pytest.raises(HwsimError) as error:
        load_data_model(path)
    assert str(error.value) == f"data model '{path}': {said}"


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(HwsimError) as error:
        load_data_model("none.json")
    assert str(error.value) == "cannot read data model 'none.json': No such file or directory"
    (tmp_path / "x").write_text("{", "utf-8")
    with pytest.raises(HwsimError) as error:
        load_data_model(tmp_path / "x")
    assert str(error.value) == f"data model '{tmp_path / 'x'}': not a JSON file; hwsim calibrate --out DIR writes one"


@pytest.mark.parametrize(
    ("hw", "pe"),
    [
        (load_accelerator("edge-8x8-bf16"), "bf16 operands, α = 6 and μ = 2 in dataflow ws"),
        (load_accelerator("gemmini-16x16-int8"), "int8 operands, α = 1 and μ = 0 in dataflow ws"),
        (HW.with_dataflow("os"), "int8 operands, α = 1 and μ = 1 in dataflow os"),
        (HW.with_dataflow("is"), "int8 operands, α = 1 and μ = 1 in dataflow is"),
    ],
)
def test_another_pe_is_refused(hw, pe):
    with pytest.raises(HwsimError) as error:
        ArrayPrices.of(MODEL, hw)
    assert str(error.value) == (
        f"{hw.name}: its PE has {pe}, the data model's (edge-8x8-int8) int8 operands, α = 1 and μ = 1 in dataflow ws; "
        "take a model of this PE: hwsim calibrate --out DIR writes it"
    )


# Prices


def test_a_cycle_is_the_sum_of_its_terms_within_the_held_out_error(tmp_path):
    def simple(found):
        found["coefficients_pj"] = {
            "value": [20, 1, 2, 3, 4, -5],
            "low": [10, 1, 1, 1, 1, 0],
            "high": [30, 1, 2, 3, 4, 0],
        }
        found["held_out_error"]["largest"] = 0.1

    cycle = load_data_model(changed(tmp_path, simple)).cycle_pj(np.array([1, 0.5, 2, 3, 0.5]))
    assert cycle.value == pytest.approx(20 + 1 + 1 + 6 + 12 - 2.5)
    # what is 10 % off upwards was 1/1.1 of it, what is 10 % off downwards 1/0.9
    assert (cycle.low, cycle.high) == pytest.approx(((10 + 1 + 0.5 + 2 + 3) / 1.1, (30 + 1 + 1 + 6 + 12) / 0.9))


@pytest.mark.parametrize("node_nm", [180.0, 40.0, 7.0])
def test_zeros_hops_and_the_node_are_priced_once(node_nm):
    hw = HW.model_copy(update={"node_nm": node_nm})
    prices, statistics = ArrayPrices.of(MODEL, hw), MODEL.statistics["forward"].array
    by, cycle = scale(180, node_nm), MODEL.cycle_pj(statistics)
    expected = np.array([cycle.value * by.value, cycle.low * by.low, cycle.high * by.high])
    idle = np.array([18.74 * by.value, 17.0147 * by.low, 23.217 * by.high])
    actions = np.arange(1.0, len(ACTIONS) + 1)
    before = np.full((3, len(ACTIONS)), 7.0)
    found = prices.applied(before, actions, statistics)
    assert found[:, MACS] == pytest.approx(expected * (actions[MACS] + actions[GATED]))
    assert found[:, IDLE] == pytest.approx(idle * actions[IDLE])
    assert (found[:, [GATED, HOPS]] == 0).all()
    others = [i for i in range(len(ACTIONS)) if i not in (MACS, GATED, HOPS, IDLE)]
    assert (found[:, others] == 7).all()
    moved = actions.copy()
    moved[MACS], moved[GATED] = actions[MACS] + actions[GATED], 0
    assert prices.array_pj(moved, statistics) == pytest.approx(prices.array_pj(actions, statistics))


def test_a_step_has_the_phases_of_the_model_and_all_else_of_the_table():
    graph, table = build("digits-mlp", 32), load_energy_table(FILE.with_name("calibrated-180nm-int8.csv"))
    plain = simulate(graph, HW, energy_table=table)
    step = simulate(graph, HW, energy_table=table, data_model=MODEL)
    prices, array = price_list(HW, table), ArrayPrices.of(MODEL, HW)
    assert step.cycles == plain.cycles
    array_columns = [MACS, GATED, HOPS, IDLE]
    assert np.delete(step.energy, array_columns, axis=1) == pytest.approx(
        np.delete(plain.energy, array_columns, axis=1)
    )
    for phase in (Phase.FORWARD, Phase.DGRAD, Phase.WGRAD):
        ops = [op for op in step.ops if op.phase is phase]
        cycle, idle = array.cycle_pj(MODEL.statistics[phase.value].array), array.idle_pj()
        macs, resting = sum(op.macs for op in ops), sum(op.actions[IDLE] for op in ops)
        expected = [macs * c + resting * i for c, i in zip((cycle.value, cycle.low, cycle.high),
                                                           (idle.value, idle.low, idle.high), strict=True)]  # fmt: skip
        assert sum(op.energy[:, array_columns].sum(axis=1) for op in ops) == pytest.approx(expected)
    by_phase = sum(sum(op.energy_pj.value for op in step.ops if op.phase is phase) for phase in Phase)
    assert by_phase == pytest.approx(step.energy_pj.value)
    assert (prices.matrix @ step.ops[-1].actions) == pytest.approx(step.ops[-1].energy.sum(axis=1))  # an update


def test_alike_ops_of_two_phases_are_priced_by_their_own_phase():
    """digits-resnet has convolutions whose forward and dgrad are the same program."""
    step = simulate(build("digits-resnet", 4), HW, data_model=MODEL)
    of = {phase: [op for op in step.ops if op.phase is phase and op.macs] for phase in Phase}
    pairs = [(a, b) for a in of[Phase.FORWARD] for b in of[Phase.DGRAD] if (a.actions == b.actions).all()]
    assert pairs
    forward, dgrad = (MODEL.cycle_pj(MODEL.statistics[phase].array).value for phase in ("forward", "dgrad"))
    for a, b in pairs:
        assert a.energy[0, MACS] / b.energy[0, MACS] == pytest.approx(forward / dgrad)
