"""A sweep from start to end: chunks of points on workers, parts on disk, resumed where it stopped.

`run_sweep` is the one call. Workers evaluate and encode, the client alone writes. Normative: docs/contracts/sweep.md,
section 4.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hwsim.energy import EnergyTable, load_energy_table
from hwsim.errors import HwsimError
from hwsim.explore.evaluate import Evaluator, Networks, check_names
from hwsim.explore.search import SAMPLERS, Asked, ask_and_tell
from hwsim.explore.space import Space

__all__ = ["SEARCHES", "Plan", "Progress", "check_folder", "parts_of", "run_sweep"]

SEARCHES = ("grid", "random", *SAMPLERS)
#: Points that a grid evaluates at most.
MOST_SWEPT = 10_000_000_000
#: Points that a random search draws at most; all of them are in memory once, 8 bytes each.
MOST_DRAWN = 10_000_000
#: Chunks in flight for each worker: one that runs, and one that waits.
IN_FLIGHT = 2
#: How workers' C library holds memory: columns come and go by the megabyte, and giving each back to the system costs
#: half as much again as the evaluation.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

#: Called with points done and points in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """Which points a sweep evaluates.

    Attributes
    ----------
    search : str
        One of `SEARCHES`.
    points : int or None
        How many, for every search but the grid.
    seed : int
        Of what is drawn.
    chunk : int
        Points of a part.
    """

    search: str = "grid"
    points: int | None = None
    seed: int = 1
    chunk: int = 65_536

    def numbers(self, space: Space) -> int:
        """How many points are looked at.

        Raises
        ------
        HwsimError
            If there is no such search, or it lacks a number of points.
        """
        if self.search not in SEARCHES:
            raise HwsimError(f"unknown search '{self.search}'; choose one of {', '.join(SEARCHES)}")
        if self.search == "grid":
            if space.size > MOST_SWEPT:
                raise HwsimError(
                    f"a grid has at most {MOST_SWEPT:,} points, not {space.size:,}; "
                    "draw some: --search nsga2 --points N"
                )
            return space.size
        if self.points is None:
            raise HwsimError(f"a {self.search} search needs the number of points: --points N")
        return min(self.points, space.size) if self.search == "random" else self.points

    def sentence(self, space: Space) -> str:
        """Say it in words.

        Raises
        ------
        HwsimError
            As `numbers`.
        """
        if self.search == "grid":
            return f"grid, all {space.size:,} points"
        return f"{self.search}, {self.numbers(space):,} of {space.size:,} points, seed {self.seed}"


def run_sweep(
    space: Space,
    out: Path,
    networks: Networks,
    plan: Plan | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    energy_table: EnergyTable | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[Path, ...]:
    """Evaluate a space, part by part.

    Parameters
    ----------
    space : Space
        From `load_space`.
    out : Path
        Folder for the parts; made if it is not there.
    networks : callable
        Builds a network by name and batch; workers import it by its name.
    plan : Plan, optional
        Which points; the whole grid unless given.
    workers : int, optional
        Processes of the local cluster; one per core unless given. With 1, or for one part, this process alone.
    scheduler : str, optional
        Address of a running Dask scheduler, instead of a local cluster.
    resume : bool
        Go on with the sweep in `out`.
    energy_table : EnergyTable, optional
        Where energies come from.
    progress : callable
        Told after every part.

    Returns
    -------
    tuple of Path
        The parts, in order.

    Raises
    ------
    HwsimError
        The folder holds a sweep, or on `resume` another one; a search without a number of points; no scheduler at that
        address; a part that no worker could finish.
    """
    plan = plan or Plan()
    total = plan.numbers(space)
    check_names(space, networks)
    folder = _begin(space, out, plan, energy_table, resume)
    if plan.search in SAMPLERS:
        return _run_sampler(space, folder, networks, plan, energy_table, progress)
    chunks = list(_chunks(space, plan))
    paths = tuple(folder / f"part-{k:06d}.parquet" for k in range(len(chunks)))
    left = [k for k, path in enumerate(paths) if not path.exists()]
    done = sum(map(len, chunks)) - sum(len(chunks[k]) for k in left)
    progress(done, total)
    with _workers(1 if len(left) <= 1 and scheduler is None else workers, scheduler) as submit:
        tasks = ((k, (space, networks, energy_table, chunks[k])) for k in left)
        for k, encoded in submit(tasks):
            _write(paths[k], encoded)
            done += len(chunks[k])
            progress(done, total)
    return paths


def parts_of(out: Path) -> tuple[Path, ...]:
    """Give the parts of a sweep that are there, in order."""
    return tuple(sorted((out / "points").glob("part-*.parquet")))


def _chunks(space: Space, plan: Plan) -> Iterator[range | NDArray[np.int64]]:
    if plan.search == "grid":
        for first in range(0, space.size, plan.chunk):
            yield range(first, min(first + plan.chunk, space.size))
        return
    wanted = plan.numbers(space)
    if wanted > MOST_DRAWN:
        raise HwsimError(f"a random search draws at most {MOST_DRAWN} points, not {wanted}; sweep the grid")
    drawn = _drawn(space.size, wanted, np.random.default_rng(plan.seed))
    for first in range(0, wanted, plan.chunk):
        yield drawn[first : first + plan.chunk]


def _drawn(size: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw different numbers below `size`, ascending."""
    if size <= 4 * wanted:
        return np.sort(rng.permutation(size)[:wanted]).astype(np.int64)
    found = np.empty(0, np.int64)
    while len(found) < wanted:
        found = np.unique(np.concatenate([found, rng.integers(0, size, 2 * (wanted - len(found)))]))
    return np.sort(rng.permutation(found)[:wanted])


#: Evaluators of this process, by what they are for.
_EVALUATORS: dict[tuple[str, str], Evaluator] = {}


def _evaluator(space: Space, networks: Networks, table: EnergyTable | None) -> Evaluator:
    key = (space.digest, _table_digest(table))
    if key not in _EVALUATORS:
        _EVALUATORS.clear()
        _EVALUATORS[key] = Evaluator(space, networks, table)
    return _EVALUATORS[key]


def _evaluate(space: Space, networks: Networks, table: EnergyTable | None, numbers: Iterable[int]) -> bytes:
    """Evaluate one chunk; gives its part."""
    found = np.asarray(numbers if isinstance(numbers, np.ndarray) else np.fromiter(numbers, np.int64))
    return _encoded(_evaluator(space, networks, table).table(found))


def _encoded(table: pa.Table) -> bytes:
    """Parquet with numbers split by byte and texts by number: a third of the time, two thirds of the size."""
    buffer = io.BytesIO()
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        use_dictionary=[name for name, kind in kinds.items() if kind == "string"],
        use_byte_stream_split=[name for name, kind in kinds.items() if kind == "double"],
    )
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Write all or nothing."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


_Task = tuple[int, tuple[Any, ...]]
_Submit = Callable[[Iterable[_Task]], Iterator[tuple[int, bytes]]]


@contextmanager
def _workers(workers: int | None, scheduler: str | None) -> Iterator[_Submit]:
    """Give what evaluates tasks, in any order: this process, a local cluster, or a running one."""
    count = (os.cpu_count() or 1) if workers is None else workers
    if scheduler is None and count <= 1:
        yield lambda tasks: ((k, _evaluate(*arguments)) for k, arguments in tasks)
        return
    import logging

    import dask
    from distributed import Client, LocalCluster

    # Workers that are slow to end, or find the scheduler gone when they do, are no news; lost chunks are told anyway.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is None:
        dask.config.set({"distributed.nanny.pre-spawn-environ": KEEP_MEMORY})
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=None,
            silence_logs=logging.CRITICAL,
        )
        with cluster, Client(cluster) as client:
            yield lambda tasks: _submitted(client, tasks)
        return
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise HwsimError(f"no Dask scheduler at '{scheduler}': {error or type(error).__name__}") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise HwsimError(f"the Dask scheduler at '{scheduler}' has no worker; start one: dask worker {scheduler}")
        yield lambda tasks: _submitted(client, tasks)


def _submitted(client: Any, tasks: Iterable[_Task]) -> Iterator[tuple[int, bytes]]:
    """Keep every worker busy, and no more results in memory than that takes; Dask does a lost worker's chunk again."""
    from distributed import CancelledError, KilledWorker, as_completed

    waiting = iter(tasks)
    number: dict[Any, int] = {}

    def submit() -> Future[bytes] | None:
        task = next(waiting, None)
        if task is None:
            return None
        future: Future[bytes] = client.submit(_evaluate, *task[1], pure=False)
        number[future.key] = task[0]  # type: ignore[attr-defined]
        return future

    started = [submit() for _ in range(IN_FLIGHT * max(1, sum(client.ncores().values())))]
    running = as_completed([future for future in started if future is not None])
    for future in running:
        try:
            yield number.pop(future.key), future.result()
        except KilledWorker:
            raise HwsimError("a chunk's workers died again and again; give them more memory, then --resume") from None
        except (CancelledError, OSError) as error:
            raise HwsimError(f"the Dask scheduler is gone ({type(error).__name__}); go on with --resume") from None
        future.release()
        following = submit()
        if following is not None:
            running.add(following)


def _run_sampler(
    space: Space,
    folder: Path,
    networks: Networks,
    plan: Plan,
    energy_table: EnergyTable | None,
    progress: Progress,
) -> tuple[Path, ...]:
    """Let a sampler choose, batch by batch; batches that have a part are told from it."""
    evaluator, total = _evaluator(space, networks, energy_table), plan.numbers(space)
    paths: list[Path] = []

    def evaluate(asked: Asked) -> pa.Table:
        path = folder / f"part-{len(paths):06d}.parquet"
        paths.append(path)
        if not path.exists():
            _write(path, _encoded(evaluator.evaluate(asked.numbers, space.columns(asked.numbers))))
        progress(min(asked.done + len(asked.numbers), total), total)
        return pq.read_table(path)

    progress(0, total)
    ask_and_tell(space, plan.search, total, plan.seed, evaluate)
    return tuple(paths)


def check_folder(space: Space, out: Path, plan: Plan, table: EnergyTable | None, resume: bool) -> None:
    """Refuse a folder that holds a sweep, or, on `resume`, none or another one.

    Raises
    ------
    HwsimError
        With what differs.
    """
    file = out / "sweep.json"
    if file.exists():
        _same_sweep(file, _described(space, plan, table), resume)
    elif resume:
        raise HwsimError(f"'{out}' holds no sweep to go on with; leave out --resume")


def _described(space: Space, plan: Plan, table: EnergyTable | None) -> dict[str, Any]:
    """What makes two sweeps the same."""
    return {
        "digest": space.digest,
        "search": plan.search,
        "points": plan.points,
        "seed": plan.seed,
        "chunk": plan.chunk,
        "energy_table": _table_digest(table),
        "hwsim": version("hwsim"),
    }


def _begin(space: Space, out: Path, plan: Plan, table: EnergyTable | None, resume: bool) -> Path:
    """Write sweep.json, or hold what is there to it."""
    check_folder(space, out, plan, table, resume)
    folder, file = out / "points", out / "sweep.json"
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob("*.unfinished"):
        unfinished.unlink()
    if not file.exists():
        versions = {name: version(name) for name in ("numpy", "pyarrow")}
        more = {"name": space.name, "size": space.size, "space": space.described(), "versions": versions}
        _write(file, (json.dumps({**_described(space, plan, table), **more}, indent=2) + "\n").encode())
    return folder


def _same_sweep(file: Path, described: Mapping[str, Any], resume: bool) -> None:
    if not resume:
        raise HwsimError(f"'{file.parent}' holds a sweep already; go on with --resume, or name another folder")
    try:
        found = json.loads(file.read_text("utf-8"))
        differing = [key for key, value in described.items() if found.get(key) != value]
    except (ValueError, AttributeError):
        raise HwsimError(f"'{file}' is broken; name another folder") from None
    words = {
        "digest": "the space",
        "points": "the number of points",
        "energy_table": "the energy table",
        "hwsim": "the version of hwsim",
    }
    if differing:
        key = differing[0]
        was = "" if key in ("digest", "energy_table") else f": it was {found.get(key)}, not {described[key]}"
        raise HwsimError(
            f"'{file.parent}' holds another sweep, {words.get(key, f'the {key}')} differs{was}; name another folder"
        )


def _table_digest(table: EnergyTable | None) -> str:
    rows = (load_energy_table() if table is None else table).rows
    return sha256(repr([(r.key, r.value_pj, r.low_pj, r.high_pj) for r in rows]).encode()).hexdigest()
