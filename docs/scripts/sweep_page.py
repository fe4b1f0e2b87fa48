"""Draw the README's pictures of a sweep: its front, and its page in a real browser; `make figures` calls it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]


def main(folder: Path) -> None:
    """Take the pictures of the sweep in a folder."""
    spec = importlib.util.spec_from_file_location("browser", ROOT / "tests" / "browser" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    browser = importlib.util.module_from_spec(spec)
    sys.modules["browser"] = browser
    spec.loader.exec_module(browser)
    found = browser.find_chromium()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=str(found.executable), env=found.environment, args=list(browser.FLAGS)
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 920}, color_scheme="light")
        page.goto((folder / "index.html").resolve().as_uri())
        page.wait_for_timeout(1000)
        page.screenshot(path=ROOT / "docs" / "images" / "sweep-page.png")
        chromium.close()
    shutil.copy(folder / "front.png", ROOT / "docs" / "images" / "sweep-front.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
