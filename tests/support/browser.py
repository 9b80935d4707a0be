"""A page in Chromium, and what it complained of."""

import contextlib
import shutil

import pytest


@contextlib.contextmanager
def page():
    """(page, problems); the test is skipped where there is no browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as play:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path=chromium, args=options)
        made, problems = browser.new_page(viewport={"width": 1200, "height": 800}), []
        made.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        made.on("pageerror", lambda error: problems.append(str(error)))
        yield made, problems
        browser.close()
