"""Do pages with a console print what they show? Run this file as a script to write their outputs anew.

The blocks of a page run in order, in an empty folder beside the repository's ``docs``. In a ``console`` block a line
``$ hwsim …`` is a command and the lines up to the next one are its output, at 80 columns; a line ``...`` stands for any
lines. A ``python`` block with ``>>>`` is a doctest and may read what commands before it wrote; a figure in bold is one
of those that the page's blocks print.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwsim.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Pages whose Python reads what their commands wrote.
RUNS = [DOCS / "sweep.md", *sorted((DOCS / "tutorials").glob("*.md"))]
PAGES = [DOCS / "tutorial.md", *RUNS]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
NUMBER = re.compile(r"\d(?:[\d,.]*\d)?")
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def output_of(command: str) -> str:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        main(shlex.split(command)[1:])
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Commands and outputs of a console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output.strip("\n")


def alike(shown: str, printed: str) -> bool:
    pattern = r"\n(?:.*\n)*".join(re.escape(part) for part in f"\n{shown}\n".split("\n...\n"))
    return re.fullmatch(pattern, f"\n{printed}\n") is not None


def shortened(shown: str, printed: str) -> str:
    """Give an output with ``...`` where it was shown with it: the same numbers of lines, from the same first words."""
    lines, found, at = printed.splitlines(), [], 0
    for number, part in enumerate(re.split(r"^\.\.\.$\n?", shown, flags=re.MULTILINE)):
        kept = part.splitlines()
        found += ["..."] * bool(number)
        if kept:
            start = next(i for i in range(at, len(lines)) if begins_alike(lines[i], kept[0])) if number else 0
            at = start + len(kept) if "..." in shown else len(lines)
            found += lines[start:at]
    return "\n".join(found)


def begins_alike(line: str, other: str) -> bool:
    """Whether two lines have the same first words; the other may have one alone."""
    words = re.findall(r"[A-Za-z]{3,}", other)[:2]
    return bool(words) and re.findall(r"[A-Za-z]{3,}", line)[: len(words)] == words


def in_a_folder(folder: Path) -> None:
    (folder / "docs").symlink_to(DOCS)
    os.chdir(folder)
    os.environ["COLUMNS"] = "80"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_page_shows_what_is_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    in_a_folder(tmp_path)
    text, names, differing = page.read_text("utf-8"), {}, []
    shown: list[str] = []
    for kind, block in BLOCK.findall(text):
        shown.append(block)
        if kind == "console":
            for command, output in commands(block):
                printed = output_of(command)
                if not alike(output, printed):
                    differing.append(f"$ {command}\n{printed}")
        elif page in RUNS:
            examples = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
            doctest.DocTestRunner(optionflags=OPTIONS).run(examples, out=differing.append, clear_globs=False)
            names = examples.globs
    assert not differing, "\n".join(differing)
    printed = set(NUMBER.findall("\n".join(shown)))
    bold = BOLD.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    assert [n for words in bold for n in NUMBER.findall(words) if n not in printed] == []


def test_dots_stand_for_any_lines() -> None:
    assert alike("a\n...\nd", "a\nb\nc\nd")
    assert alike("...\nd", "a\nd")
    assert alike("a\n...", "a\nb")
    assert not alike("a\n...\nd", "a\nb")
    assert not alike("b\n...", "a\nb")


def test_outputs_written_anew_keep_their_dots() -> None:
    printed = "head 1\nskipped\nfront 2\nrow 3\nlast 4"
    assert shortened("head 0\n...\nfront 0\nrow 0\n...", printed) == "head 1\n...\nfront 2\nrow 3\n..."
    assert shortened("anything", printed) == printed


def written_anew(block: re.Match[str], names: dict[str, object], python: bool) -> str:
    if block[1] == "console":
        parts = [f"$ {command}\n{shortened(output, output_of(command))}" for command, output in commands(block[2])]
        return "```console\n" + "\n\n".join(parts) + "\n```"
    if not python:
        return block[0]
    return "```python\n" + "".join(ran(example, names) for example in examples_of(block[2])) + "```"


def examples_of(block: str) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(block)


def ran(example: doctest.Example, names: dict[str, object]) -> str:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        exec(compile(example.source, "page", "single"), names)
    first, *others = example.source.splitlines()
    return "\n".join([f">>> {first}", *(f"... {line}".rstrip() for line in others)]) + "\n" + stream.getvalue()


def write_anew(page: Path, say: Callable[[str], object] = print) -> None:
    names: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        in_a_folder(Path(folder))
        text = page.read_text("utf-8")
        page.write_text(BLOCK.sub(lambda block: written_anew(block, names, page in RUNS), text), "utf-8")
        os.chdir(ROOT)
    say(f"{page.relative_to(ROOT)}")


if __name__ == "__main__":
    chosen = [Path(name).resolve() for name in sys.argv[1:]]
    for page in chosen or PAGES:
        write_anew(page)
