"""The command line: `hwsim step`, `train`, `gemm`, `sweep`, `area`, `synth`, `calibrate`, `cosim` and lists.

Bad input ends with one sentence on stderr and exit code 2, an interrupt with 130. Heavy modules are imported in the
command that needs them, so that help and lists come at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hwsim.errors import HwsimError

if TYPE_CHECKING:
    from rich.console import Console

    from hwsim.hardware import Accelerator
    from hwsim.values import Dataset
    from hwsim.values.checkpoint import Checkpoint
    from hwsim.values.training import Training
    from hwsim.workload import Optimizer
    from hwsim.workload.precision import Precision

__all__ = ["main"]

DEFAULT_HARDWARE = "edge-32x32-bf16"
SYNTH_HARDWARE = "edge-8x8-int8"
RTL_HARDWARE = "edge-8x8-int8"

#: What `train` takes where neither an option nor a checkpoint says it.
TRAIN_DATA, TRAIN_EPOCHS, TRAIN_BATCH, TRAIN_OPTIMIZER, TRAIN_SEED = "digits", 10, 32, "momentum", 1

#: Points of a part of a sweep.
SWEEP_CHUNK = 65_536

# typer keeps the base of its usage errors private; BadParameter → UsageError → ClickException.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Cycles and joules of neural-network training on a systolic accelerator, op by op.",
)


class _CosimGroup(TyperGroup):
    """`hwsim cosim MODEL` is `hwsim cosim step MODEL`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in where none is named."""
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = ["step", *args]
        return super().parse_args(ctx, args)


cosim_app = typer.Typer(
    cls=_CosimGroup,
    help="Run programs or a training on an accelerator's RTL and compare it with the simulator. "
    "`hwsim cosim MODEL` and `hwsim cosim --random N` are `hwsim cosim step …`.",
    subcommand_metavar="[step|train] [MODEL] [OPTIONS]",
)
app.add_typer(cosim_app, name="cosim")


def _count(text: str | int) -> int:
    """Read a whole number of 1 or more."""
    value = int(text) if isinstance(text, int) or (text.isascii() and text.isdigit()) else 0
    if value < 1:
        raise typer.BadParameter(f"it must be a whole number, 1 or more, not '{text}'")
    return value


Model = Annotated[str, typer.Argument(metavar="MODEL", help="Network; `hwsim models` lists them.")]
Batch = Annotated[int, typer.Option("--batch", metavar="N", parser=_count, help="Samples per step.")]
Size = partial(typer.Argument, parser=_count)
Hardware = Annotated[
    str, typer.Option("--hw", metavar="PRESET|FILE.toml", help="Accelerator; `hwsim presets` lists them.")
]
DataflowName = Annotated[
    str | None, typer.Option("--dataflow", metavar="ws|os|is", help="Instead of the accelerator's own.")
]
PrecisionName = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="NAME|FILE.toml",
        help="fp32, bf16, fp16, fp8, int8 or int8-nearest. [default: the accelerator's own]",
    ),
]
OptimizerName = Annotated[
    str, typer.Option("--optimizer", metavar="NAME", help="sgd, momentum, nesterov, adam or adamw.")
]
RecomputePolicy = Annotated[
    str,
    typer.Option(
        "--recompute", metavar="POLICY", help="What the backward pass computes again, not kept: none, cheap or sqrt."
    ),
]
Frozen = Annotated[
    list[str] | None,
    typer.Option("--freeze", metavar="PREFIX", help="Layer or scope that is not trained; may be repeated."),
]
Folder = Annotated[
    str | None, typer.Option("--out", metavar="DIR", help="Write summary, CSV, plots and a trace into this folder.")
]
JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the summary as JSON; - is stdout, alone.")
]
EnergyTableFile = Annotated[
    str | None,
    typer.Option("--energy-table", metavar="FILE.csv", help="Energies over the quoted ones; `hwsim calibrate`."),
]
DataModelFile = Annotated[
    str | None,
    typer.Option(
        "--data-model",
        metavar="FILE.json",
        help="Energy of the array by what its data do; from `hwsim calibrate`.",
    ),
]
Term = Annotated[list[str] | None, typer.Argument(metavar="TERM", help="A word of hwsim's output; none lists them.")]


@app.callback(invoke_without_command=True)
def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def step(
    model: Model,
    hw: Hardware = DEFAULT_HARDWARE,
    batch: Batch = 128,
    optimizer: OptimizerName = "momentum",
    dataflow: DataflowName = None,
    precision: PrecisionName = None,
    recompute: RecomputePolicy = "none",
    freeze: Frozen = None,
    clock_from: Annotated[
        str | None, typer.Option("--clock-from", metavar="SYNTH.json", help="Clock that `hwsim synth --json` found.")
    ] = None,
    energy_table: EnergyTableFile = None,
    data_model: DataModelFile = None,
    out: Folder = None,
    json: JsonFile = None,
) -> None:
    """Simulate one training step of a network."""
    accelerator = _accelerator(hw, dataflow)
    if clock_from is not None:
        from hwsim.report.synthesis import with_clock_of

        accelerator = with_clock_of(accelerator, Path(clock_from))
    from hwsim.workload import precision_of
    from hwsim_models import build

    formats = None if precision is None else precision_of(precision)
    graph = build(model, batch)
    if freeze:
        from hwsim.workload import freeze as frozen

        graph = frozen(graph, freeze)
    _check_optimizer(optimizer)
    from hwsim.workload import check_recompute

    check_recompute(recompute)
    _check_outputs(out, json)
    from hwsim.energy import load_energy_table
    from hwsim.energy.data_model import load_data_model
    from hwsim.report.summary import step_summary
    from hwsim.simulate import simulate

    table = None if energy_table is None else load_energy_table(energy_table)
    model_of_data = None if data_model is None else load_data_model(data_model)
    _say_if_compiling()
    result = simulate(
        graph,
        accelerator,
        optimizer=optimizer,
        precision=formats,
        energy_table=table,
        data_model=model_of_data,
        recompute=recompute,
    )
    written: tuple[Path, ...] = ()
    if out is not None:
        from hwsim.report.files import write_all
        from hwsim.simulate import spans

        written = write_all(result, Path(out), spans)
    from hwsim.report.energies import data_beside, energies_beside, print_data, print_energies
    from hwsim.report.tables import print_step

    beside = {} if table is None else {"energy_tables": energies_beside(result, table)}
    if model_of_data is not None:
        beside["data_model"] = data_beside(result, model_of_data, table)

    def tables(console: Console) -> None:
        print_step(result, console)
        for name, show in (("energy_tables", print_energies), ("data_model", print_data)):
            if name in beside:
                show(beside[name], console)

    _give(json, lambda: {**step_summary(result), **beside}, tables)
    if written and json != "-":
        typer.echo(f"\nWrote {', '.join(path.name for path in written)} into {out}")


@app.command()
def train(
    model: Model,
    data: Annotated[
        str | None, typer.Option("--data", metavar="digits|cifar10:FOLDER", help=f"Samples. [default: {TRAIN_DATA}]")
    ] = None,
    hw: Annotated[
        str | None,
        typer.Option("--hw", metavar="PRESET|FILE.toml", help=f"Accelerator. [default: {DEFAULT_HARDWARE}]"),
    ] = None,
    dataflow: DataflowName = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", parser=_count, help=f"Epochs in all. [default: {TRAIN_EPOCHS}]"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", metavar="N", parser=_count, help=f"Samples per step. [default: {TRAIN_BATCH}]"),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            "--optimizer",
            metavar="NAME",
            help=f"sgd, momentum, nesterov, adam or adamw. [default: {TRAIN_OPTIMIZER}]",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="X", help="Instead of the optimizer's own.")
    ] = None,
    precision: PrecisionName = None,
    recompute: Annotated[
        str | None,
        typer.Option(
            "--recompute",
            metavar="POLICY",
            help="What the backward pass computes again, not kept: none, cheap or sqrt. [default: none]",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help=f"Of all that is random. [default: {TRAIN_SEED}]")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Write summary, CSV, curve and checkpoint there.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="DIR", help="Continue from this folder; its options need not be repeated."),
    ] = None,
    until_accuracy: Annotated[
        float | None,
        typer.Option("--until-accuracy", metavar="PERCENT", help="End after the epoch that reaches it in the test."),
    ] = None,
    energy_table: EnergyTableFile = None,
    data_model: DataModelFile = None,
    json: JsonFile = None,
) -> None:
    """Train a network, every number computed as the accelerator computes it.

    Ctrl-C ends it after the step under way and writes a checkpoint; --resume continues bit by bit as if it had not
    been ended.
    """
    if until_accuracy is not None and not 0 < until_accuracy <= 100:
        raise HwsimError(f"--until-accuracy must be above 0 and at most 100 percent; it is {until_accuracy:g}")
    for name, place in (("--out", out), ("--resume", resume)):
        if place == "":
            raise HwsimError(f"{name} must name a folder; it is empty")
    _check_outputs(None, json)
    from hwsim.report.training import (
        CHECKPOINT,
        TrainingDisplay,
        check_training_folder,
        reached,
        training_summary,
        write_training,
    )
    from hwsim.values.checkpoint import load, save
    from hwsim.values.training import TrainingError

    saved = None if resume is None else load(Path(resume) / CHECKPOINT)
    kept = {} if saved is None else saved.command
    data, epochs = data or kept.get("data", TRAIN_DATA), epochs or kept.get("epochs", TRAIN_EPOCHS)
    until_accuracy = kept.get("until_accuracy") if until_accuracy is None else until_accuracy
    folder = resume if out is None else out
    if folder is not None:
        if folder != resume and (Path(folder) / CHECKPOINT).exists():
            raise HwsimError(
                f"'{folder}' holds a training already; continue it with --resume {quote(folder)}, or name another "
                "folder"
            )
        check_training_folder(Path(folder))
    files = {
        name: kept.get(name) if file is None else str(Path(file).resolve())
        for name, file in (("energy_table", energy_table), ("data_model", data_model))
    }
    training = _training(
        saved, model, data, hw, dataflow, batch, optimizer, learning_rate, precision, recompute, seed, **files
    )
    if len(training.records) > epochs:
        raise HwsimError(f"--epochs is how many there are in all; the checkpoint has {len(training.records)}")

    def keep(place: Path) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        command = {"data": _lasting(data), "epochs": epochs, "until_accuracy": until_accuracy, **files}
        save(place / CHECKPOINT, training.checkpoint(command))
        if training.records:
            write_training(training, place, training_summary(training, until_accuracy))
        return place / CHECKPOINT

    # What a user would lose is kept even where no folder was named.
    rescue = Path(folder) if folder else _new_folder(f"hwsim-{training.step.name}")
    console = _console(stderr=json == "-")
    with _Interrupts() as interrupts, TrainingDisplay(training, epochs, console) as display:
        while len(training.records) < epochs and not reached(training, until_accuracy):
            try:
                record = training.train_epoch(interrupts.came, display.step)
            except TrainingError as stopped:
                raise HwsimError(f"{stopped}; the state before it is in {keep(rescue)}") from None
            if record is None:
                keep(rescue)
                raise _InterruptedError(
                    f"interrupted after step {training.steps:,}, in epoch {len(training.records) + 1} of {epochs}; "
                    f"continue with: hwsim train {quote(model)} --resume {quote(str(rescue))}"
                )
            display.epoch(record)
            if folder is not None:
                keep(Path(folder))
    _give_training(training, folder, until_accuracy, json, console)


@app.command()
def gemm(
    m: Annotated[int, Size(metavar="M", help="Rows of A and of the result.")],
    k: Annotated[int, Size(metavar="K", help="Columns of A, rows of B: the reduction.")],
    n: Annotated[int, Size(metavar="N", help="Columns of B and of the result.")],
    hw: Hardware = DEFAULT_HARDWARE,
    dataflow: DataflowName = None,
    transpose_a: Annotated[bool, typer.Option("--transpose-a", help="A is stored as (k, m).")] = False,
    transpose_b: Annotated[bool, typer.Option("--transpose-b", help="B is stored as (n, k).")] = False,
    json: JsonFile = None,
) -> None:
    """Simulate one matrix product, (m, k) × (k, n) → (m, n)."""
    accelerator = _accelerator(hw, dataflow)
    _check_outputs(None, json)
    from hwsim.report.summary import gemm_summary
    from hwsim.report.tables import print_gemm
    from hwsim.simulate import gemm as simulate_gemm

    _say_if_compiling()
    result = simulate_gemm(m, k, n, accelerator, transpose_a=transpose_a, transpose_b=transpose_b)
    _give(json, lambda: gemm_summary(result), lambda console: print_gemm(result, console))


@app.command()
def area(
    hw: Hardware = DEFAULT_HARDWARE,
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Also what it takes of an FPGA: ecp5-85k.")
    ] = None,
    area_table: Annotated[
        str | None, typer.Option("--area-table", metavar="FILE.csv", help="Areas of cells over the package's.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Estimate an accelerator's area at its node, part by part, and what it takes of an FPGA."""
    accelerator = _accelerator(hw, None)
    _check_outputs(None, json)
    from hwsim.area import area_list, fpga, load_area_table
    from hwsim.report.area import area_summary, print_area

    areas = area_list(accelerator, load_area_table(area_table))
    cells = None if target is None else fpga(accelerator, target)
    _give(
        json,
        lambda: area_summary(accelerator, areas, cells),
        lambda console: print_area(accelerator, areas, cells, console),
    )


@app.command()
def synth(
    hw: Annotated[
        str, typer.Option("--hw", metavar="PRESET|FILE.toml", help="Accelerator; `hwsim presets` lists them.")
    ] = SYNTH_HARDWARE,
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="ecp5-85k, ice40, xilinx-7 or asic-generic.")
    ] = "ecp5-85k",
    part: Annotated[
        str,
        typer.Option("--part", metavar="NAME", help="machine, or a part of it alone: array, pe, control, load, …"),
    ] = "machine",
    speed_grade: Annotated[
        str | None,
        typer.Option("--speed-grade", metavar="N", help="Of an ECP5: 6 (the slowest, default), 7, 8, or 8-5G."),
    ] = None,
    path_ps: Annotated[
        int | None,
        typer.Option("--path-ps", metavar="N", min=1, help="Save an ECP5's LUTs where Yosys' paths are shorter [ps]."),
    ] = None,
    goal_mhz: Annotated[
        float | None,
        typer.Option("--goal-mhz", metavar="MHZ", min=1, help="Clock that nextpnr works towards; it stops there."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the placement.")] = 1,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Copy the Verilog and the tools' logs and reports there.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Synthesise an accelerator's RTL with Yosys and nextpnr: what it takes of a device, and how fast it gets."""
    accelerator = _accelerator(hw, None)
    _check_outputs(out, json)
    _check_amaranth("synth")
    import shutil

    from hwsim.report.files import json_text
    from hwsim.report.synthesis import SYNTH_SCHEMA, print_synthesis
    from hwsim_rtl.synth import synthesize

    def say(text: str) -> None:
        print(f"hwsim: {text}", file=sys.stderr, flush=True)

    found, folder = synthesize(
        accelerator, target, _cache_folder("synthesis"), part=part, seed=seed, speed_grade=speed_grade,
        path_ps=path_ps, goal_mhz=goal_mhz, say=say,
    )  # fmt: skip
    summary = {"schema": SYNTH_SCHEMA, **found}
    if out is not None:
        shutil.copytree(folder, out, dirs_exist_ok=True)
        (Path(out) / "summary.json").write_text(json_text(summary), "utf-8")
    _give(json, lambda: summary, lambda console: print_synthesis(summary, console))


@app.command()
def calibrate(
    hw: Annotated[
        str, typer.Option("--hw", metavar="PRESET|FILE.toml", help="Accelerator; `hwsim presets` lists them.")
    ] = RTL_HARDWARE,
    dataflow: DataflowName = None,
    precision: PrecisionName = None,
    liberty: Annotated[
        str | None,
        typer.Option("--liberty", metavar="FILE", help="Cell library. [default: that of qflow-tech-osu018, 180 nm]"),
    ] = None,
    node: Annotated[
        float | None, typer.Option("--node", metavar="NM", min=3, max=250, help="Node of the cell library given.")
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=1, max=44, help="Steps of training before operands are taken.")
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of all that is random.")] = 1,
    control: Annotated[
        bool,
        typer.Option("--control", help="Measure the control too; needs Verilator, takes long."),
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Write the energy table, the model of data and the summary there."),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Measure an accelerator's RTL at its gates, on operands of real training: an energy table, and a model of data."""
    accelerator = _accelerator(hw, dataflow)
    _check_outputs(out, json)
    _check_amaranth("calibrate")
    from hwsim.report.calibration import print_calibration, write_calibration
    from hwsim.workload import default_precision, precision_of
    from hwsim_models import build
    from hwsim_rtl.power import calibrate as measure
    from hwsim_rtl.power import data_model, find_library, recorded_products, table_text

    formats = default_precision(accelerator) if precision is None else precision_of(precision)
    accelerator = accelerator.with_format(formats.operand_format)
    cells = find_library(liberty, node)
    data = _dataset("digits")

    def say(text: str) -> None:
        print(f"hwsim: {text}", file=sys.stderr, flush=True)

    say(f"training digits-mlp and digits-cnn for {steps} steps in {formats.name}")
    fitted, held_out = (
        recorded_products(build(name, 32), accelerator, data, formats, steps=steps, seed=seed)
        for name in ("digits-mlp", "digits-cnn")
    )
    summary = measure(accelerator, cells, fitted, held_out, _cache_folder("gates"), seed=seed, say=say)
    summary = {**summary, "precision": formats.name, "steps": steps}
    if control:
        from hwsim_rtl.cosim import step_program
        from hwsim_rtl.power import calibrate_control

        program = step_program(build("digits-mlp", 32), accelerator, formats, seed=seed)
        folders = _cache_folder("gates"), _cache_folder("models")
        summary["control"] = calibrate_control(accelerator, cells, program, *folders, say)
    if out is not None:
        write_calibration(summary, table_text(summary), data_model(summary), Path(out))
    _give(json, lambda: summary, lambda console: print_calibration(summary, console))


@app.command()
def emit(
    out: Annotated[str, typer.Option("-o", "--out", metavar="DIR", help="Folder for the files; made if missing.")],
    hw: Annotated[
        str, typer.Option("--hw", metavar="PRESET|FILE.toml", help="Accelerator; `hwsim presets` lists them.")
    ] = RTL_HARDWARE,
    dataflow: DataflowName = None,
    json: JsonFile = None,
) -> None:
    """Write an accelerator's Verilog, memory map, file list and a test bench that any Verilog simulator runs."""
    accelerator = _accelerator(hw, dataflow)
    _check_outputs(out, json)
    _check_amaranth("emit")
    from hwsim.report.lists import print_list
    from hwsim_rtl.design import FILES, write_design

    written = write_design(Path(out), accelerator)
    rows = [(str(path), f"{path.stat().st_size:,} bytes", FILES.get(path.suffix, "")) for path in written]
    summary = {"accelerator": accelerator.name, "files": [str(path) for path in written]}
    _give(json, lambda: summary, lambda console: print_list(("file", "size", "what it is"), rows, console))


@cosim_app.command("step")
def cosim(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL|PROGRAM.npz", help="Network of which one training step is run, or a program that was saved."
        ),
    ] = None,
    hw: Annotated[
        str | None,
        typer.Option("--hw", metavar="PRESET|FILE.toml", help=f"Accelerator. [default: {RTL_HARDWARE}]"),
    ] = None,
    random: Annotated[
        int | None, typer.Option("--random", metavar="N", parser=_count, help="Run N random programs instead.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of all that is random.")] = 1,
    batch: Batch = 4,
    optimizer: OptimizerName = "momentum",
    loss: Annotated[
        str | None, typer.Option("--loss", metavar="mse", help="Mean squared error instead of the network's loss.")
    ] = None,
    dataflow: DataflowName = None,
    precision: PrecisionName = None,
    recompute: RecomputePolicy = "none",
    random_memory: Annotated[
        bool, typer.Option("--random-memory", help="Random latencies and back-pressure; then memory alone is compared.")
    ] = False,
    waves: Annotated[str | None, typer.Option("--waves", metavar="FILE", help="Write a VCD of the simulation.")] = None,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="DIR", help="Write the programs there, each to be run again by name."),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Run one training step, or random programs, on the RTL: memory, starts and ends of commands are compared.

    Exit code 1: something differs.
    """
    if (model is None) == (random is None):
        raise HwsimError("cosim: name a network or a program's file, or give --random N")
    if loss not in (None, "mse"):
        raise HwsimError(f"--loss must be mse; it is '{loss}'")
    saved = model is not None and model.endswith(".npz")
    from hwsim.workload import check_recompute

    check_recompute(recompute)
    if recompute != "none" and (model is None or saved):
        raise HwsimError("cosim: --recompute is for the training step of a network; leave it out, or name one")
    if saved and (hw, dataflow, precision, loss) != (None, None, None, None):
        raise HwsimError(f"cosim: '{model}' holds its machine; leave --hw, --dataflow, --precision and --loss out")
    accelerator = _accelerator(hw or RTL_HARDWARE, dataflow)
    _check_optimizer(optimizer)
    if save == "":
        raise HwsimError("--save must name a folder; it is empty")
    _check_outputs(save, json)
    if waves is not None:
        from hwsim.report.files import check_file

        check_file(Path(waves))
    _check_amaranth("cosim")
    from hwsim.report.cosimulation import cosim_summary, print_cosim
    from hwsim.workload import default_precision, precision_of, with_squared_error
    from hwsim_models import build
    from hwsim_rtl.cosim import cosimulate, load_program, random_programs, save_program, step_program

    if saved:
        program, accelerator = load_program(Path(model or ""))
        programs = [program]
    elif random is not None:
        programs = random_programs(accelerator, random, seed)
    else:
        formats = default_precision(accelerator) if precision is None else precision_of(precision)
        accelerator = accelerator.with_format(formats.operand_format)
        graph = build(model or "", batch)
        graph = with_squared_error(graph) if loss else graph
        programs = [step_program(graph, accelerator, formats, optimizer=optimizer, seed=seed, recompute=recompute)]
    if save is not None:
        for number, program in enumerate(programs, 1):
            save_program(Path(save) / f"program-{number}.npz", program, accelerator)
    slack = 2 * accelerator.dram.latency_cycles if random_memory else 0
    results = cosimulate(
        accelerator, programs, _cache_folder("models"), slack=slack, seed=seed, waves=Path(waves) if waves else None
    )
    summary = cosim_summary(accelerator.name, results, not random_memory)
    _give(json, lambda: summary, lambda console: print_cosim(summary, console))
    if summary["mismatches"]:
        raise typer.Exit(1)


@cosim_app.command("train")
def cosim_train(
    model: Model,
    data: Annotated[str, typer.Option("--data", metavar="digits|cifar10:FOLDER", help="Samples.")] = TRAIN_DATA,
    hw: Annotated[
        str, typer.Option("--hw", metavar="PRESET|FILE.toml", help="Accelerator; `hwsim presets` lists them.")
    ] = RTL_HARDWARE,
    dataflow: DataflowName = None,
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", parser=_count, help="Most epochs.")] = 1,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", parser=_count, help="Most steps.")] = None,
    batch: Batch = TRAIN_BATCH,
    optimizer: OptimizerName = TRAIN_OPTIMIZER,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="X", help="Instead of the optimizer's own.")
    ] = None,
    precision: PrecisionName = None,
    recompute: RecomputePolicy = "none",
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of all that is random.")] = TRAIN_SEED,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Write summary, steps and curve into this folder.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Train a network on the RTL and on the simulator, and compare them after every step.

    The host writes parameters once, then inputs, labels and programs. It ends after the first step that differs, with
    exit code 1; Ctrl-C ends it after the step under way.
    """
    _check_outputs(out, json)
    _check_optimizer(optimizer)
    from hwsim.workload import check_recompute

    check_recompute(recompute)
    _check_amaranth("cosim")
    from hwsim.report.cosimulation import (
        COSIM_TRAIN_FILES,
        CosimTrainingDisplay,
        check_cosim_folder,
        cosim_training_summary,
        write_cosim_training,
    )
    from hwsim.simulate import simulate
    from hwsim.values.training import TrainingError, step_cost
    from hwsim.workload import OPTIMIZERS, default_precision, precision_of
    from hwsim_models import build
    from hwsim_rtl.cosim import CosimTraining

    if out is not None:
        check_cosim_folder(Path(out))
    accelerator, graph = _accelerator(hw, dataflow), build(model, batch)
    chosen = OPTIMIZERS[optimizer](**({} if learning_rate is None else {"learning_rate": learning_rate}))
    formats = default_precision(accelerator) if precision is None else precision_of(precision)
    samples = _dataset(data).shaped(graph.tensors["input"].shape[1:])
    _say_if_compiling()
    cost = step_cost(simulate(graph, accelerator, optimizer=chosen, precision=formats, recompute=recompute))
    console = _console(stderr=json == "-")
    with (
        CosimTraining(
            graph, accelerator, samples, cost=cost, cache=_cache_folder("models"), optimizer=chosen, precision=formats,
            recompute=recompute, seed=seed,
        ) as trained,
        _Interrupts() as interrupts,
    ):  # fmt: skip
        asked = epochs * trained.training.steps_per_epoch
        asked = asked if steps is None else min(asked, steps)
        with CosimTrainingDisplay(trained, asked, console) as display:
            try:
                trained.run(epochs, steps, stop=interrupts.came, on_step=display.step)
            except TrainingError as stopped:
                raise HwsimError(str(stopped)) from None
    display.result()
    if out is not None:
        write_cosim_training(trained, Path(out))
        console.print(f"\nWrote {', '.join(COSIM_TRAIN_FILES)} into {out}", soft_wrap=True)
    _give(json, lambda: cosim_training_summary(trained), lambda _: None)
    if trained.mismatches:
        raise typer.Exit(1)
    if len(trained.steps) < asked:
        raise _InterruptedError(f"interrupted after step {len(trained.steps):,} of {asked:,}; those before are equal")


@app.command()
def sweep(
    space: Annotated[str, typer.Argument(metavar="SPACE.toml", help="Knobs, workloads, constraints, objectives.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Write parts, front, pictures and page there.")],
    search: Annotated[
        str, typer.Option("--search", metavar="NAME", help="grid, random, nsga2, nsga3, tpe or qmc.")
    ] = "grid",
    points: Annotated[
        int | None, typer.Option("--points", metavar="N", parser=_count, help="Points of a search but the grid.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of what is drawn.")] = 1,
    chunk: Annotated[int, typer.Option("--chunk", metavar="N", parser=_count, help="Points of a part.")] = SWEEP_CHUNK,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", parser=_count, help="Processes. [default: one per core]"),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="tcp://…", help="Running Dask scheduler, instead of processes.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in --out.")] = False,
    energy_table: Annotated[
        str | None,
        typer.Option("--energy-table", metavar="FILE.csv", help="Energies over the quoted ones; `hwsim calibrate`."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="DIR", help="Grid sweep of the same space: how good is this front?"),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the whole table as points.csv, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the space, estimate the time, and end.")] = False,
    json: JsonFile = None,
) -> None:
    """Evaluate every point of a design space, exactly, and show the front.

    Ctrl-C loses at most the chunks in flight; --resume goes on.
    """
    for module in ("distributed", "moocore", "optuna", "pyarrow", "scipy"):
        if find_spec(module) is None:
            raise HwsimError(f"a sweep needs {module}, which is missing; install it: pip install 'hwsim[sweep]'")
    if out == "":
        raise HwsimError("--out must name a folder; it is empty")
    _check_outputs(None, json)
    from hwsim.energy import load_energy_table
    from hwsim.explore import Plan, analyse, check_folder, estimate_seconds, load_space, parts_of, quality, run_sweep
    from hwsim.report.sweep import print_space, print_sweep, sweep_summary, write_points, write_sweep
    from hwsim_models import build

    described = load_space(space)
    table = None if energy_table is None else load_energy_table(energy_table)
    plan = Plan(search, points, seed, chunk)
    if against is not None and not parts_of(Path(against)):
        raise HwsimError(f"--against names a folder without a sweep, '{against}'; sweep the grid into it first")
    if not dry_run:
        check_folder(described, Path(out), plan, table, resume)
    console = _console(stderr=json == "-")
    print_space(described, console)
    _say_if_compiling()
    count = workers or os.cpu_count() or 1
    console.print(estimate_seconds(described, build, plan, count, table).sentence(), soft_wrap=True)
    if dry_run:
        return
    from hwsim.report.progress import SweepDisplay

    where: dict[str, Any] = {"workers": workers, "scheduler": scheduler, "resume": resume, "energy_table": table}
    try:
        with SweepDisplay(_console(stderr=True)) as display:
            parts = run_sweep(described, Path(out), build, plan, progress=display, **where)
    except KeyboardInterrupt:
        given = {
            "--search": search,
            "--points": points,
            "--seed": seed,
            "--chunk": chunk,
            "--energy-table": energy_table,
        }
        options = [f"{name} {quote(str(value))}" for name, value in given.items() if value is not None]
        command = " ".join(["hwsim sweep", quote(space), "--out", quote(out), *options, "--resume"])
        raise _InterruptedError(f"interrupted; go on: {command}") from None
    found = analyse(described, parts)
    notes = {"Search": plan.sentence(described), "Digest": described.digest[:16]}
    reached = None
    if against is not None:
        reached = quality(described, found, Path(against))
        notes["Hypervolume"] = f"{reached:.1%} of that of the exhaustive front"
    written = write_sweep(described, found, Path(out), notes)
    if csv:
        written = (*written, write_points(parts, Path(out) / "points.csv"))
    summary = {**sweep_summary(described, found, written), "hypervolume_ratio": reached}

    def tables(console: Console) -> None:
        print_sweep(described, found, console)
        if reached is not None:
            console.print(f"\nHypervolume: {reached:.2%} of that of the exhaustive front in {against}")
        console.print(f"\nWrote {', '.join(path.name for path in written)} into {out}", soft_wrap=True)

    _give(json, lambda: summary, tables)


@app.command()
def models() -> None:
    """List the networks."""
    from hwsim.report.lists import print_list
    from hwsim_models import MODELS

    print_list(("model", "what it is"), [(info.name, info.description) for info in MODELS.values()], _console())


@app.command()
def presets() -> None:
    """List the accelerators that come with hwsim."""
    from hwsim.hardware import load_accelerator, preset_names
    from hwsim.report.lists import print_presets

    print_presets([load_accelerator(name) for name in preset_names()], _console())


@app.command()
def explain(term: Term = None) -> None:
    """Say what a term, op kind, action, stall cause, JSON key or unit means."""
    from hwsim.explain import explain as meanings
    from hwsim.report.lists import print_meanings, print_terms

    if term:
        print_meanings(meanings(" ".join(term)), _console())
    else:
        print_terms(_console())


def _say_if_compiling() -> None:
    """Say why the very first run takes longer."""
    from hwsim.mapping import kernels_are_compiled

    if not kernels_are_compiled():
        print("hwsim: compiling its kernels, once; this takes about half a minute", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of the process unless given.
    """
    if arguments is None and hasattr(signal, "SIGPIPE"):
        # A reader that has seen enough (`hwsim models | head -1`) ends the process in silence, as any Unix tool.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × or … still gets its tables
    try:
        code = app(arguments, prog_name="hwsim", standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as error:
        return _refuse(_usage_sentence(error))
    except HwsimError as error:
        return _refuse(str(error))
    except OverflowError:
        return _refuse("the sizes are too large to be counted in 64 bits; choose smaller ones")
    except OSError as error:
        return _refuse(_system_sentence(error))
    except _InterruptedError as interrupted:
        print(f"hwsim: {interrupted}", file=sys.stderr)
        return 130
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        print("hwsim: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


class _InterruptedError(Exception):
    """Training was ended by an interrupt, in order; the message says how to continue."""


class _Interrupts:
    """Remember a Ctrl-C instead of dying of it; a second one interrupts as usual."""

    def __init__(self) -> None:
        self._came = False

    def __enter__(self) -> _Interrupts:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def came(self) -> bool:
        """Say whether there was one."""
        return self._came

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        signal.signal(signal.SIGINT, self._before)


def _training(
    saved: Checkpoint | None,
    model: str,
    data: str,
    hw: str | None,
    dataflow: str | None,
    batch: int | None,
    optimizer: str | None,
    learning_rate: float | None,
    precision: str | None,
    recompute: str | None,
    seed: int | None,
    energy_table: str | None,
    data_model: str | None,
) -> Training:
    """Make a training from options, from a checkpoint where they are missing, and else from defaults."""
    from hwsim_models import build

    config: dict[str, Any] = {} if saved is None else saved.config
    if config:
        _check_origin(config, model)
    graph = build(model, batch or config.get("batch", TRAIN_BATCH))
    try:
        accelerator = _train_accelerator(hw, dataflow, config)
        chosen = _train_optimizer(optimizer, learning_rate, config)
        formats = _train_precision(precision, accelerator, config)
    except HwsimError:
        raise
    except (KeyError, TypeError, ValueError):
        raise HwsimError("the checkpoint's configuration is not one of this hwsim; begin anew") from None
    policy = recompute or config.get("recompute", "none")
    from hwsim.workload import check_recompute

    check_recompute(policy)
    samples = _dataset(data).shaped(graph.tensors["input"].shape[1:])
    from hwsim.energy import load_energy_table
    from hwsim.energy.data_model import load_data_model
    from hwsim.simulate import simulate
    from hwsim.values.metering import ArrayMeter
    from hwsim.values.training import Training, step_cost

    table = None if energy_table is None else load_energy_table(energy_table)
    model_of_data = None if data_model is None else load_data_model(data_model)
    _say_if_compiling()
    step = simulate(graph, accelerator, optimizer=chosen, precision=formats, recompute=policy)
    meter = None if model_of_data is None else ArrayMeter(step, model_of_data, table)
    training = Training(
        graph,
        accelerator,
        samples,
        cost=step_cost(step, table, array_apart=meter is not None),
        optimizer=chosen,
        precision=formats,
        recompute=policy,
        seed=config.get("seed", TRAIN_SEED) if seed is None else seed,
        meter=meter,
    )
    if saved is not None:
        training.resume(saved)
    return training


def _check_origin(config: dict[str, Any], model: str) -> None:
    """Refuse a checkpoint of another hwsim, whose bits may differ, or of another network."""
    from hwsim import __version__

    if config.get("hwsim") != __version__:
        raise HwsimError(
            f"the checkpoint was written by hwsim {config.get('hwsim')}, this is {__version__}, which may give other "
            "bits; continue with that version, or begin anew"
        )
    if config.get("model") != model:
        raise HwsimError(f"the checkpoint is of {config.get('model')}, not of {model}; name that model, or begin anew")


def _lasting(data: str) -> str:
    """Give the samples' name with a path that holds from every folder."""
    name, colon, folder = data.partition(":")
    return f"{name}:{Path(folder).resolve()}" if colon else data


def _new_folder(name: str) -> Path:
    """Give the first of name, name-2, … that is not there yet."""
    number = 1
    while (place := Path(name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return place


def _train_accelerator(hw: str | None, dataflow: str | None, config: dict[str, Any]) -> Accelerator:
    from hwsim.hardware import Accelerator

    if hw is None and config:
        accelerator = Accelerator.model_validate(config["hardware"])
        return accelerator if dataflow is None else accelerator.with_dataflow(dataflow)
    return _accelerator(hw or DEFAULT_HARDWARE, dataflow)


def _train_optimizer(name: str | None, learning_rate: float | None, config: dict[str, Any]) -> Optimizer:
    """Take the numbers of the checkpoint's optimizer, unless another one is named."""
    from hwsim.workload import OPTIMIZERS

    numbers = dict(config.get("optimizer", {}))
    before = numbers.pop("name", TRAIN_OPTIMIZER)
    name = name or before
    _check_optimizer(name)
    if name != before:
        numbers = {}
    if learning_rate is not None:
        numbers["learning_rate"] = learning_rate
    return OPTIMIZERS[name](**numbers)


def _train_precision(name: str | None, accelerator: Accelerator, config: dict[str, Any]) -> Precision:
    from hwsim.workload.precision import Precision, default_precision, precision_of

    if name is not None:
        return precision_of(name)
    return Precision(**config["precision"]) if config else default_precision(accelerator)


def _dataset(spec: str) -> Dataset:
    """Load the samples that ``--data`` names."""
    from hwsim.values import cifar10, digits

    name, _, folder = spec.partition(":")
    if spec == "digits":
        if find_spec("sklearn") is None:
            raise HwsimError(
                "digits: the images come with scikit-learn, which is not installed; run: pip install 'hwsim[data]'"
            )
        return digits()
    if name == "cifar10" and folder:
        return cifar10(folder)
    raise HwsimError(f"--data must be digits or cifar10:FOLDER; it is '{spec}'")


def _give_training(
    training: Training, folder: str | None, until_accuracy: float | None, json: str | None, console: Console
) -> None:
    """Write what training leaves behind, and say what came out."""
    from hwsim.report.training import TRAINING_FILES, accuracy_sentence, print_phases, training_summary, write_training

    summary = training_summary(training, until_accuracy)
    if folder is not None:
        write_training(training, Path(folder), summary)
    if until_accuracy is not None:
        console.print(accuracy_sentence(training, until_accuracy), soft_wrap=True)
    print_phases(training, console)
    _give(json, lambda: summary, lambda _: None)
    if folder is not None:
        console.print(f"\nWrote {', '.join(TRAINING_FILES)} into {folder}", soft_wrap=True)


def _cache_folder(name: str) -> Path:
    """Give the folder in which results of long runs are kept: that of the user, as the system has it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hwsim" / name


def _accelerator(name_or_path: str, dataflow: str | None) -> Accelerator:
    from hwsim.hardware import load_accelerator

    accelerator = load_accelerator(name_or_path)
    return accelerator if dataflow is None else accelerator.with_dataflow(dataflow)


def _check_amaranth(command: str) -> None:
    """Refuse what needs the generator where it cannot run; let it drop a machine, or all of it but a part, in peace."""
    if find_spec("amaranth") is None:
        raise HwsimError(
            f"{command}: the RTL is made with amaranth, which is not installed; run: pip install 'hwsim[rtl]'"
        )
    import warnings

    from amaranth.hdl import UnusedElaboratable

    warnings.simplefilter("ignore", UnusedElaboratable)


def _check_optimizer(name: str) -> None:
    """Refuse an unknown optimizer before an output folder is made."""
    from hwsim.workload import OPTIMIZERS

    if name not in OPTIMIZERS:
        raise HwsimError(f"unknown optimizer '{name}'; choose one of {', '.join(OPTIMIZERS)}")


def _check_outputs(out: str | None, json: str | None) -> None:
    """Refuse a folder or file that cannot be written before time is spent on simulating."""
    from hwsim.report.files import check_file, check_folder

    if out == "":
        raise HwsimError("--out must name a folder; it is empty")
    if out is not None:
        check_folder(Path(out))
    if json is not None and json != "-":
        check_file(Path(json))


def _give(json: str | None, summary: Callable[[], dict[str, Any]], tables: Callable[[Console], None]) -> None:
    """Write the summary where it is wanted; print tables unless stdout holds the summary."""
    if json is not None:
        from hwsim.report.files import json_text

        text = json_text(summary())
        if json == "-":
            sys.stdout.write(text)
            return
        Path(json).write_text(text, "utf-8")
    tables(_console())


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(highlight=False, emoji=False, stderr=stderr)


def _refuse(sentence: str) -> int:
    print(f"hwsim: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def _usage_sentence(error: Exception) -> str:
    message = " ".join(str(error.format_message()).split()).rstrip(".")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "hwsim"
    return f"{message[:1].lower()}{message[1:]}; see `{command} --help`"


def _system_sentence(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"cannot use '{error.filename}': {reason}" if error.filename else f"cannot write the output: {reason}"


if __name__ == "__main__":
    sys.exit(main())
