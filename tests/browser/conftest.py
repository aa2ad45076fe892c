"""A browser, and pages of a server with an echo model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from plugins.server.tests.serving import Site, serving
from tests.browser import chromium

Visit = Callable[..., Page]
PATIENCE = 15_000
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The one browser of the run."""
    found = chromium.find()
    if found is None:
        pytest.skip("there is no Chromium on this machine, and no npm that could bring one")
    program, more = found
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"], env={**os.environ, **more}, timeout=60_000
        )
        yield browser
        browser.close()


@pytest.fixture
def site() -> Iterator[Site]:
    """A server of the test's own."""
    with serving() as site:
        yield site


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a page; what goes wrong in its scripts, or is refused by its policy, fails the test."""
    contexts, problems = [], []

    def opened(url: str, **more: Any) -> Page:
        settings = {"viewport": DESK, "locale": "en-GB", "color_scheme": "light", "reduced_motion": "reduce"}
        context = browser.new_context(**{**settings, **more})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [] == problems
