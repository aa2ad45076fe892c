"""The dashboard as it is served: what comes, under which rules, and what a browser keeps."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest

from llmos import KeyRing
from llmos_server.guards import OPEN
from llmos_server.web import ASSETS
from plugins.server.tests.serving import Site, serving

ELSEWHERE = re.compile(rb"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}""")
NAMESPACE = b"http://www.w3.org/2000/svg"
IMPORT = re.compile(r'from "(\.[^"]+)"')
each_asset = pytest.mark.parametrize("path", sorted(ASSETS))


def page(site: Site) -> httpx.Response:
    """Return the page."""
    return site.http.get("/").raise_for_status()


@each_asset
def test_every_file_is_safe(site: Site, path: str) -> None:
    """Each file comes with a type, a tag, and the rule that nothing comes from elsewhere or is written into a page."""
    response = site.http.get(path)

    assert 200 == response.status_code
    assert response.headers["content-type"].partition(";")[0] in {
        "text/html", "text/css", "text/javascript", "image/svg+xml",
    }  # fmt: skip
    assert "nosniff" == response.headers["x-content-type-options"]
    rules = response.headers["content-security-policy"].split("; ")
    assert "default-src 'self'" == rules[0]
    assert "frame-ancestors 'none'" in rules
    assert "unsafe" not in response.headers["content-security-policy"]


@each_asset
def test_nothing_is_fetched_from_elsewhere(path: str) -> None:
    """No file names another machine, but for the namespace of SVG."""
    assert [] == ELSEWHERE.findall(ASSETS[path].content.replace(NAMESPACE, b""))


def test_the_page_has_no_script_or_style_of_its_own(site: Site) -> None:
    """The policy would refuse them; all that the page names is there."""
    text = page(site).text
    named = re.findall(r'(?:src|href)="([^"]+)"', text)

    assert re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text) is None
    assert 5 <= len(named)
    assert {200} == {site.http.get(path).status_code for path in named}


def test_modules_find_each_other() -> None:
    """What a module imports is served, by a name relative to it."""
    for path, asset in ASSETS.items():
        if path.endswith(".js"):
            folder = Path(path).parent
            for name in IMPORT.findall(asset.content.decode()):
                parts = (folder / name).as_posix()
                while "/../" in parts:
                    parts = re.sub(r"[^/]+/\.\./", "", parts, count=1)

                assert parts in ASSETS


def test_the_page_is_asked_for_again_and_the_rest_kept(site: Site) -> None:
    """What the page names has an address of its own contents, so it never changes there."""
    first = page(site)
    script = re.search(r'src="(/web/[0-9a-f]{16}/app\.js)"', first.text)

    assert script is not None
    assert "no-cache" == first.headers["cache-control"]
    assert "public, max-age=31536000, immutable" == site.http.get(script[1]).headers["cache-control"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_what_a_browser_has_is_not_sent_again(site: Site, form: str) -> None:
    """304 without a body, with the same tag and rules."""
    tag = page(site).headers["etag"]
    again = site.http.get("/", headers={"if-none-match": form.format(tag)})

    assert (304, b"", tag) == (again.status_code, again.content, again.headers["etag"])
    assert "content-security-policy" in again.headers


def test_another_tag_gets_the_page(site: Site) -> None:
    """So does one that is none."""
    for tag in ('"other"', "x", '""', ""):
        assert 200 == site.http.get("/", headers={"if-none-match": tag}).status_code


def test_only_reading(site: Site) -> None:
    """HEAD tells what GET would; nothing else is answered, and nothing but the files is there."""
    head, got = site.http.head("/"), page(site)

    assert (200, b"") == (head.status_code, head.content)
    assert (got.headers["etag"], got.headers["content-length"]) == (
        head.headers["etag"],
        head.headers["content-length"],
    )
    assert 405 == site.http.post("/").status_code
    for path in ("/web/", "/web/../web.py", "/web/0000000000000000/app.js", "/index.html", "/web/%2e%2e/web.py"):
        assert 404 == site.http.get(path).status_code


def test_files_need_no_key_and_data_does(tmp_path: Path) -> None:
    """The page can ask for the key, because it is there without one."""
    ring = KeyRing(tmp_path)
    ring.create("ann", tenant="acme", now=time.time())
    with serving(ring=ring, local="keys") as site:
        found = {path: site.http.get(path).status_code for path in ASSETS}
        refused = [site.http.get(f"/v1/llmos/{name}").status_code for name in ("models", "tasks", "plugins", "stats")]

    assert {200} == set(found.values())
    assert {401} == set(refused)
    assert OPEN - ASSETS.keys() == {"/health"}
