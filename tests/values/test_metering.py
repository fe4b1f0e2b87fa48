"""Does training priced by its own data add up, count nothing twice, and go on where it was?"""

from pathlib import Path

import numpy as np
import pytest

from hwsim.energy import ACTIONS, load_energy_table
from hwsim.energy.data_model import MODEL_PHASES, load_data_model
from hwsim.energy.operands import PeShape, operand_statistics
from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.simulate import simulate
from hwsim.values import digits
from hwsim.values.metering import EVERY_STEPS, ArrayMeter, array_columns
from hwsim.values.products import is_measured, products_of
from hwsim.values.training import Training, step_cost
from hwsim.workload import Phase
from hwsim_models import build

DATA = Path(__file__).parents[2] / "hwsim" / "energy" / "data"
MODEL = load_data_model(DATA / "data-model-180nm-int8.json")
TABLE = load_energy_table(DATA / "calibrated-180nm-int8.csv")
HW = load_accelerator("edge-8x8-int8")
MACS, GATED, IDLE = (ACTIONS.index(f"array.{name}") for name in ("macs", "gated_macs", "idle_pe_cycles"))


def training(name="digits-mlp", metered=True, seed=1):
    graph = build(name, 32)
    step = simulate(graph, HW)
    data = digits().shaped(graph.tensors["input"].shape[1:])
    meter = ArrayMeter(step, MODEL, TABLE) if metered else None
    return Training(graph, HW, data, cost=step_cost(step, TABLE, array_apart=metered), meter=meter, seed=seed), step


def run(trained, steps):
    trained.train_epoch(stop=lambda: trained.steps >= steps)
    return trained


@pytest.fixture(scope="module")
def metered():
    trained, step = training()
    return run(trained, EVERY_STEPS + 2), step


def test_phases_and_steps_add_up_to_the_energy(metered):
    trained, _ = metered
    by_phase = trained.energy_by_phase_pj()
    assert list(by_phase) == [phase.value for phase in Phase if phase is not Phase.RECOMPUTE]
    assert sum(by_phase.values()) == pytest.approx(trained.energy_pj)
    assert trained.energy_by_step_pj()[:, -1] == pytest.approx(trained.energy_pj)
    assert (np.diff(trained.energy_by_step_pj()) > 0).all()
    value, low, high = trained.energy_pj
    assert low < value < high


def test_the_same_bits_are_trained(metered):
    trained, _ = metered
    plain, _ = training(metered=False)
    run(plain, trained.steps)
    assert plain.weights_sha256() == trained.weights_sha256()
    assert plain.cycles == trained.cycles
    assert plain.energy_by_phase_pj() == {}


def test_all_but_the_array_costs_what_it_did(metered):
    trained, _ = metered
    plain = simulate(build("digits-mlp", 32), HW, energy_table=TABLE)
    counted = sum(op.energy[:, ~array_columns()].sum(axis=1) for op in plain.ops)
    array = np.sum([reading.energy_pj for reading in trained.readings], axis=(0, 1))
    assert trained.energy_pj - array == pytest.approx(trained.steps * counted)


def test_macs_with_zeros_are_not_discounted_again(metered):
    """Every MAC and idle cycle of the step by the statistics of its op, whatever the machine counts as gated."""
    trained, step = metered
    assert sum(trained.gated_macs) > 0
    assert (trained.cost.gated_pj == 0).all()
    machine, rng = trained.machine, np.random.default_rng(5)
    shape, prices = PeShape.of(HW), trained.meter.prices
    ops = [op for op in trained.step.ops if op.phase is not Phase.UPDATE]
    reading = trained.meter.read(machine, ops, np.random.default_rng(5))
    expected = dict.fromkeys(MODEL_PHASES, 0.0)
    counts = {op.name: op.actions for op in step.ops}
    for op in ops:
        for name, product in products_of(machine, [op]).items():
            assert product.macs == counts[name][MACS] + counts[name][GATED]
            cycle = prices.cycle_pj(operand_statistics(product, shape, rng))
            expected[op.phase.value] += product.macs * cycle.value + counts[name][IDLE] * prices.idle_pj().value
    assert reading.energy_pj[:, 0] == pytest.approx(list(expected.values()))


def test_operands_are_measured_in_every_sixteenth_step(metered):
    trained, _ = metered
    first, *held = trained.readings[:EVERY_STEPS]
    assert all(reading is first for reading in held)
    second = trained.readings[EVERY_STEPS]
    assert second is trained.readings[-1]
    assert (second.statistics != first.statistics).all()
    assert (second.energy_pj != first.energy_pj).all()


def test_what_was_measured_goes_on_after_a_checkpoint(metered):
    whole, _ = metered
    begun, _ = training()
    run(begun, 5)
    resumed, _ = training()
    resumed.resume(begun.checkpoint())
    run(resumed, whole.steps)
    assert (resumed.energy_by_step_pj() == whole.energy_by_step_pj()).all()
    plain, _ = training(metered=False)
    with pytest.raises(HwsimError) as error:
        plain.resume(begun.checkpoint())
    assert str(error.value).startswith("the checkpoint has data_model ")


def test_a_product_is_what_the_machine_computed():
    """Every measured op of the CNN, padding and turned kernels too: its product is its output but for rounding."""
    hw, graph = load_accelerator("edge-8x8-bf16"), build("digits-cnn", 32)
    step = simulate(graph, hw)
    trained = run(Training(graph, hw, digits().shaped((8, 8, 1)), cost=step_cost(step)), 1)
    machine = trained.machine
    machine.run([op for op in trained.step.ops if op.phase is not Phase.UPDATE])
    macs, seen = {op.name: op.macs for op in step.ops}, set()
    for op in trained.step.ops:
        for name, product in products_of(machine, [op]).items():
            assert product.macs == macs[name]
            whole = product.a @ product.b
            if op.phase is Phase.FORWARD and len(op.inputs) > 2:
                whole = whole + machine.read(op.inputs[2])
            found = machine.read(op.outputs[0]).reshape(whole.shape)
            assert found == pytest.approx(whole, rel=0.01, abs=0.01 * float(np.abs(whole).max())), name
            seen.add(op.kind)
    assert seen == {"linear", "linear_dgrad", "linear_wgrad", "conv2d", "conv2d_dgrad", "conv2d_wgrad"}


def test_zeros_are_those_that_the_machine_counts():
    """The machine counts MACs with a zero operand one by one; the share among 64 · 128 MACs is close to it."""
    trained, _ = training("digits-cnn")
    run(trained, 1)
    ops = [op for op in trained.step.ops if op.phase is not Phase.UPDATE]
    rng, shape = np.random.default_rng(2), PeShape.of(HW)
    for counted, op in zip(trained.machine.run(ops), ops, strict=True):
        for product in products_of(trained.machine, [op]).values():
            zeros = np.mean([operand_statistics(product, shape, rng)[-1] for _ in range(8)])
            assert zeros == pytest.approx(counted.gated_macs / counted.macs, abs=0.02), op.name


def test_an_op_that_is_not_measured_counts_with_its_phase():
    trained, step = training("digits-resnet")
    assert 0.5 < trained.meter.measured_share(trained.step) < 1
    strided = {op.name for op in trained.step.ops if op.kind.startswith("conv2d") and not is_measured(op)}
    assert strided
    found = {name: np.array([1.0, 1, 4, 5, 0.5]) for name in trained.meter._actions["forward"] if name not in strided}
    reading = trained.meter.reading(found)
    cycle, idle = trained.meter.prices.cycle_pj(np.array([1.0, 1, 4, 5, 0.5])), trained.meter.prices.idle_pj()
    forward = [op for op in step.ops if op.phase is Phase.FORWARD]
    expected = sum(op.macs * cycle.value + op.actions[IDLE] * idle.value for op in forward)
    assert reading.energy_pj[0, 0] == pytest.approx(expected)
    # of the other phases nothing was measured: they count as the model's own training
    for i, phase in enumerate(("dgrad", "wgrad"), 1):
        cycle = trained.meter.prices.cycle_pj(MODEL.statistics[phase].array)
        ops = [op for op in step.ops if op.phase.value == phase]
        expected = sum(op.macs * cycle.value + op.actions[IDLE] * idle.value for op in ops)
        assert reading.energy_pj[i, 0] == pytest.approx(expected)


@pytest.mark.parametrize("apart", [False, True])
def test_the_array_is_priced_once(apart):
    graph = build("digits-mlp", 32)
    step = simulate(graph, HW)
    meter = None if apart else ArrayMeter(step, MODEL)
    with pytest.raises(HwsimError) as error:
        Training(graph, HW, digits().shaped((64,)), cost=step_cost(step, array_apart=apart), meter=meter)
    assert str(error.value) == (
        "digits-mlp: the array is priced by the cost of a step or by a meter, by one of them; take "
        "step_cost(…, array_apart=True) with a meter and with nothing else"
    )


def test_another_pe_is_refused():
    hw = load_accelerator("edge-8x8-bf16")
    with pytest.raises(HwsimError, match="edge-8x8-bf16: its PE has bf16 operands"):
        ArrayMeter(simulate(build("digits-mlp", 32), hw), MODEL)


def test_recomputation_and_a_model_of_data_exclude_each_other():
    step = simulate(build("digits-cnn", 32), HW, precision="int8-nearest", recompute="cheap")
    with pytest.raises(HwsimError) as error:
        ArrayMeter(step, MODEL, TABLE)
    assert str(error.value) == (
        "a model of data prices a training that computes nothing again; leave out --recompute, or --data-model"
    )


def test_a_step_prices_what_is_computed_again_by_the_data_of_forward():
    plain = simulate(build("digits-resnet", 32), HW, precision="int8-nearest", recompute="sqrt")
    by_data = simulate(build("digits-resnet", 32), HW, precision="int8-nearest", recompute="sqrt", data_model=MODEL)
    again = [op for op in by_data.ops if op.phase is Phase.RECOMPUTE and op.macs]
    assert again
    for op in again:
        original = next(o for o in by_data.ops if o.name == op.name.removesuffix(".again"))
        assert (op.energy[:, array_columns()] == original.energy[:, array_columns()]).all()
        assert (op.energy != next(o for o in plain.ops if o.name == op.name).energy).any()
