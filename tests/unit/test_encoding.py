"""Do commands survive their way through memory?"""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwsim.errors import HwsimError
from hwsim.hardware import load_accelerator
from hwsim.mapping import plan_op
from hwsim.program import COMMAND_BYTES, COMMAND_WORDS, FIELDS, Field, Unit, decode, encode
from hwsim.workload import training_graph
from hwsim_models import build


def wrapped(values):
    """Numbers from 2^31 on read as negative ones: the words are the same."""
    return values.astype(np.uint32).astype(np.int32)


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn", "digits-resnet"])
def test_programs_of_models_are_encoded_and_decoded(model):
    step = training_graph(build(model, 4), "adam")
    hw = load_accelerator("edge-8x8-bf16")
    for op in step.ops:
        plan = plan_op(op, step, hw)
        if not plan.segments:
            continue  # a view
        flat = plan.program.expand()
        words = encode(flat)
        assert words.shape == (len(flat), COMMAND_WORDS)
        assert words[0].nbytes == COMMAND_BYTES
        back = decode(words)
        assert (back[:, [Field.OCCUPANCY, Field.TAIL]] == 0).all()
        commands = flat[:, Field.UNIT] != Unit.CONTROL
        kept = [f for f in range(FIELDS) if f not in (Field.OCCUPANCY, Field.TAIL)]
        assert (wrapped(back[commands][:, kept]) == wrapped(flat[commands][:, kept])).all()
        assert (back[~commands, Field.WAIT] == flat[~commands, Field.WAIT]).all()


@given(st.lists(st.integers(0, 15), min_size=10, max_size=10))
def test_a_barrier_keeps_all_its_counts(counts):
    flat = np.zeros((1, FIELDS), np.int64)
    flat[0, Field.UNIT] = Unit.CONTROL
    flat[0, Field.WAIT] = sum(n << 4 * i for i, n in enumerate(counts))
    assert (decode(encode(flat)) == flat).all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (Field.DEFER, 70000, "command 1: DEFER is 70000, and its field holds 0 to 65535; split the op"),
        (
            Field.OFFSET,
            1 << 32,
            "command 1: OFFSET is 4294967296, and its field holds -2147483648 to 4294967295; split the op",
        ),
        (Field.UNIT, Unit.LOOP, "only flat commands can be encoded; expand the program's loops first"),
    ],
)
def test_what_does_not_fit_is_refused(field, value, message):
    flat = np.zeros((2, FIELDS), np.int64)
    flat[1, field] = value
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        encode(flat)
