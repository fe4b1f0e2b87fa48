"""Does every tensor get the format and rounding of its role, and is every other wish refused well?"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.errors import HwsimError
from hwsim.hardware import FORMAT_BITS, Accelerator, load_accelerator
from hwsim.mapping import plan_key
from hwsim.mapping.layout import element_bytes, format_of, stored_bytes
from hwsim.simulate import simulate
from hwsim.workload import (
    PRECISIONS,
    Graph,
    Network,
    Precision,
    Role,
    default_precision,
    precision_of,
    training_graph,
    with_precision,
)

OPERAND_FORMATS = ("int8", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "fp32")
FIELDS = ", ".join(field.name for field in fields(Precision))
#: Of each role with a format of its own in a precision, the field that says it.
FIELD_OF = {
    Role.WEIGHT: "weights",
    Role.ACTIVATION: "activations",
    Role.INPUT: "activations",
    Role.GRADIENT: "gradients",
    Role.STATE: "state",
}


def network(batch: int = 2, width: int = 4, classes: int = 3, targets: bool = False) -> Graph:
    net = Network("small", batch=batch)
    x = net.input((6, 6, width)).conv2d(width, 3, padding=1, name="conv").batchnorm(name="bn").relu()
    x = (x + x).flatten().linear(classes, name="fc")
    return x.mean_squared_error() if targets else x.softmax_cross_entropy()


@st.composite
def precisions(draw: st.DrawFn) -> Precision:
    """Any valid precision."""
    operand = draw(st.sampled_from(("int8", "fp8_e4m3", "bf16", "fp16", "fp32")))
    formats = ("fp8_e4m3", "fp8_e5m2") if operand == "fp8_e4m3" else (operand,)
    chosen = {name: draw(st.sampled_from(formats)) for name in ("weights", "activations", "gradients")}
    chosen["state"] = draw(st.sampled_from(("fp32", "bf16")))
    roundings = {
        f"{name}_rounding": draw(st.sampled_from(("nearest", "stochastic"))) if format_ != "fp32" else "nearest"
        for name, format_ in chosen.items()
    }
    scaling = "tensor" if operand == "int8" else draw(st.sampled_from(("none", "loss")))
    return Precision("drawn", operand, **chosen, **roundings, scaling=scaling, master_weights=draw(st.booleans()))


@settings(max_examples=60, deadline=None)
@given(
    precisions(),
    st.sampled_from(("sgd", "momentum", "adam")),
    st.booleans(),
    st.sampled_from(("edge-8x8-bf16", "gemmini-16x16-int8")),
)
def test_tensors_keep_everything_but_format_and_rounding(
    precision: Precision, optimizer: str, targets: bool, preset: str
) -> None:
    step = training_graph(network(targets=targets), optimizer, precision.master_weights)
    hw = load_accelerator(preset).with_format(precision.operand_format)
    formatted = with_precision(step, precision)
    assert formatted.ops == step.ops
    assert (formatted.name, formatted.batch, list(formatted.tensors)) == (step.name, step.batch, list(step.tensors))
    for name, tensor in formatted.tensors.items():
        assert replace(tensor, format="", rounding="nearest") == step.tensors[name]
        field = FIELD_OF.get(tensor.role, "activations" if targets and tensor.role is Role.LABEL else "")
        by_role = getattr(precision, field) if field else "int32" if tensor.role is Role.LABEL else "fp32"
        assert tensor.format == format_of(tensor, hw) == by_role
        assert element_bytes(tensor, hw) == FORMAT_BITS[by_role] // 8
        by_host = tensor.role in (Role.INPUT, Role.LABEL)
        rounding = getattr(precision, f"{field}_rounding") if field and not by_host else "nearest"
        assert tensor.rounding == rounding
    assert with_precision(formatted, precision) == formatted


@pytest.mark.parametrize("operand_format", OPERAND_FORMATS)
def test_default_precision_stores_as_many_bytes_as_no_precision(operand_format: str) -> None:
    hw = load_accelerator("edge-8x8-bf16").with_format(operand_format)
    precision = default_precision(hw)
    assert hw.with_format(precision.operand_format) is hw
    assert precision.name == ("fp8" if operand_format.startswith("fp8") else operand_format)
    step = training_graph(network(), "adam", precision.master_weights)
    formatted = with_precision(step, precision)
    for name, tensor in step.tensors.items():
        assert stored_bytes(formatted.tensors[name], hw) == stored_bytes(tensor, hw)


def test_precisions_with_a_name() -> None:
    assert list(PRECISIONS) == ["fp32", "bf16", "fp16", "fp8", "int8", "int8-nearest"]
    assert all(name == p.name for name, p in PRECISIONS.items())
    assert [p.master_weights for p in PRECISIONS.values()] == [False, True, True, True, True, True]
    assert [p.scaling for p in PRECISIONS.values()] == ["none", "none", "loss", "loss", "tensor", "tensor"]
    fp8 = PRECISIONS["fp8"]
    assert (fp8.weights, fp8.activations, fp8.gradients) == ("fp8_e4m3", "fp8_e4m3", "fp8_e5m2")
    roundings = {p.name for p in PRECISIONS.values() if "stochastic" in asdict(p).values()}
    assert roundings == {"int8"}
    assert replace(PRECISIONS["int8"], name="bf16-like", state_rounding="stochastic", state="bf16").state == "bf16"
    assert {p.weight_gradients for p in PRECISIONS.values()} == {p.state for p in PRECISIONS.values()} == {"fp32"}


def test_plans_depend_on_format_and_rounding() -> None:
    step = training_graph(network())
    keys = {plan_key(step.ops[0], with_precision(step, PRECISIONS[name])) for name in ("bf16", "int8", "int8-nearest")}
    assert len(keys) == 3


def test_listing_shows_format_and_rounding() -> None:
    step = training_graph(network())
    assert "conv[2×6×6×4]" in step.listing()
    assert "conv[2×6×6×4 bf16]" in with_precision(step, PRECISIONS["bf16"]).listing()
    assert "conv[2×6×6×4 int8 stochastic]" in with_precision(step, PRECISIONS["int8"]).listing()


# ---- refusals of a precision


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bf16", {"name": ""}, "the name of a precision must be a text, not ''; give it one"),
        (
            "bf16",
            {"operand_format": "fp4"},
            "precision 'bf16': operand_format must be int8, fp8_e4m3, bf16, fp16 or fp32, not 'fp4'",
        ),
        (
            "fp8",
            {"operand_format": "fp8_e5m2"},
            "precision 'fp8': operand_format must be int8, fp8_e4m3, bf16, fp16 or fp32, not 'fp8_e5m2'; "
            "an array for fp8_e4m3 decodes it too",
        ),
        (
            "bf16",
            {"weights": "fp16"},
            "precision 'bf16': weights must be bf16, not 'fp16'; that is what an array for bf16 decodes",
        ),
        (
            "fp8",
            {"activations": "bf16"},
            "precision 'fp8': activations must be fp8_e4m3 or fp8_e5m2, not 'bf16'; "
            "that is what an array for fp8_e4m3 decodes",
        ),
        (
            "int8",
            {"gradients": "int16"},
            "precision 'int8': gradients must be int8, not 'int16'; that is what an array for int8 decodes",
        ),
        ("bf16", {"weight_gradients": "bf16"}, "precision 'bf16': weight_gradients must be fp32, not 'bf16'"),
        ("bf16", {"state": "int8"}, "precision 'bf16': state must be fp32 or bf16, not 'int8'"),
        (
            "bf16",
            {"gradients_rounding": "up"},
            "precision 'bf16': gradients_rounding must be nearest or stochastic, not 'up'",
        ),
        (
            "bf16",
            {"state_rounding": "stochastic"},
            "precision 'bf16': state_rounding must be nearest, not 'stochastic'; "
            "fp32 state never lose bits when they are stored",
        ),
        ("bf16", {"scaling": "batch"}, "precision 'bf16': scaling must be none, loss or tensor, not 'batch'"),
        (
            "fp16",
            {"scaling": "tensor"},
            "precision 'fp16': scaling must be none or loss, not 'tensor'; one exponent per tensor is for int8",
        ),
        ("bf16", {"master_weights": 1}, "precision 'bf16': master_weights must be true or false, not 1"),
    ],
)
def test_precision_out_of_range_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(HwsimError) as error:
        replace(PRECISIONS[name], **changes)
    assert str(error.value) == message


def test_precision_is_found_by_name_file_or_as_it_is(tmp_path: Path) -> None:
    mine = replace(PRECISIONS["bf16"], name="mine", weights_rounding="stochastic", master_weights=False)
    path = tmp_path / "mine.toml"
    lines = (f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in asdict(mine).items())
    path.write_text("\n".join(lines), "utf-8")
    assert precision_of("bf16") is precision_of(PRECISIONS["bf16"]) is PRECISIONS["bf16"]
    assert precision_of(path) == precision_of(str(path)) == mine
    assert Precision(**asdict(mine)) == mine


SHORT = 'name = "mine"\noperand_format = "bf16"\nweights = "bf16"\nactivations = "bf16"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "'{path}' is not valid TOML: Invalid value (at end of document)"),
        (SHORT, "'{path}': field 'gradients' is missing"),
        (SHORT + "grads = 1", f"'{{path}}': unknown field 'grads'; the fields are {FIELDS}"),
        (
            SHORT + 'gradients = ["bf16"]',
            "'{path}': precision 'mine': gradients must be bf16, not ['bf16']; that is what an array for bf16 decodes",
        ),
    ],
)
def test_files_that_say_no_precision_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(HwsimError) as error:
        precision_of(path)
    assert str(error.value) == message.format(path=path)


def test_unknown_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HwsimError) as error:
        precision_of("fp4")
    assert str(error.value) == (
        "unknown precision 'fp4'; choose one of fp32, bf16, fp16, fp8, int8, int8-nearest, or name a .toml file"
    )
    path = tmp_path / "none.toml"
    with pytest.raises(HwsimError) as error:
        precision_of(path)
    assert str(error.value) == f"cannot read precision '{path}': No such file or directory"
    path.write_bytes(b"\xff")
    with pytest.raises(HwsimError) as error:
        precision_of(path)
    assert str(error.value) == f"cannot read precision '{path}': not UTF-8 text"


# ---- formats of one's own


def with_own(graph: Graph, name: str, **changes: Any) -> Graph:
    return replace(graph, tensors=MappingProxyType({**graph.tensors, name: replace(graph.tensors[name], **changes)}))


def test_formats_of_ones_own_stay() -> None:
    graph = with_own(network(), "fc.weight", format="fp8_e5m2", rounding="stochastic")
    tensors = with_precision(training_graph(with_own(graph, "relu1", format="fp8_e5m2")), PRECISIONS["fp8"]).tensors
    assert (tensors["fc.weight"].format, tensors["fc.weight"].rounding) == ("fp8_e5m2", "stochastic")
    assert tensors["relu1"].format == "fp8_e5m2"
    assert tensors["conv.weight"].format == "fp8_e4m3"
    # No op with MACs reads or writes what the normalisation gives.
    tensors = with_precision(training_graph(with_own(network(), "bn", format="fp32")), PRECISIONS["bf16"]).tensors
    assert (tensors["bn"].format, tensors["conv"].format) == ("fp32", "bf16")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "fc.weight",
            {"format": "fp4"},
            "fc.weight: the format of a tensor of role weight must be one of int8, fp8_e4m3, fp8_e5m2, bf16, fp16, "
            "fp32, not 'fp4'",
        ),
        (
            "bn.gamma",
            {"format": "bf16"},
            "bn.gamma: the format of a tensor of role vector_parameter must be one of fp32, not 'bf16'",
        ),
        (
            "labels",
            {"format": "fp32"},
            "labels: the format of a tensor of role label must be one of int32, not 'fp32'",
        ),
        (
            "fc.weight.velocity",
            {"format": "fp16"},
            "fc.weight.velocity: the format of a tensor of role state must be one of fp32, bf16, not 'fp16'",
        ),
        (
            "bn",
            {"format": "fp32", "rounding": "up"},
            "bn: the rounding of a tensor must be one of nearest, stochastic, not 'up'",
        ),
        (
            "conv",
            {"format": "fp32"},
            "conv: its format must be bf16 where op 'conv' takes it to an array for bf16, not fp32; "
            "change it or the precision, 'bf16'",
        ),
    ],
)
def test_formats_that_do_not_fit_are_refused(name: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(HwsimError) as error:
        with_precision(with_own(training_graph(network()), name, **changes), PRECISIONS["bf16"])
    assert str(error.value) == message


# ---- the accelerator and the simulation


def test_accelerator_with_another_format() -> None:
    hw = load_accelerator("edge-8x8-bf16")
    assert hw.with_format("bf16") is hw
    other = hw.with_format("fp32")
    assert other.name == "edge-8x8-bf16 as fp32"
    assert other.array == hw.array.model_copy(update={"operand_format": "fp32"})
    assert other.model_copy(update={"name": hw.name, "array": hw.array}) == hw
    fp8 = hw.with_format("fp8_e5m2")
    assert fp8.array.operand_format == "fp8_e5m2"
    assert fp8.with_format("fp8_e4m3") is fp8


def test_accelerator_with_a_format_that_does_not_fit_is_refused() -> None:
    hw = load_accelerator("edge-8x8-int8")
    with pytest.raises(HwsimError) as error:
        hw.with_format("fp4")
    assert str(error.value) == (
        "unknown operand format 'fp4'; choose one of int8, fp8_e4m3, fp8_e5m2, bf16, fp16, fp32"
    )
    banks = hw.scratchpad.banks
    small = Accelerator.model_validate({**hw.model_dump(), "scratchpad": {"capacity_bytes": 8 * banks, "banks": banks}})
    with pytest.raises(HwsimError) as error:
        small.with_format("bf16")
    assert str(error.value) == (
        f"'edge-8x8-int8 as bf16': scratchpad.capacity_bytes must give each of the {banks} banks one line of 16 bytes, "
        f"{16 * banks} in all, not {8 * banks}"
    )


def test_step_without_a_precision_is_that_of_the_operand_format() -> None:
    graph = network()
    for name in ("edge-8x8-bf16", "edge-8x8-int8"):
        hw = load_accelerator(name)
        default, chosen = simulate(graph, hw), simulate(graph, hw, precision=hw.array.operand_format)
        assert default.hardware is chosen.hardware is hw
        assert (default.cycles, default.energy_pj) == (chosen.cycles, chosen.energy_pj)


def test_precision_changes_the_array_the_bytes_and_the_masters() -> None:
    graph = network(width=16)  # whole beats in every format
    steps = {name: simulate(graph, "edge-8x8-bf16", precision=name) for name in ("fp32", "bf16", "int8")}
    assert [s.hardware.name for s in steps.values()] == [
        "edge-8x8-bf16 as fp32",
        "edge-8x8-bf16",
        "edge-8x8-bf16 as int8",
    ]
    forward = {name: s.ops[0].dram_bytes for name, s in steps.items()}
    assert forward["fp32"] > forward["bf16"] > forward["int8"]
    held = {name: int(s.memory_bytes["optimizer_state"][0]) for name, s in steps.items()}
    assert held["bf16"] == held["int8"] > held["fp32"]
    narrow = simulate(graph, "edge-8x8-bf16", "adam", replace(PRECISIONS["bf16"], state="bf16"))
    wide = simulate(graph, "edge-8x8-bf16", "adam")
    assert narrow.memory_bytes["optimizer_state"][0] < wide.memory_bytes["optimizer_state"][0]
    assert narrow.macs == wide.macs
