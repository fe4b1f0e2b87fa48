"""Train the digits models in every precision and write docs/accuracy.md and its picture; `make accuracy` runs it.

Takes a quarter of an hour. Every figure on the page comes from the runs of this script.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt

from hwsim.hardware import load_accelerator
from hwsim.simulate import simulate
from hwsim.values import digits
from hwsim.values.training import StepCost, Training, step_cost
from hwsim.workload import PRECISIONS
from hwsim.workload.optimizers import Momentum
from hwsim_models import build

DOCS = Path(__file__).parents[1]
MODELS = ("digits-mlp", "digits-cnn", "digits-resnet")
HARDWARE, BATCH, EPOCHS, SEEDS = "edge-32x32-bf16", 32, 20, (1, 2, 3)
OPTIMIZER = Momentum(learning_rate=0.05)
COLOURS = {"fp32": "#000000", "bf16": "#0072B2", "fp16": "#56B4E9", "fp8": "#E69F00", "int8": "#D55E00"}
COLOURS["int8-nearest"] = "#CC79A7"


def train(model: str, precision: str, seed: int) -> dict[str, list[float]]:
    """Train once; accuracy [%], loss, share of MACs with a zero operand and skipped steps after every epoch."""
    training = Training(
        build(model, BATCH),
        load_accelerator(HARDWARE),
        digits(),
        cost=cost(model, precision),
        optimizer=OPTIMIZER,
        precision=precision,
        seed=seed,
    )
    records = [training.train_epoch() for _ in range(EPOCHS)]
    done = [record for record in records if record is not None]
    return {
        "accuracy": [round(r.test_accuracy, 4) for r in done],
        "loss": [round(r.loss, 6) for r in done],
        "steps": [float(r.steps) for r in done],
        "skipped": [float(r.skipped_steps) for r in done],
        "gated": [round(r.gated_macs / r.macs, 6) for r in done],
    }


def cost(model: str, precision: str) -> StepCost:
    """What a step costs."""
    return step_cost(simulate(build(model, BATCH), load_accelerator(HARDWARE), OPTIMIZER, precision))


def energy_mj(model: str, precision: str, run: dict[str, list[float]]) -> list[float]:
    """Energy of a whole run [mJ]: value, low, high."""
    of_step = cost(model, precision)
    steps, skipped = int(run["steps"][-1]), int(run["skipped"][-1])
    gated = run["gated"][-1] * of_step.macs * steps
    return [float(pj) / 1e9 for pj in of_step.total_energy_pj(steps, skipped, gated)]


def table(runs: dict[str, dict[str, list[dict[str, list[float]]]]]) -> str:
    """Accuracy after the last epoch, mean and range over the seeds, and the energy until then."""
    lines = []
    for model, by_precision in runs.items():
        lines += [
            f"\n## {model}\n",
            "| precision | test accuracy [%], mean (range) | against bf16 [points] | "
            "training energy [mJ], value [low … high] | MACs with a zero operand | steps skipped |",
            "|---|---|---|---|---|---|",
        ]
        reference = mean(run["accuracy"][-1] for run in by_precision["bf16"])
        for precision, several in by_precision.items():
            last = [run["accuracy"][-1] for run in several]
            value, low, high = map(mean, zip(*(energy_mj(model, precision, run) for run in several), strict=True))
            lines.append(
                f"| `{precision}` | {mean(last):.2f} ({min(last):.2f} … {max(last):.2f}) | "
                f"{mean(last) - reference:+.2f} | "
                f"{_three(value)} [{_three(low)} … {_three(high)}] | {mean(r['gated'][-1] for r in several):.1%} | "
                f"{mean(r['skipped'][-1] for r in several):.0f} |"
            )
    return "\n".join(lines)


def _three(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def picture(runs: dict[str, dict[str, list[dict[str, list[float]]]]], path: Path) -> None:
    """Test error against epochs, one panel per model, mean over the seeds."""
    figure, axes = plt.subplots(1, len(runs), figsize=(12, 4.2), sharey=True, layout="constrained")
    for axis, (model, by_precision) in zip(axes, runs.items(), strict=True):
        for precision, several in by_precision.items():
            error = [100 - mean(values) for values in zip(*(run["accuracy"] for run in several), strict=True)]
            style = "--" if precision == "int8-nearest" else "-"
            axis.plot(range(1, EPOCHS + 1), error, style, color=COLOURS[precision], label=precision, linewidth=1.6)
        axis.set_title(model, loc="left", fontweight="bold")
        axis.set_xlabel("epoch")
        axis.set_yscale("log")
        axis.set_yticks([1, 2, 3, 5, 10, 20, 50], ["1", "2", "3", "5", "10", "20", "50"])
        axis.set_xticks(range(0, EPOCHS + 1, 5))
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("test samples classed wrong [%]")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(PRECISIONS), frameon=False
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


PAGE = """# Accuracy by precision

What the formats cost in accuracy, and save in energy: the three digits models, trained {epochs} epochs with
`hwsim train` (batch {batch}, momentum {momentum} with learning rate {rate}, seeds {seeds}) on `{hardware}`, or on the
same machine with an array for another format. Every number is computed as the machine computes it. The test has 360
samples, so one sample is 0.28 points. Made by `make accuracy` (`docs/scripts/accuracy.py`); the runs are in
[accuracy.json](accuracy.json).

![Test error of three models in six precisions over twenty epochs](images/accuracy.png)

*Mean over the seeds. The curves end within a few samples of each other: on data as easy as this, no format loses what
another keeps.*

`fp8` is e4m3 forward and e5m2 backward with dynamic loss scaling; `int8` has a power of two per tensor and stochastic
rounding of weights, activations and gradients, `int8-nearest` rounds to nearest. All but `fp32` keep fp32 master
weights. Energy is that of {epochs} epochs of training, tests not included; its interval is that of the
[energy contract](contracts/energy.md).
{table}
"""


def main() -> None:
    """Train; or, with any argument, only write the page again from the runs that are there, at the present prices."""
    store = DOCS / "accuracy.json"
    if len(sys.argv) > 1:
        runs = json.loads(store.read_text("utf-8"))
    else:
        runs = {}
        for model in MODELS:
            runs[model] = {}
            for precision in PRECISIONS:
                runs[model][precision] = [train(model, precision, seed) for seed in SEEDS]
                last = [run["accuracy"][-1] for run in runs[model][precision]]
                print(f"{model:14s} {precision:13s} " + "  ".join(f"{value:.2f} %" for value in last), flush=True)
        store.write_text(json.dumps(runs) + "\n", "utf-8")
    picture(runs, DOCS / "images" / "accuracy.png")
    page = PAGE.format(
        epochs=EPOCHS, batch=BATCH, hardware=HARDWARE, momentum=OPTIMIZER.momentum, rate=OPTIMIZER.learning_rate,
        seeds=", ".join(map(str, SEEDS)), table=table(runs),
    )  # fmt: skip
    (DOCS / "accuracy.md").write_text(page, "utf-8")


if __name__ == "__main__":
    main()
