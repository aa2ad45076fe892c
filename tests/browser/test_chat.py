"""The playground, as somebody uses it."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from llmos_kernel.errors import ModelUnavailable
from plugins.server.tests.serving import Site
from tests.browser.conftest import PHONE, Visit

ANSWER = ".message.assistant .said"


def ask(page: Page, text: str) -> None:
    """Type *text* and send it."""
    expect(page.locator("#model")).to_have_value("echo")
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")


def halt(site: Site, step: int) -> None:
    """Have the echo model wait before its step of that number."""
    site.echo.faults.on_step = lambda number, plan: site.echo.gate.shut() if number == step else None


def test_an_answer_streams_and_stops(site: Site, visit: Visit) -> None:
    """Its first words are there before its last; stopping keeps them, and cancels the task."""
    halt(site, 3)
    page = visit(site.url)
    ask(page, "one two three four five")
    expect(page.locator(ANSWER)).to_contain_text("one")
    expect(page.locator(ANSWER)).not_to_contain_text("five")
    page.get_by_role("button", name="Stop").click()

    expect(page.locator(".message.assistant .stats")).to_contain_text("stopped by you")
    expect(page.locator(ANSWER)).to_contain_text("one")
    page.get_by_role("link", name="Tasks").click()
    expect(page.locator(".task .badge")).to_have_text("cancelled")


def test_escape_stops(site: Site, visit: Visit) -> None:
    """Wherever the focus is on the page; then one can ask again."""
    halt(site, 3)
    page = visit(site.url)
    ask(page, "one two three four five")
    expect(page.locator(ANSWER)).to_contain_text("one")
    page.keyboard.press("Escape")
    expect(page.locator(".message.assistant .stats")).to_contain_text("stopped by you")
    site.echo.faults.on_step = None
    site.echo.gate.open()
    page.get_by_role("button", name="Regenerate").click()

    expect(page.locator(ANSWER)).to_contain_text("five")
    expect(page.locator(".message.assistant .stats")).to_contain_text("5 tokens")


def test_the_history_is_kept_and_deleted(site: Site, visit: Visit) -> None:
    """In this browser; markup that somebody says stays text."""
    page = visit(site.url)
    ask(page, "<img src=x onerror=alert(1)> &amp; hello")
    expect(page.locator(".message.assistant .stats")).to_be_visible()
    page.reload()
    page.locator(".chats .open").click()
    expect(page.locator(".message.user .said")).to_have_text("<img src=x onerror=alert(1)> &amp; hello")
    page.get_by_role("button", name="Delete “").click()

    expect(page.locator(".chats .open")).to_have_count(0)
    page.reload()
    expect(page.locator(".chats .muted")).to_be_visible()


def test_parameters_are_sent(site: Site, visit: Visit) -> None:
    """And kept; those that are empty are the server's to choose."""
    page = visit(site.url)
    page.get_by_label("Most tokens").fill("2")
    page.get_by_label("Stop at").fill("never")
    page.get_by_label("System prompt").fill("be brief")
    with page.expect_request("**/chat/completions") as sent:
        ask(page, "one two three four")
    body = sent.value.post_data_json
    expect(page.locator(".message.assistant .stats")).to_contain_text("cut at the token limit")
    page.reload()

    assert {"model", "messages", "max_tokens", "stop", "stream", "stream_options"} == body.keys()
    assert ([2, ["never"]], "system") == ([body["max_tokens"], body["stop"]], body["messages"][0]["role"])
    expect(page.get_by_label("Most tokens")).to_have_value("2")


def test_tokens_tell_how_likely_they_were(site: Site, visit: Visit) -> None:
    """By pointer and by arrow keys, with one tab stop."""
    page = visit(site.url)
    page.get_by_label("Show how likely each token was").check()
    ask(page, "one two three")
    expect(page.locator(".token")).to_have_count(3)
    page.locator(".token").nth(0).focus()
    page.keyboard.press("ArrowRight")
    told = page.locator(".told-token").inner_text()

    expect(page.locator(".token").nth(1)).to_be_focused()
    assert "two" in told
    assert "100 %" in told
    assert 1 == page.locator(".token[tabindex='0']").count()


def test_a_text_is_continued(site: Site, visit: Visit) -> None:
    """The prompt stays, and takes the answer up."""
    page = visit(site.url)
    page.get_by_role("radio", name="Completion").check()
    expect(page.locator("#model")).to_have_value("echo")
    page.locator("#message").fill("a b")
    page.keyboard.press("Control+Enter")
    page.get_by_role("button", name="Add to the text").click()

    expect(page.locator("#message")).to_have_value("a ba b")


def test_a_field_that_is_wrong_is_named(site: Site, visit: Visit) -> None:
    """The step that helps leads to it."""
    page = visit(site.url)
    page.get_by_label("Temperature").fill("5")
    ask(page, "hello")
    expect(page.locator(".failure")).to_contain_text("temperature")
    page.get_by_role("button", name="Change the settings").click()

    expect(page.get_by_label("Temperature")).to_be_focused()


def test_a_model_that_cannot_be_loaded(site: Site, visit: Visit) -> None:
    """The error says where to look; trying again works when it can."""
    site.echo.faults.load = ModelUnavailable("echo is broken", model="echo")
    page = visit(site.url)
    ask(page, "hello")
    expect(page.locator(".failure")).to_contain_text("not available")
    site.echo.faults.load = None
    page.get_by_role("button", name="Regenerate").click()

    expect(page.locator(ANSWER)).to_have_text("hello")


def test_the_server_is_not_there(site: Site, visit: Visit) -> None:
    """The page says so, and goes on when it is."""
    page = visit(site.url)
    expect(page.locator("#model")).to_have_value("echo")
    page.context.set_offline(True)
    ask(page, "hello")
    expect(page.locator(".failure")).to_contain_text("cannot be reached")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()

    expect(page.locator(ANSWER)).to_have_text("hello")


def test_words_of_an_input_method_are_not_sent(site: Site, visit: Visit) -> None:
    """The Enter that ends a word of Pinyin is the input method's."""
    page = visit(site.url)
    expect(page.locator("#model")).to_have_value("echo")
    page.locator("#message").fill("你好")
    page.evaluate(
        "document.querySelector('#message').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    expect(page.locator(".message")).to_have_count(0)
    page.keyboard.press("Enter")

    expect(page.locator(ANSWER)).to_have_text("你好")


def test_on_a_phone_the_sides_are_sheets(site: Site, visit: Visit) -> None:
    """They open, take what is typed, and close; nothing is wider than the screen."""
    page = visit(site.url, viewport=PHONE, has_touch=True)
    expect(page.get_by_label("Most tokens")).to_be_hidden()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Most tokens").fill("3")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Most tokens")).to_be_hidden()
    ask(page, "one two three four five")

    expect(page.locator(".message.assistant .stats")).to_contain_text("3 tokens")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
