"""A page in a real Chromium: what it asks for and complains of, and how it looks."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
LOOKS = (Path(__file__).parent / "looks.js").read_text(encoding="utf-8")
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3: of text, for all to read

needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


@contextlib.contextmanager
def launched():
    """Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `site`")
    sandbox = [] if os.name == "nt" or os.getuid() else ["--no-sandbox"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *sandbox])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def opened(browser, place: str, expected: str | None = None, **options):
    """A tab that asks for nothing but what is below the address `place`, and has no complaint
    other than an expected one."""
    asked, complaints = [], []
    context = browser.new_context(**options)
    tab = context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda said: complaints.append(f"{tab.url}: {said.type} {said.text}"))
    tab.on("pageerror", lambda error: complaints.append(f"{tab.url}: {error}"))
    yield tab
    context.close()
    assert [url for url in asked if not url.startswith((place, "data:"))] == []
    assert [said for said in complaints if expected is None or expected not in said] == []
