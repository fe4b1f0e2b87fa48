"""Is the tree free of paths and hosts that exist on one machine only?"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = {".git", ".venv", "out", "dist", "build"}
PATTERNS = {
    "a path of one machine": re.compile(r"(?<![\w./*-])/(?:work|tmp|home|root|Users|mnt)/"),
    "a package index of one machine": re.compile(
        r"(?:--|PIP_|extra-)index[-_]url|https?://[^\s)]*(?:/simple\b|artifactory|nexus|devpi|proxy)", re.IGNORECASE
    ),
    "a host of one machine": re.compile(r"\blocalhost:\d|\b(?:127|10|192\.168)(?:\.\d{1,3}){2,3}:\d"),
}


def files():
    """Files that are or could be committed; without git, every file that no tool has made."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = [p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*")]
    paths = (ROOT / name for name in names if name and not SKIPPED.intersection(Path(name).parts))
    return sorted(p for p in paths if p.is_file())


def findings(text):
    return [
        f"line {number} has {what}: {line.strip()[:100]}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in PATTERNS.items()
        if pattern.search(line)
    ]


def test_no_file_names_a_machine():
    found = []
    for path in files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # not text
        found += [f"{path.relative_to(ROOT).as_posix()}: {finding}" for finding in findings(text)]
    assert not found


def test_this_very_file_is_looked_at():
    assert Path(__file__).resolve() in [p.resolve() for p in files()]


@pytest.mark.parametrize(
    "line",
    [
        "open('{}home/me/x.csv')",
        "see {}tmp/out",
        "pip install {}{}index-url x".replace("{}{}", "--"),
        "at http:{}{}host{}simple".replace("{}{}host{}", "//host/"),
        "local{}".format("host:80"),
    ],
)
def test_pattern_finds(line):
    assert findings(line.replace("{}", "/"))


@pytest.mark.parametrize("line", ["#!/usr/bin/env bash", "docs/home/x.md", "https://example.org/work/x", "out/tmp/x"])
def test_pattern_lets_pass(line):
    assert not findings(line)
