"""Does the command line print what the tutorial shows? Run this file as a script to write the outputs anew.

In a ``console`` block a line ``$ hwsim …`` is a command and the lines up to the next one are its output, at 80 columns;
a line ``...`` stands for any lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from pathlib import Path

import pytest

from hwsim.cli import main

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Commands of which the page shows the first lines only.
HEADS = {"hwsim step": 21}


def output_of(command: str) -> str:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        main(shlex.split(command)[1:])
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def shown() -> list[tuple[str, str]]:
    """Commands and outputs of the page."""
    pairs = []
    for block in BLOCK.findall(TUTORIAL.read_text("utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            pairs.append((command, output.strip("\n")))
    return pairs


@pytest.mark.parametrize(("command", "output"), shown(), ids=[command for command, _ in shown()])
def test_tutorial_shows_what_is_printed(command: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    pattern = r"\n(?:.*\n)*".join(re.escape(part) for part in f"{output}\n".split("\n...\n"))
    assert re.fullmatch(pattern, f"{output_of(command)}\n"), output_of(command)


def write_anew() -> None:
    def block(match: re.Match[str]) -> str:
        commands = re.findall(r"^\$ (.*)$", match[1], flags=re.MULTILINE)
        return "```console\n" + "\n".join(f"$ {command}\n{head(command)}" for command in commands) + "```"

    def head(command: str) -> str:
        lines = output_of(command).splitlines()
        limit = next((n for start, n in HEADS.items() if command.startswith(start)), len(lines))
        return "\n".join([*lines[:limit], *(["..."] if len(lines) > limit else [])]) + "\n"

    TUTORIAL.write_text(BLOCK.sub(block, TUTORIAL.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    os.environ["COLUMNS"] = "80"
    write_anew()
