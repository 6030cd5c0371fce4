"""A page in headless Chromium through Playwright: without a network, at a width, light or dark; its errors are ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.helpers.browser import CHROMIUM

MISSING = next(
    (
        reason
        for missing, reason in (
            (CHROMIUM is None, "there is no Chromium"),
            (find_spec("playwright") is None, "playwright is not installed"),
        )
        if missing
    ),
    "",
)
"""Why no page can be opened here; empty where one can."""


@contextmanager
def opened(page: Path, width: int = 1280, height: int = 800, **options: Any) -> Iterator[Any]:
    """Yield Playwright's page once the explorer in it is ready; fail for any message of an error in it."""
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        tab = context.new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        tab.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
        tab.goto(page.absolute().as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached")
        yield tab
        browser.close()
    assert not errors
