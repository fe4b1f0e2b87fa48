"""What loads and stores need of an accelerator, and the box that a command is: lines, taps and beats.

`hwsim_rtl.dma.prepare` makes a box of an encoded command, `hwsim_rtl.dma.walk` walks it. Normative:
docs/contracts/program.md, section 4; how it is built: docs/rtl-dma.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Mux, Value, signed
from amaranth.lib import data

from hwsim.errors import HwsimError
from hwsim.hardware import Accelerator
from hwsim.hardware.formats import FORMAT_BITS, array_formats
from hwsim.program import FORMAT_CODES
from hwsim_rtl.control.semaphores import SEMAPHORES
from hwsim_rtl.dma.align import bits_for

__all__ = [
    "ABOUT",
    "ADDRESS_BITS",
    "BEAT",
    "COUNT_BITS",
    "LEVELS",
    "LINE_BYTES_BITS",
    "NO_LIMIT",
    "TAP_BITS",
    "WALK_CYCLES",
    "Geometry",
    "move_command",
    "shift_of",
]

ADDRESS_BITS = 32
#: Limit of addresses that stops none of a beat that fits.
NO_LIMIT = (1 << ADDRESS_BITS) - 1
#: Bits of a count, a coordinate's limit, a number of beats; a coordinate has one more, for its sign.
COUNT_BITS = 16
LINE_BYTES_BITS = 20
TAP_BITS = 8
#: What a walk counts, the last fastest.
LEVELS = ("b", "h", "w", "th", "tw", "beat")
_LONGER = ("by_image_turned", "by_pixel_turned", "by_tap_wrapped")
#: A box is at the end of the walk, as its first beat, so many cycles after its start.
WALK_CYCLES = 3
#: What a beat's way through the data path needs of its box.
ABOUT = ("wrap", "into_accumulator", "half", "fixed", "transposed", "lowest", "format", "exponent", "tail")
#: The walk, two registers behind the data of loads and of the accumulator, and a cycle for the memory.
_LEAST_LATENCY_CYCLES = WALK_CYCLES + 3
#: AXI4 has data buses of 8 to 1024 bits (Arm IHI 0022, A1.3.1).
_WIDEST_BEAT_BYTES = 128


@dataclass(frozen=True)
class Geometry:
    """What the data path of loads and stores needs of an accelerator.

    Attributes
    ----------
    beat_bytes : int
        Bytes of a beat.
    latency_cycles : int
        Request to data, write to response, as the cycle contract counts [cycles].
    cols, deep : int
        Words of an accumulator line; elements of a scratchpad line.
    slot_lines, banks, bank_lines : int
        Lines of half the accumulator; banks of the scratchpad and their lines.
    formats : tuple of str
        Formats of what loads and stores move; fp32 stands for all 32-bit words.
    operand_bits : int
        Width of a scratchpad element [bits].
    skewed : bool
        Sums lie transposed in the accumulator (input-stationary).
    """

    beat_bytes: int
    latency_cycles: int
    cols: int
    deep: int
    slot_lines: int
    banks: int
    bank_lines: int
    formats: tuple[str, ...]
    operand_bits: int
    skewed: bool

    @classmethod
    def of(cls, hw: Accelerator, formats: tuple[str, ...] | None = None) -> Geometry:
        """Take from a description; `formats` are those of the operands and fp32 unless given.

        Raises
        ------
        HwsimError
            If the generator has no hardware for it: several channels, a beat wider than a line, banks of an odd size.

        Examples
        --------
        >>> from hwsim.hardware import load_accelerator
        >>> Geometry.of(load_accelerator("edge-8x8-bf16")).words_per_beat("bf16")
        4
        """
        chosen = formats or (*array_formats(hw.array.operand_format), "fp32")
        found = cls(
            beat_bytes=hw.dram.beat_bytes,
            latency_cycles=hw.dram.latency_cycles,
            cols=hw.array.cols,
            deep=hw.line_elements,
            slot_lines=hw.accumulator_slot_lines,
            banks=hw.scratchpad.banks,
            bank_lines=hw.scratchpad_bank_lines,
            formats=tuple(dict.fromkeys(chosen)),
            operand_bits=FORMAT_BITS[hw.array.operand_format],
            skewed=hw.array.dataflow == "is",
        )
        found._check(hw)
        return found

    def _check(self, hw: Accelerator) -> None:
        if hw.dram.channels > 1:
            raise HwsimError(
                f"{hw.name}: the RTL has one memory channel, and dram.channels is {hw.dram.channels}; describe it "
                "with 1"
            )
        if self.beat_bytes > _WIDEST_BEAT_BYTES:
            raise HwsimError(
                f"{hw.name}: an AXI4 port moves at most {_WIDEST_BEAT_BYTES} bytes a beat, and dram.bytes_per_cycle is "
                f"{self.beat_bytes}; describe it with {_WIDEST_BEAT_BYTES} or fewer"
            )
        if hw.dram.latency_cycles < _LEAST_LATENCY_CYCLES:
            raise HwsimError(
                f"{hw.name}: dram.latency_cycles must be at least {_LEAST_LATENCY_CYCLES} cycles for the RTL, "
                f"{_LEAST_LATENCY_CYCLES - 1} of them for its registers, not {hw.dram.latency_cycles}"
            )
        widest = max(self.words_per_beat(format) for format in self.formats)
        limit = self.cols // 2 if self.skewed and self.cols % 2 == 0 else self.cols
        if widest > limit:
            part = "half an accumulator line (input-stationary)" if limit < self.cols else "an accumulator line"
            raise HwsimError(
                f"{hw.name}: a beat may fill {part}, {limit} words, and one of {self.beat_bytes} bytes holds {widest}; "
                "make dram.bytes_per_cycle smaller or array.cols larger"
            )
        if self.skewed and self.cols & (self.cols - 1):
            raise HwsimError(
                f"{hw.name}: input-stationary RTL must have a power of two of array.cols, not {self.cols}; choose "
                "another dataflow"
            )
        if self.bank_lines & (self.bank_lines - 1):
            raise HwsimError(
                f"{hw.name}: a scratchpad bank must have a power of two of lines, not {self.bank_lines}; change "
                "scratchpad.capacity_bytes or scratchpad.banks"
            )
        if max(FORMAT_BITS[format] for format in self.formats) > 8 * self.beat_bytes:
            raise HwsimError(
                f"{hw.name}: a beat must hold an element of 4 bytes and has {self.beat_bytes}; make "
                "dram.bytes_per_cycle at least 4"
            )

    def words_per_beat(self, format: str) -> int:
        """Elements of a beat."""
        return self.beat_bytes * 8 // FORMAT_BITS[format]

    @property
    def most_words(self) -> int:
        """Elements of a beat of the narrowest format."""
        return max(self.words_per_beat(format) for format in self.formats)

    @property
    def turned(self) -> bool:
        """Whether a beat is turned before it is widened, so that its words come out at the banks that they go to.

        That takes beats of which a line holds a whole number, in every format, and banks that are lanes. A beat has
        fewer bits than its words, and so takes fewer multiplexers.
        """
        beats = (self.words_per_beat(format) * FORMAT_BITS[format] == 8 * self.beat_bytes for format in self.formats)
        powers = self.beat_bytes & (self.beat_bytes - 1) == 0
        return powers and all(beats) and not self.skewed and self.cols % self.most_words == 0

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes of an element, of all formats, ascending."""
        return tuple(sorted({FORMAT_BITS[format] // 8 for format in self.formats}))

    @property
    def line_bits(self) -> int:
        """Width of a line number, of either memory, and of a step between lines [bits]."""
        return bits_for(max(self.slot_lines, self.banks * self.bank_lines) * 2)

    @property
    def lane_bits(self) -> int:
        """Width of a lane of either memory [bits]."""
        return bits_for(max(self.cols, self.deep))

    @property
    def place(self) -> data.StructLayout:
        """Place in a memory: a line and a lane."""
        return data.StructLayout({"line": self.line_bits, "lane": self.lane_bits})

    @property
    def box(self) -> data.StructLayout:
        """A command that is ready to be walked.

        `address` is the first line's; `step_…` are bytes per index and per tap. `place` is where its first element
        goes; `by_image`, `by_pixel` and `by_tap` are steps of places, and pixels go on from image to image unless
        `image_restarts`. `wrap` is what a lane beyond the last adds to the line within a line of the box, *turn* from
        line to line; `…_wrapped` and `…_turned` are the lines of a step with it. `tail` is a line's words, as full
        accumulator lines and lanes of one more. `single_…` says that a level has but one index.
        """
        signs = signed(COUNT_BITS + 1)
        counts = {f"count_{axis}": COUNT_BITS for axis in "bhw"} | {f"taps_{axis}": TAP_BITS for axis in "hw"}
        steps = {f"step_{name}": ADDRESS_BITS for name in ("b", "h", "w", "th", "tw")}
        coordinates = {f"{name}_{axis}": signs for name in ("start", "inc", "tap") for axis in "hw"}
        limits = {"limit_h": COUNT_BITS, "limit_w": COUNT_BITS}
        places = dict.fromkeys(("place", "by_image", "by_pixel", "by_tap"), self.place)
        return data.StructLayout(
            {
                "address": ADDRESS_BITS, **counts, **steps, **coordinates, **limits, "line_bytes": LINE_BYTES_BITS,
                "beats": COUNT_BITS, **places, "wrap": self.line_bits,
                **{f"single_{level}": 1 for level in LEVELS}, **dict.fromkeys(_LONGER, self.line_bits),
                "row_step": self.lane_bits, "image_restarts": 1, "tail": self.place,
                "into_accumulator": 1, "half": 1, "fixed": 1,
                "transposed": 1, "lowest": 1, "format": 3, "exponent": signed(10),
            }
        )  # fmt: skip


def BEAT(geometry: Geometry) -> data.StructLayout:  # noqa: N802
    """What the generator says of a beat.

    `address` is a multiple of the beat; bytes `low` … `high − 1` belong to the line, and `wanted` says that there is
    one and that it is no `padding`; `within`, that the address is below the limit. `place` is where the beat's first
    byte goes, be it the line's or not; `row` the number of the tile's line modulo the lanes of the scratchpad; `start`
    the place of the line's first element. `last` is its box's last beat, `about` are fields of its box.
    """
    bytes_bits, box = bits_for(geometry.beat_bytes + 1), geometry.box
    return data.StructLayout(
        {
            "address": ADDRESS_BITS, "low": bytes_bits, "high": bytes_bits, "padding": 1, "wanted": 1,
            "within": 1, "place": geometry.place, "row": geometry.lane_bits, "start": geometry.place, "last": 1,
            "about": data.StructLayout({name: box[name].shape for name in ABOUT}),
        }
    )  # fmt: skip


def move_command(geometry: Geometry) -> data.StructLayout:
    """A prepared load or store: the semaphores that it posts, and its box."""
    return data.StructLayout({"post": SEMAPHORES, "box": geometry.box})


def shift_of(code: Value) -> Value:
    """Give the binary logarithm of an element's bytes by the code of its format."""
    return Mux(code == FORMAT_CODES["fp32"], 2, code >= FORMAT_CODES["bf16"])
