"""Do the pages print what they show, and do their links lead somewhere?"""

import doctest
import re
from pathlib import Path

import pytest

from tests.docs.test_console import RUNS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def slugs(text):
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*?) *$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text):
    return LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text)))


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUNS], ids=name_of)
def test_examples_print_what_the_page_shows(page):
    text = re.sub(r"^ *```.*$", "", page.read_text("utf-8"), flags=re.MULTILINE)  # a fence would be read as output
    examples = doctest.DocTestParser().get_doctest(text, {}, name_of(page), str(page), 0)
    output = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(examples, out=output.append)
    assert not output, "".join(output)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page):
    broken = []
    for link in links(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in slugs(target.read_text("utf-8"))
        ):
            broken.append(link)
    assert not broken


def test_links_in_code_are_none():
    text = '[a](b.md) `[c](d.md)`\n```\n[e](f.md)\n```\n[g](h.md#i-j "title")'
    assert links(text) == ["b.md", "h.md#i-j"]


def test_slugs_are_those_of_headings():
    assert slugs("# Stalls: `fetch`, *port*\n## 4. Why?\n") == {"stalls-fetch-port", "4-why"}
