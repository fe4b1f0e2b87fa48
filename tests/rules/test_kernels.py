"""Are compiled kernels made anew when a kernel that they call has changed?

numba keeps compiled code by the source file of the function alone, so a change in hwsim/timing/_kernels.py would leave
old code inside the compiled search. The digest in hwsim/mapping/_kernels.py changes that file too.
"""

from hashlib import sha256
from pathlib import Path

from hwsim.mapping import _kernels
from hwsim.numerics import _kernels as numerics
from hwsim.program import fields, vector_ops
from hwsim.timing import _kernels as timing
from hwsim.values import _kernels as values


def test_mapping_kernels_name_the_timing_kernels_that_they_were_written_against():
    digest = sha256(Path(timing.__file__).read_bytes()).hexdigest()[:16]
    assert digest == _kernels.TIMING_KERNELS, f'set TIMING_KERNELS = "{digest}" in hwsim/mapping/_kernels.py'


def test_kernels_and_fields_agree_on_the_hand_over():
    assert timing.HAND_OVER_CYCLES == fields.HAND_OVER_CYCLES
    assert timing.STORE_LEAVES_CYCLES == fields.STORE_LEAVES_CYCLES
    assert _kernels.SCRATCHPAD_READ_CYCLES == fields.SCRATCHPAD_READ_CYCLES


def test_the_machine_names_the_kernels_and_codes_that_it_was_written_against():
    files = (numerics, fields, vector_ops)
    digest = sha256(b"".join(Path(f.__file__).read_bytes() for f in files)).hexdigest()[:16]
    assert digest == values.COMPILED_IN, f'set COMPILED_IN = "{digest}" in hwsim/values/_kernels.py'
