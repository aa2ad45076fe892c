"""The pictures of the dashboard in the documentation: ``python -m tests.browser.pictures [FOLDER]``.

A server with an echo model, which is slowed down, is asked many things; then a browser photographs each page, on a desk
and a phone, light and dark.  Those that the documentation shows are kept in ``docs/how-to/dashboard``; with a FOLDER
all of them are written there.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from llmos.testing import EchoBackend, echo_spec
from llmos_kernel.contracts import Plan
from plugins.server.tests.serving import Site, serving
from plugins.server.tests.test_evaluations import keep
from tests.browser import chromium
from tests.workspace import ROOT

DOCS = ROOT / "docs" / "how-to" / "dashboard"
SHOWN = ("tasks-desk-light-en", "overview-phone-dark-en")
PAGES = ("chat", "overview", "tasks", "models", "plugins", "results")
SIZES: dict[str, Any] = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
LONG = "qwen2.5-coder-32b-instruct-awq-int4-with-a-rather-long-name"
SHORT = "小模型"
WORDS = (40, 180, 90, 25, 300, 60, 140, 12)
"""Of what is asked, again and again, by somebody for each."""
PROMPT = "An operating system gives each program its share of a machine. llmos does the same for language models."
GIB = 2**30
SETTINGS = f'{{"logprobs": true, "model": "{LONG}"}}'
STEP = 0.03
"""Seconds that a step of the slowed model takes."""


@contextmanager
def busy() -> Iterator[Site]:
    """Serve models of which one is slow, with tasks that ended and tasks that run."""
    echo, end = EchoBackend(rows=4), threading.Event()
    specs = (echo_spec("echo", aliases=("parrot",), nbytes=4 * GIB), echo_spec(LONG, nbytes=5 * GIB), echo_spec(SHORT))
    with serving(echo=echo, config={"models": specs}) as site, tempfile.TemporaryDirectory() as name:
        site.app.state.home = Path(name)
        for number, (model, value) in enumerate((("echo", 62.5), (LONG, 81.0), (SHORT, 47.25))):
            keep(Path(name), f"2026010{number + 1}-1", model=model, value=value, low=value - 9, high=value + 8)

        def slow(number: int, plan: Plan) -> None:
            end.wait(STEP)

        echo.faults.on_step = slow
        asking = [threading.Thread(target=_ask, args=(site, words, end)) for words in WORDS]
        for thread in asking:
            thread.start()
        yield site
        end.set()
        for thread in asking:
            thread.join()


def _ask(site: Site, words: int, end: threading.Event) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": " ".join(["word"] * words)}]}
    with httpx.Client(base_url=site.url, timeout=120) as client:
        while not end.is_set():
            client.post("/v1/chat/completions", json=body)


def photograph(page: Page, name: str, settle: float) -> bytes:
    """Return a picture of the page of that name, as it is when it shows something; *settle* is in milliseconds."""
    page.evaluate("name => { location.hash = `#/${name}`; }", name)
    expect(page.locator(f"main.page-{name}")).to_be_visible()
    expect(page.locator("main .wait")).to_have_count(0)
    if name == "chat":
        expect(page.locator("#model")).to_have_value(LONG)
        page.locator("#message").fill(PROMPT)
        page.keyboard.press("Enter")
        expect(page.locator(".message.assistant .stats")).to_be_visible(timeout=60_000)
        page.locator(".token").nth(3).focus()
    page.wait_for_timeout(settle if name in ("overview", "tasks") else 300)
    return bytes(page.screenshot())


def pictures(browser: Browser, site: Site, only: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield each picture with its name; where *only* names some, those."""
    kinds = [(size, scheme, locale) for size in SIZES for scheme in ("light", "dark") for locale in ("en", "zh")]
    for size, scheme, locale in kinds:
        names = {f"{page}-{size}-{scheme}-{locale}": page for page in PAGES}
        wanted = {name: page for name, page in names.items() if not only or name in only}
        if not wanted:
            continue
        scale = 2 if size == "phone" else 1
        context = browser.new_context(
            viewport=SIZES[size], color_scheme=scheme, locale=locale, reduced_motion="reduce", device_scale_factor=scale
        )
        context.add_init_script(f"localStorage.setItem('llmos.settings', '{SETTINGS}')")
        page = context.new_page()
        page.goto(site.url)
        for name, place in wanted.items():
            yield name, photograph(page, place, 3000 if len(only) == 0 else 60_000)
        context.close()


def main(folder: Path, only: Collection[str]) -> None:
    """Write the pictures to *folder*, as small as WebP makes them."""
    found = chromium.find()
    if found is None:
        raise SystemExit("there is no Chromium on this machine, and no npm that could bring one")
    program, more = found
    folder.mkdir(parents=True, exist_ok=True)
    with busy() as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], env={**os.environ, **more})
        for name, picture in pictures(browser, site, only):
            Image.open(io.BytesIO(picture)).convert("RGB").save(folder / f"{name}.webp", quality=80, method=6)
        browser.close()


if __name__ == "__main__":
    main(*((Path(sys.argv[1]), ()) if len(sys.argv) > 1 else (DOCS, SHOWN)))
