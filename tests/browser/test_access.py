"""What axe-core, an independent checker of the Web Content Accessibility Guidelines, says of each page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from plugins.server.tests.serving import Site
from plugins.server.tests.test_evaluations import keep
from tests.browser.conftest import DESK, PHONE, Visit
from tests.browser.test_pages import running

PAGES = ("chat", "overview", "tasks", "models", "plugins", "results")
BAD = ("serious", "critical")


def problems(page: Page) -> list[str]:
    """Return what is wrong, each with where it is."""
    found: dict[str, Any] = page.evaluate("() => axe.run(document)")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
        if one["impact"] in BAD
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_no_page_keeps_anybody_out(
    site: Site, visit: Visit, tmp_path: Path, scheme: str, locale: str, size: dict[str, int]
) -> None:
    """Nothing serious on any page, empty or full."""
    page = visit(site.url, color_scheme=scheme, locale=locale, viewport=size)
    page.evaluate(AXE_SCRIPT)
    expect(page.locator("#model")).to_have_value("echo")
    found = {"empty": problems(page)}
    site.app.state.home = tmp_path
    keep(tmp_path, "a", model="tiny", value=50.0)
    keep(tmp_path, "b", model="small", value=75.0)
    site.chat("one two three")
    page.evaluate("localStorage.setItem('llmos.settings', JSON.stringify({logprobs: true, temperature: ''}))")
    page.reload()
    page.evaluate(AXE_SCRIPT)
    expect(page.locator("#model")).to_have_value("echo")
    page.locator("#message").fill("one ```\ncode\n``` two")
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant .stats")).to_be_visible()
    page.locator(".token").first.focus()
    with running(site):
        for name in PAGES:
            page.evaluate("name => { location.hash = `#/${name}`; }", name)
            expect(page.locator(f"main.page-{name}")).to_be_visible()
            expect(page.locator("main .wait")).to_have_count(0)
            found[name] = problems(page)

    assert {} == {name: list for name, list in found.items() if list}


def test_dialogs_keep_nobody_out(site: Site, visit: Visit) -> None:
    """A sheet of a phone, and an answer that failed."""
    page = visit(site.url, viewport=PHONE, color_scheme="dark")
    page.evaluate(AXE_SCRIPT)
    expect(page.locator("#model")).to_have_value("echo")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Temperature").fill("9")
    sheet = problems(page)
    page.keyboard.press("Escape")
    page.locator("#message").fill("hello")
    page.keyboard.press("Enter")
    expect(page.locator(".failure")).to_be_visible()

    assert ([], []) == (sheet, problems(page))
