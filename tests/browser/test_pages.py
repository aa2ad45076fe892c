"""The other pages: what they show, and what they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from llmos import KeyRing
from llmos.testing import EchoBackend, echo_spec
from llmos_kernel.errors import ModelUnavailable
from plugins.server.tests.serving import PATIENCE, Site, serving
from plugins.server.tests.test_evaluations import keep
from tests.browser.conftest import PHONE, Visit


@contextmanager
def running(site: Site) -> Iterator[None]:
    """Have a task stand at the gate while the block runs."""
    site.echo.gate.shut()
    body = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}
    asking = threading.Thread(target=lambda: httpx.post(f"{site.url}/v1/chat/completions", json=body, timeout=PATIENCE))
    asking.start()
    site.echo.gate.wait_for_visitor()
    try:
        yield
    finally:
        site.echo.gate.open()
        asking.join(PATIENCE)


def test_a_task_is_cancelled(site: Site, visit: Visit) -> None:
    """From its row, whose bar goes on to tell of its life."""
    with running(site):
        page = visit(f"{site.url}/#/tasks")
        page.get_by_role("button", name="Cancel task").click()
        expect(page.locator(".task .badge")).to_have_text("cancelled")

    expect(page.locator(".toast")).to_contain_text("is cancelled")
    expect(page.locator(".task .parts")).to_contain_text("prefill")
    expect(page.get_by_role("button", name="Cancel task")).to_have_count(0)


def test_a_task_gets_another_priority(site: Site, visit: Visit) -> None:
    """And keeps it."""
    with running(site):
        page = visit(f"{site.url}/#/tasks")
        page.get_by_label("Priority of task").fill("7")
        page.keyboard.press("Tab")
        expect(page.locator(".toast")).to_contain_text("has priority 7")

        assert 7 == site.http.get("/v1/llmos/tasks").json()["data"][0]["priority"]


def test_tasks_are_filtered(site: Site, visit: Visit) -> None:
    """By state and model; an empty answer says why it is empty."""
    site.chat("one two")
    site.post("/v1/completions", model="toy", prompt="a b")
    page = visit(f"{site.url}/#/tasks")
    expect(page.locator(".task")).to_have_count(2)
    page.get_by_label("Model").select_option("toy")
    expect(page.locator(".task")).to_have_count(1)
    page.get_by_role("radio", name="Failed").check()

    expect(page.locator(".empty")).to_have_text("No task fits this filter.")


def test_the_focus_stays_while_tasks_move(site: Site, visit: Visit) -> None:
    """A row that is still there keeps its element, however often the page looks."""
    with running(site):
        page = visit(f"{site.url}/#/tasks")
        page.get_by_label("Priority of task").focus()
        before = page.locator(".task .facts").inner_text()
        expect(page.locator(".task .facts")).not_to_have_text(before)

        expect(page.get_by_label("Priority of task")).to_be_focused()


def test_a_page_is_held_still(site: Site, visit: Visit) -> None:
    """What moves can be stopped."""
    page = visit(f"{site.url}/#/overview")
    page.get_by_role("button", name="Pause").click()
    site.chat("one two three")
    page.wait_for_function("performance.now() > 0")
    expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Go on").click()

    expect(page.locator("tbody tr").first.locator("td").last).to_have_text("1")


def test_the_overview_tells_what_was_made(site: Site, visit: Visit) -> None:
    """Waiting times in the table, and values under a chart's cursor, which the keyboard moves."""
    for _ in range(3):
        site.chat("one two three four")
    page = visit(f"{site.url}/#/overview")
    expect(page.locator("tbody tr").first.locator("td").last).to_have_text("3")
    chart = page.get_by_role("slider", name="Throughput")
    chart.focus()
    page.keyboard.press("Home")

    told = chart.get_attribute("aria-valuetext") or ""
    assert "generated" in told
    assert "now" not in told
    assert int(chart.get_attribute("aria-valuenow") or 0) <= 0


def test_a_model_is_loaded_and_unloaded(site: Site, visit: Visit) -> None:
    """By its button, which says what it would do."""
    page = visit(f"{site.url}/#/models")
    page.get_by_role("button", name="Load: toy").click()
    card = page.locator(".model", has_text="toy")
    expect(card.locator(".badge")).to_have_text("loaded")
    page.get_by_role("button", name="Unload: toy").click()

    expect(card.locator(".badge")).to_have_text("not loaded")


def test_why_a_model_is_not_loaded(visit: Visit) -> None:
    """It stands with the model."""
    echo = EchoBackend()
    echo.faults.load = ModelUnavailable("toy is broken: <b>disk</b>", model="toy")
    with serving(echo=echo) as site:
        page = visit(f"{site.url}/#/models")
        page.get_by_role("button", name="Load: toy").click()

        expect(page.locator(".model", has_text="toy").locator(".why")).to_contain_text("<b>disk</b>")


def test_plugins_are_found(site: Site, visit: Visit) -> None:
    """By what they are called, and by whether they have a problem."""
    page = visit(f"{site.url}/#/plugins")
    expect(page.locator(".plugins b", has_text="console")).to_be_visible()
    page.get_by_label("Find").fill("console")
    expect(page.locator(".plugins li")).to_have_count(1)
    page.get_by_role("radio", name="Problems").check()

    expect(page.locator(".empty")).to_have_text("No plugin fits.")


def test_results_stand_beside_each_other(site: Site, visit: Visit, tmp_path: Path) -> None:
    """Those on the same records in one table, the best marked; before there are any the page says how to make one."""
    site.app.state.home = tmp_path
    page = visit(f"{site.url}/#/results")
    expect(page.locator(".empty")).to_contain_text("llmos eval")
    keep(tmp_path, "a", model="tiny", value=50.0)
    keep(tmp_path, "b", model="small", value=75.0)
    page.reload()

    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tr", has_text="small")).to_contain_text("best")
    expect(page.locator("tr", has_text="tiny")).not_to_contain_text("best")


def test_language_and_theme_stay(site: Site, visit: Visit) -> None:
    """Chosen once, in all pages; the document says its language."""
    page = visit(f"{site.url}/#/models")
    page.get_by_label("Language").select_option("zh")
    expect(page.get_by_role("heading", level=1)).to_have_text("模型")
    page.locator("#theme").click()
    page.locator("#theme").click()
    page.reload()

    expect(page.get_by_role("heading", level=1)).to_have_text("模型")
    assert ("zh-Hans-CN", "dark") == tuple(
        page.evaluate("[document.documentElement.lang, document.documentElement.dataset.theme]")
    )
    assert "rgb(19, 21, 25)" == page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_browser_chooses_the_language(site: Site, visit: Visit) -> None:
    """Until somebody does."""
    page = visit(site.url, locale="zh-TW")

    expect(page.get_by_role("link", name="对话")).to_be_visible()


NAMING = ("chat", "tasks", "models")
"""Pages that name models where nobody has evaluated any."""
WHOLE = """
name => [...document.querySelectorAll("main *")]
  .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.includes(name)))
  .filter((element) => element.localName !== "option" && element.checkVisibility())
  .map((element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const around = element.closest("li, .choice, .empty, main");
    const [text, box] = [range, around].map((part) => part.getBoundingClientRect());
    const [{ scrollWidth, clientWidth, scrollHeight, clientHeight }, inline] = [element, element.clientWidth === 0];
    const cut = !inline && (scrollWidth > clientWidth || scrollHeight > clientHeight);
    return !cut && text.left >= box.left && text.right <= box.right && text.bottom <= box.bottom + 1;
  })
"""
"""Of each place that shows *name*: whether all of it can be seen."""


def tab_to(page: Page, selector: str) -> None:
    """Go on by the tab key until *selector* has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"the tab key never comes to {selector}")


def test_everything_goes_by_keyboard(site: Site, visit: Visit) -> None:
    """From the skip link over the pages to an answer, and to a model that is loaded."""
    page = visit(site.url)
    expect(page.locator("#model")).to_have_value("echo")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    tab_to(page, "#message")
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    expect(page.locator(".message.assistant .said")).to_have_text("hello")
    page.reload()
    expect(page.locator("#model")).to_have_value("echo")
    tab_to(page, "nav a[data-page=models]")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator(".model")).to_have_count(2)
    tab_to(page, "[aria-label='Load: toy']")
    page.keyboard.press("Space")

    expect(page.locator(".model", has_text="toy").locator(".badge")).to_have_text("loaded")


def test_the_key_is_asked_for_once(tmp_path: Path, visit: Visit) -> None:
    """A wrong one is asked for again; it is kept for the tab, and forgotten when one says so."""
    ring = KeyRing(tmp_path)
    key, _ = ring.create("ann", tenant="acme", now=time.time())
    with serving(ring=ring, local="keys") as site:
        page = visit(site.url)
        expect(page.get_by_role("dialog")).to_have_count(1)
        page.get_by_label("Key", exact=True).fill("llmos-wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("was not taken")
        page.get_by_label("Key", exact=True).fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#link")).to_have_text("Connected")
        page.reload()
        expect(page.locator("#link")).to_have_text("Connected")
        stored = page.evaluate("JSON.stringify(localStorage)")
        page.get_by_role("button", name="Forget the key").click()

        expect(page.get_by_role("button", name="Use this key")).to_be_visible()
        assert key not in stored


def test_a_key_is_offered_what_it_allows(tmp_path: Path, visit: Visit) -> None:
    """Without the scope there is no button to unload, and each page says why; nothing is asked that is refused."""
    ring = KeyRing(tmp_path)
    plain, _ = ring.create("ann", tenant="acme", now=time.time())
    operator, _ = ring.create("boss", tenant="staff", scopes=("operator",), now=time.time())
    refused = []
    with serving(ring=ring, local="keys") as site:
        page = visit(f"{site.url}/#/models")
        page.on("response", lambda response: refused.append(response.url) if response.status == 403 else None)
        page.get_by_label("Key", exact=True).fill(plain)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Load: toy").click()
        card = page.locator(".model", has_text="toy")
        expect(card.locator(".badge")).to_have_text("loaded")
        expect(page.locator(".limits")).to_contain_text("scope operator")
        expect(card.get_by_role("button")).to_have_count(0)
        for name in ("plugins", "results"):
            page.locator(f"nav a[data-page={name}]").click()
            expect(page.locator(".limits")).to_contain_text("scope operator")
        assert [] == refused
        page.get_by_role("button", name="Forget the key").click()
        page.get_by_label("Key", exact=True).fill(operator)
        page.keyboard.press("Enter")
        expect(page.locator(".empty:visible")).to_contain_text("llmos eval")
        page.locator("nav a[data-page=models]").click()
        expect(page.locator(".limits")).to_be_hidden()
        page.get_by_role("button", name="Unload: toy").click()

        expect(card.locator(".badge")).to_have_text("not loaded")


@pytest.mark.parametrize("name", ["chat", "overview", "tasks", "models", "plugins", "results"])
def test_nothing_is_wider_than_a_phone(visit: Visit, name: str) -> None:
    """No page scrolls sideways, however long the name of a model is, and none cuts it."""
    long = "qwen2.5-coder-32b-instruct-awq-int4-" * 3
    with serving(config={"models": (echo_spec(long),)}) as site:
        site.post(
            "/v1/chat/completions", model=long, messages=[{"role": "user", "content": "hello"}]
        ).raise_for_status()
        page = visit(f"{site.url}/#/{name}", viewport=PHONE)
        expect(page.locator("#link")).to_have_text("Connected")
        expect(page.locator("main .wait")).to_have_count(0)
        if name == "chat":
            expect(page.locator("#model")).to_have_value(long)
            modes, model = page.locator(".segments label").last.bounding_box(), page.locator("#model").bounding_box()
            assert modes is not None
            assert model is not None
            assert model["y"] + model["height"] <= modes["y"]
        elif name == "tasks":
            page.get_by_label("Model").select_option(long)

        for box in ("html", "main", ".talk" if name == "chat" else "main > *"):
            assert page.evaluate("box => document.querySelector(box).scrollWidth", box) <= PHONE["width"]
        shown = page.evaluate(WHOLE, long)
        assert (name in NAMING, True) == (bool(shown), all(shown))
