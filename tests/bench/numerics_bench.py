"""How fast bit-exact products are: against numpy's own float32 product, in the same process, on two threads.

Run from the root: ``python tests/bench/numerics_bench.py [ROUNDS]``. Contenders take turns; each waits until the other
library's idle threads have stopped spinning, runs once unmeasured, then three times. Ratios are of best times.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

import numpy as np

from hwsim import numerics

SIZE = 1024
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 8
SETTLE_S = 0.1
ROWS = 32


def cases():
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal((SIZE, SIZE)).astype(np.float32) for _ in range(2))
    yield "numpy float32 @", lambda: x @ y
    for name in ("bf16", "int8", "fp16", "fp8_e4m3", "fp8_e5m2", "fp32"):
        scale = np.float32(40 if name == "int8" else 1)
        a, b = (numerics.to_format(v * scale, name) for v in (x, y))
        yield (
            f"{name} ws",
            lambda a=a, b=b, name=name: numerics.matmul(a, b, operand_format=name, dataflow="ws", rows=ROWS),
        )
    a, b = (numerics.to_format(v, "bf16") for v in (x, y))
    yield (
        "bf16 os, α = 4",
        lambda a=a, b=b: numerics.matmul(a, b, operand_format="bf16", dataflow="os", rows=ROWS, add_latency_cycles=4),
    )
    tiny = numerics.to_format(x * np.float32(2.0**-62), "bf16"), numerics.to_format(y * np.float32(2.0**-62), "bf16")
    yield (
        "bf16 ws, with subnormals",
        lambda a=tiny: numerics.matmul(*a, operand_format="bf16", dataflow="ws", rows=ROWS),
    )
    small = numerics.to_format(x * np.float32(2.0**-62), "fp32"), numerics.to_format(y * np.float32(2.0**-62), "fp32")
    yield (
        "fp32 ws, with subnormals",
        lambda a=small: numerics.matmul(*a, operand_format="fp32", dataflow="ws", rows=ROWS),
    )


def main():
    runs = list(cases())
    best = dict.fromkeys((name for name, _ in runs), np.inf)
    for _, run in runs:
        run()  # compile
    for _ in range(ROUNDS):
        for name, run in runs:
            time.sleep(SETTLE_S)
            run()
            for _ in range(3):
                start = time.perf_counter()
                run()
                best[name] = min(best[name], time.perf_counter() - start)
    base = best["numpy float32 @"]
    for name, seconds in best.items():
        print(f"{name:<26}{2 * SIZE**3 / seconds / 1e9:8.1f} GFLOP/s {base / seconds:8.2f} of numpy")
    print(f"int8 ÷ bf16: {best['bf16 ws'] / best['int8 ws']:.2f}")


if __name__ == "__main__":
    main()
