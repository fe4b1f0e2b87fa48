"""Does the event simulator keep docs/contracts/cycles.md? Tiny programs by hand, then the equations on random ones."""

import numpy as np
import pytest

from hwsim.errors import HwsimError
from hwsim.program.fields import CAUSES, DRAIN, FETCH, PORT, Row, Semaphore, Unit, mask, pack_counts
from hwsim.timing.events import simulate_events
from hwsim.timing.random_programs import expand_rows, random_rows

LOAD, MATRIX, VECTOR, STORE = Unit.LOAD, Unit.MATRIX, Unit.VECTOR, Unit.STORE
FULL, FREE, OUT = Semaphore.A_FULL, Semaphore.A_FREE, Semaphore.OUT_FULL


def command(unit, occupancy, tail=0, wait=(), post=(), defer=0):
    return (unit, occupancy, tail, mask(*wait), mask(*post), defer)


def barrier(counts=None):
    return (Unit.CONTROL, 0, 0, pack_counts(counts or {}), 0, 0)


def run(*commands, queue_depth=4, dispatch_cycles=1, counts=None):
    rows = np.array([barrier(counts), *commands], dtype=np.int64)
    return simulate_events(rows, queue_depth, dispatch_cycles)


def stalls(timeline, unit):
    return {CAUSES[c]: int(n) for c, n in enumerate(timeline.stall_cycles[unit]) if n}


# --- dispatch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pace", [1, 4, 9])
def test_program_of_one_barrier_lasts_one_dispatch(pace):
    line = run(dispatch_cycles=pace)
    assert (line.cycles, line.start.tolist(), line.end.tolist()) == (pace, [0], [0])
    assert (line.stall_cycles[:, DRAIN] == pace).all()


def test_commands_are_dispatched_at_the_pace_and_start_at_once():
    line = run(command(LOAD, 2), command(MATRIX, 2), command(VECTOR, 2), command(STORE, 2), dispatch_cycles=8)
    assert line.dispatch.tolist() == [0, 8, 16, 24, 32]
    assert line.start.tolist() == [0, 8, 16, 24, 32]
    assert line.end.tolist() == [0, 10, 18, 26, 34]
    assert line.cycles == 40  # the end is a barrier, dispatched 8 after the last command
    assert stalls(line, VECTOR) == {"fetch": 24, "drain": 40 - 26}


def test_unit_runs_its_commands_back_to_back():
    line = run(command(MATRIX, 10), command(MATRIX, 10), command(MATRIX, 10))
    assert line.start.tolist() == [0, 1, 11, 21]
    assert line.cycles == 31
    assert stalls(line, MATRIX) == {"fetch": 1}


@pytest.mark.parametrize(
    ("queue_depth", "dispatch", "vector_start"),
    [
        (1, [0, 1, 2, 11, 21, 22], 22),  # places free at 1, 11, 21
        (2, [0, 1, 2, 3, 11, 12], 12),
        (3, [0, 1, 2, 3, 4, 5], 5),
    ],
)
def test_full_queue_blocks_the_commands_behind_it(queue_depth, dispatch, vector_start):
    line = run(*[command(MATRIX, 10)] * 4, command(VECTOR, 1), queue_depth=queue_depth)
    assert line.dispatch.tolist() == dispatch
    assert line.start.tolist() == [0, 1, 11, 21, 31, vector_start]


def test_place_freed_at_t_is_filled_at_t():
    line = run(command(MATRIX, 5), command(MATRIX, 5), command(MATRIX, 5), queue_depth=1)
    assert line.start[2] == 6
    assert line.dispatch[3] == 6


def test_late_place_delays_the_pace_of_all_that_follow():
    line = run(
        command(MATRIX, 50),
        command(MATRIX, 1),
        command(MATRIX, 1),
        command(VECTOR, 1),
        queue_depth=1,
        dispatch_cycles=4,
    )
    assert line.dispatch.tolist() == [0, 4, 8, 54, 58]
    assert line.start.tolist() == [0, 4, 54, 55, 58]


# --- semaphores -------------------------------------------------------------------------------------------------------


def test_token_is_seen_when_the_tail_ends_and_not_a_cycle_later():
    line = run(command(LOAD, 10, tail=7, post=[FULL]), command(MATRIX, 3, wait=[FULL]))
    assert line.end[1] == 18  # 1 + 10 + 7
    assert line.start[2] == 18
    assert line.cycles == 21
    assert stalls(line, MATRIX) == {"a_full": 18}
    assert stalls(line, LOAD) == {"fetch": 1, "drain": 10}


def test_wait_takes_initial_tokens_first():
    commands = [command(LOAD, 5, wait=[FREE])] * 3 + [command(MATRIX, 40, tail=2, post=[FREE])]
    line = run(*commands, counts={FREE: 2}, queue_depth=4)
    assert line.start.tolist() == [0, 1, 6, 46, 4]  # the third load takes the token that is posted at 4 + 40 + 2
    assert stalls(line, LOAD) == {"fetch": 1, FREE.name.lower(): 46 - 11}


def test_tokens_count_up():
    line = run(*[command(LOAD, 2, post=[FULL])] * 3, *[command(MATRIX, 10, wait=[FULL])] * 3)
    assert line.start.tolist() == [0, 1, 3, 5, 4, 14, 24]


def test_nth_wait_takes_the_nth_token():
    # The second load ends at 4, long before the first, at 102; its token is the second.
    line = run(
        command(LOAD, 2, tail=99, post=[FULL]), command(LOAD, 1, post=[FULL]), *[command(MATRIX, 1, wait=[FULL])] * 2
    )
    assert line.end.tolist()[1:3] == [102, 4]
    assert line.start.tolist()[3:] == [102, 103]


def test_command_waits_for_all_its_semaphores():
    posts = [command(LOAD, 10, post=[FULL]), command(VECTOR, 20, post=[OUT])]
    line = run(*posts, command(STORE, 1, wait=[FULL, OUT]))
    assert line.start[3] == 22
    assert stalls(line, STORE) == {"out_full": 22}


# --- the memory port --------------------------------------------------------------------------------------------------


def test_latency_is_pipelined_but_transfers_are_not():
    line = run(command(LOAD, 10, tail=100), command(LOAD, 10, tail=100), command(STORE, 10, tail=100))
    assert line.start.tolist() == [0, 1, 11, 21]
    assert line.end.tolist() == [0, 111, 121, 131]
    assert stalls(line, STORE) == {"port": 21, "drain": 100}


def test_load_does_not_overtake_an_earlier_store_that_waits():
    line = run(
        command(VECTOR, 30, post=[OUT]),  # 1 .. 31
        command(STORE, 5, wait=[OUT]),  # dispatched at 2, has the first ticket, starts at 31
        command(LOAD, 4),  # dispatched at 3, the port is idle until 31 and not its own until 36
    )
    assert line.start.tolist() == [0, 1, 31, 36]
    assert stalls(line, LOAD) == {"port": 36}


def test_load_before_a_waiting_store_is_not_held():
    line = run(command(VECTOR, 30, post=[OUT]), command(LOAD, 4), command(STORE, 5, wait=[OUT]))
    assert line.start.tolist() == [0, 1, 2, 31]


def test_matrix_and_vector_need_no_port():
    line = run(command(LOAD, 50), command(MATRIX, 5), command(VECTOR, 5))
    assert line.start.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("defer", "starts"),
    [  # the store, then the three loads
        (0, [2, 12, 17, 22]),
        (1, [8, 3, 18, 23]),
        (2, [13, 3, 8, 23]),
        (3, [18, 3, 8, 13]),
        (9, [18, 3, 8, 13]),
    ],
)
def test_deferred_store_lets_so_many_loads_pass(defer, starts):
    line = run(command(VECTOR, 1), command(STORE, 10, defer=defer), *[command(LOAD, 5)] * 3)
    assert line.start.tolist()[2:] == starts


def test_deferred_store_does_not_hold_the_loads_that_pass_it():
    waiting = [command(VECTOR, 30, post=[OUT]), command(STORE, 5, wait=[OUT], defer=1)]
    line = run(*waiting, command(LOAD, 4), command(LOAD, 4))
    assert line.start.tolist() == [0, 1, 31, 3, 36]  # the first load passes, the second one is behind the store


def test_deferred_store_waits_for_the_load_that_passes_it():
    line = run(command(STORE, 5, defer=1), command(VECTOR, 20, post=[FULL]), command(LOAD, 4, wait=[FULL]))
    assert line.start.tolist() == [0, 26, 2, 22]
    assert stalls(line, STORE) == {"port": 26}


def test_stores_keep_their_order():
    line = run(command(STORE, 5, defer=2), command(STORE, 5), command(LOAD, 7), command(LOAD, 7))
    assert line.start.tolist() == [0, 17, 22, 3, 10]


def test_deferred_store_goes_before_the_next_barrier():
    line = run(command(STORE, 5, defer=2), command(LOAD, 7), barrier(), command(LOAD, 3))
    assert line.start.tolist() == [0, 9, 2, 14, 15]


def test_deferred_store_without_loads_gets_its_ticket_when_the_barrier_reaches_the_dispatcher():
    line = run(command(STORE, 5, defer=2), barrier(), dispatch_cycles=4)
    assert line.start.tolist() == [0, 8, 13]
    line = run(command(STORE, 5), barrier(), dispatch_cycles=4)
    assert line.start.tolist() == [0, 4, 9]


# --- barriers ---------------------------------------------------------------------------------------------------------


def test_barrier_waits_for_the_last_end():
    line = run(command(LOAD, 10, tail=20), command(MATRIX, 3), barrier(), command(MATRIX, 4), dispatch_cycles=2)
    assert line.start.tolist() == [0, 2, 4, 32, 34]
    assert line.dispatch[3] == line.end[3] == 32
    assert line.dispatch[4] == 34
    assert line.cycles == 38
    assert stalls(line, MATRIX) == {"fetch": 4 + 2, "drain": 32 - 7}
    assert stalls(line, LOAD) == {"fetch": 2, "drain": 20 + 6}


def test_barrier_is_not_faster_than_the_pace():
    line = run(command(MATRIX, 3), barrier(), barrier(), dispatch_cycles=5)
    assert line.start.tolist() == [0, 5, 10, 15]
    assert line.cycles == 20


def test_barrier_sets_counters_anew():
    second = [barrier({FREE: 1}), command(LOAD, 1, wait=[FREE])]
    line = run(command(LOAD, 1, wait=[FREE]), *second, counts={FREE: 9})
    assert line.cycles == 4
    with pytest.raises(HwsimError, match="command 4 \\(load\\)"):
        run(command(LOAD, 1, wait=[FREE]), *second, command(LOAD, 1, wait=[FREE]), counts={FREE: 9})


# --- stalls -----------------------------------------------------------------------------------------------------------


def test_whole_gap_goes_to_the_constraint_met_last():
    line = run(command(VECTOR, 10, post=[OUT]), command(LOAD, 20), command(STORE, 1, wait=[OUT]))
    assert line.start[3] == 22  # the token came at 11, the port at 22
    assert stalls(line, STORE) == {"port": 22}


def test_ties_go_to_fetch_then_semaphore_then_port():
    # The token is posted at 11 and the port is free at 11.
    line = run(command(LOAD, 10, post=[FULL]), command(STORE, 1, wait=[FULL]))
    assert stalls(line, STORE) == {"a_full": 11}
    # Dispatch of the store at 11 as well.
    line = run(command(LOAD, 10, post=[FULL]), command(STORE, 1, wait=[FULL]), dispatch_cycles=10)
    assert line.start[2] == 20
    assert stalls(line, STORE) == {"fetch": 20, "drain": 9}
    # Two semaphores at the same time: the lower index.
    line = run(command(LOAD, 10, post=[FULL, OUT]), command(STORE, 1, wait=[OUT, FULL]))
    assert stalls(line, STORE) == {"a_full": 11}


def test_no_stall_right_behind_the_previous_occupancy():
    # The token comes at 11, exactly when the matrix unit is free.
    line = run(command(LOAD, 10, post=[FULL]), command(MATRIX, 9), command(MATRIX, 1, wait=[FULL]))
    assert line.start.tolist() == [0, 1, 2, 11]
    assert stalls(line, MATRIX) == {"fetch": 2}


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_token_that_never_comes_is_refused_by_name():
    with pytest.raises(HwsimError) as error:
        run(command(LOAD, 5, post=[FULL]), command(MATRIX, 5, wait=[FULL, FREE]), command(VECTOR, 1), command(LOAD, 1))
    assert str(error.value) == (
        "command 2 (matrix) waits for a token of semaphore 'a_free' that never comes (deadlock after cycle 7); "
        "post it in an earlier command or in the barrier"
    )


def test_order_that_blocks_itself_is_refused():
    # The post is behind the wait, in a queue that the wait blocks.
    commands = [command(LOAD, 1, wait=[FREE])] * 2 + [command(MATRIX, 1, post=[FREE])] * 2
    assert run(*commands, queue_depth=2).cycles > 0
    with pytest.raises(HwsimError, match=r"command 1 \(load\) waits for a token of semaphore 'a_free'"):
        run(*commands, queue_depth=1)


def test_store_that_holds_the_port_can_deadlock_a_load():
    commands = [
        command(STORE, 1, wait=[OUT]),
        command(LOAD, 1, post=[FULL]),
        command(VECTOR, 1, wait=[FULL], post=[OUT]),
    ]
    with pytest.raises(HwsimError, match=r"command 1 \(store\) waits for a token of semaphore 'out_full'"):
        run(*commands)


def test_deferred_store_that_blocks_its_loads_is_refused():
    commands = [command(STORE, 1, defer=1), command(STORE, 1), command(LOAD, 1)]
    assert run(*commands, queue_depth=2).start.tolist() == [0, 4, 5, 3]
    with pytest.raises(HwsimError) as error:
        run(*commands, queue_depth=1)
    assert str(error.value) == (
        "command 1 (store) waits for loads that are never dispatched (deadlock after cycle 2); "
        "defer the store by fewer loads or deepen the queues"
    )


def test_255_tokens_pass_and_256_do_not():
    assert run(*[command(LOAD, 1, post=[FULL])] * 255).cycles == 256
    with pytest.raises(HwsimError) as error:
        run(*[command(LOAD, 1, post=[FULL])] * 256)
    assert str(error.value) == (
        "semaphore 'a_full' must hold at most 255 tokens, not 256 (cycle 257); post fewer tokens before they are taken"
    )


@pytest.mark.parametrize(
    ("rows", "queue_depth", "message"),
    [
        ([(0, 1, 0, 0, 0, 0)], 1, "a program must start with a barrier (unit control)"),
        (np.zeros((0, 6)), 1, "a program must start with a barrier (unit control)"),
        ([(4, 0, 0, 0)], 1, "timing rows must have shape (commands, 6), not (1, 4)"),
        ([barrier(), (5, 3, 0, 0, 0, 0)], 1, "command 1: a flat program has no unit 5; expand LOOP and END first"),
        (
            [barrier(), (0, 3, -1, 0, 0, 2)],
            1,
            "command 1: occupancy, tail and defer must be 0 or more, not 3, -1 and 2",
        ),
        ([barrier()], 0, "queue_depth and dispatch_cycles must be at least 1, not 0 and 1"),
    ],
)
def test_broken_rows_are_refused(rows, queue_depth, message):
    with pytest.raises(HwsimError) as error:
        simulate_events(np.array(rows, dtype=np.int64), queue_depth, 1)
    assert str(error.value) == message


# --- random programs --------------------------------------------------------------------------------------------------


def posts_after(command):
    """Cycles from a command's start to its posts: a store's data have left three cycles after its occupancy."""
    return command[1] + (min(3, command[2]) if command[0] == STORE else command[2])


def equations(rows, queue_depth, pace):
    """Sections 1 and 4 of the contract, literally, for one segment from time 0, iterated to their least solution."""
    commands = rows.tolist()[1:]
    posted = {s: [None] * (int(rows[0, Row.WAIT]) >> 4 * s & 15) for s in Semaphore}  # by which command; None: barrier
    starts, tokens, units = [0] * len(commands), [], {u: [] for u in range(4)}
    for c, (unit, _, _, wait, post, _) in enumerate(commands):
        units[unit].append(c)
        tokens.append({1 + s: posted[s].pop(0) for s in Semaphore if wait >> s & 1})
        for s in Semaphore:
            posted[s] += [c] * (post >> s & 1)
    port = units[LOAD].copy()  # stores are put in at their places
    place = -1
    for c in units[STORE]:
        behind = [p for p, load in enumerate(port) if commands[load][0] == LOAD and load > c]
        defer = commands[c][5]
        before = [p for p, load in enumerate(port) if commands[load][0] == LOAD and load < c]
        at = behind[min(defer, len(behind)) - 1] if defer and behind else (before[-1] if before else -1)
        place = max(place, at) + 1
        port.insert(place, c)
    previous = {c: b for b, c in zip([None, *port], port, strict=False)}
    due, by_barrier = 0, set()  # stores whose ticket the barrier draws
    for c in units[STORE]:
        due = max(due, sum(load < c for load in units[LOAD]) + commands[c][5])
        by_barrier |= {c} if due > len(units[LOAD]) else set()
    arrival = 0
    while True:
        old, dispatch, ends, stall = starts.copy(), [], [], np.zeros((5, len(CAUSES)), dtype=np.int64)
        for unit in range(4):
            ends += [starts[c] + commands[c][1] + commands[c][2] for c in units[unit]]
        for c, (unit, *_) in enumerate(commands):
            seat = units[unit].index(c)
            full = starts[units[unit][seat - queue_depth]] if seat >= queue_depth else 0
            dispatch.append(max((dispatch[-1] if dispatch else 0) + pace, full))
            free = starts[units[unit][seat - 1]] + commands[units[unit][seat - 1]][1] if seat else 0
            terms = {FETCH: max(dispatch[c], arrival if c in by_barrier else 0)}
            terms |= {k: 0 if b is None else starts[b] + posts_after(commands[b]) for k, b in tokens[c].items()}
            if c in previous:
                terms[PORT] = 0 if previous[c] is None else starts[previous[c]] + commands[previous[c]][1]
            starts[c] = max(free, *terms.values())
            if starts[c] > free:
                cause = min(k for k, t in terms.items() if t == starts[c])
                stall[unit, cause] += starts[c] - free
                if c in previous:  # the port is counted like a fifth unit
                    stall[4, cause] += starts[c] - terms[PORT]
        settled = arrival == (dispatch[-1] if dispatch else 0) + pace
        arrival = (dispatch[-1] if dispatch else 0) + pace
        if starts == old and settled:
            break
    cycles = max([*ends, (dispatch[-1] if dispatch else 0) + pace])
    for unit in range(4):
        last = units[unit][-1] if units[unit] else None
        stall[unit, DRAIN] += cycles - (0 if last is None else starts[last] + commands[last][1])
    stall[4, DRAIN] += cycles - (starts[port[-1]] + commands[port[-1]][1] if port else 0)
    return dispatch, starts, cycles, stall


@pytest.mark.parametrize("seed", range(25))
def test_random_programs_solve_the_equations(seed):
    rng = np.random.default_rng(seed)
    queue_depth, pace = int(rng.integers(1, 7)), int(rng.integers(1, 17))
    rows = expand_rows(random_rows(rng, most_commands=400, queue_depth=queue_depth))
    line = simulate_events(rows, queue_depth, pace)
    assert (line.end == line.start + rows[:, Row.OCCUPANCY] + rows[:, Row.TAIL]).all()
    barriers = np.flatnonzero(rows[:, Row.UNIT] == Unit.CONTROL)
    time, stall = 0, np.zeros((5, len(CAUSES)), dtype=np.int64)
    for first, segment in zip(barriers, np.split(rows, barriers[1:]), strict=True):
        dispatch, starts, cycles, stalled = equations(segment, queue_depth, pace)
        assert line.start[first] == line.dispatch[first] == time
        assert (line.dispatch[first + 1 : first + len(segment)] - time).tolist() == dispatch
        assert (line.start[first + 1 : first + len(segment)] - time).tolist() == starts
        time, stall = time + cycles, stall + stalled
    assert line.cycles == time
    assert line.stall_cycles.tolist() == stall.tolist()
    assert (line.busy_cycles + line.stall_cycles.sum(axis=1) == line.cycles).all()


@pytest.mark.parametrize("seed", range(25))
def test_random_programs_are_legal(seed):
    compressed = random_rows(np.random.default_rng(seed), most_commands=800)
    assert compressed[0, Row.UNIT] == Unit.CONTROL
    starts = np.flatnonzero(compressed[:, Row.UNIT] == Unit.CONTROL)
    for segment in np.split(compressed, starts[1:]):
        tokens = [int(segment[0, Row.WAIT]) >> 4 * s & 15 for s in Semaphore]
        before, at_loop = tokens.copy(), []
        posters, waiters = {}, {}
        for unit, _, _, wait, post, _ in segment[1:].tolist():
            if unit == Unit.LOOP:
                at_loop.append(tokens.copy())
            elif unit == Unit.END:
                assert tokens == at_loop.pop()
            for s in Semaphore:
                if wait >> s & 1:
                    assert tokens[s] > 0
                    assert waiters.setdefault(s, unit) == unit
                if post >> s & 1:
                    assert posters.setdefault(s, unit) == unit
                tokens[s] += (post >> s & 1) - (wait >> s & 1)
        assert tokens == before
        assert not at_loop


@pytest.mark.parametrize("seed", range(10))
def test_units_of_random_programs_end_in_order(seed):
    rows = expand_rows(random_rows(np.random.default_rng(seed), most_commands=800))
    line = simulate_events(rows, 3, 2)
    for unit in range(4):
        assert (np.diff(line.end[rows[:, Row.UNIT] == unit]) >= 0).all()
