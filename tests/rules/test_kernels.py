"""Are compiled kernels made anew when a kernel that they call has changed?

numba keeps compiled code by the source file of the function alone, so a change in hwsim/timing/_kernels.py would leave
old code inside the compiled search. The digest in hwsim/mapping/_kernels.py changes that file too.
"""

from hashlib import sha256
from pathlib import Path

from hwsim.mapping import _kernels
from hwsim.timing import _kernels as timing


def test_mapping_kernels_name_the_timing_kernels_that_they_were_written_against():
    digest = sha256(Path(timing.__file__).read_bytes()).hexdigest()[:16]
    assert digest == _kernels.TIMING_KERNELS, f'set TIMING_KERNELS = "{digest}" in hwsim/mapping/_kernels.py'
