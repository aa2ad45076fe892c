"""``/``: the dashboard, which is files of this package and tells nothing, so it needs no key.

The page is asked for again each time.  All that it needs lies under an address that names its contents, so a browser
keeps that for ever and never mixes the modules of two versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath

import attrs
from fastapi import APIRouter, Request
from starlette.responses import Response

router = APIRouter(include_in_schema=False)
TYPES = {
    ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}  # fmt: skip
FOR_EVER = "public, max-age=31536000, immutable"
PAGE = "index.html"
BASE = "{base}"
"""What stands in the page for the address of everything else."""
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, no script or style within a page, and no text that becomes markup (CSP level 3)."""
SAFE = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip


@attrs.frozen
class Asset:
    """A file, as it is sent."""

    content: bytes
    media_type: str
    cache: str
    etag: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "etag", f'"{hashlib.sha256(self.content).hexdigest()[:32]}"')

    def response(self, asked: str) -> Response:
        """Return the answer to who has what ``If-None-Match`` says: nothing new, or the file (RFC 9110, 13.1.2)."""
        headers = {**SAFE, "ETag": self.etag, "Cache-Control": self.cache}
        have = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
        if have & {self.etag, "*"}:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _walk(item, f"{prefix}{item.name}/")
        elif PurePath(item.name).suffix in TYPES:
            yield prefix + item.name, item.read_bytes()


def _asset(name: str, content: bytes, cache: str) -> Asset:
    return Asset(content, TYPES[PurePath(name).suffix], cache)


def read() -> Mapping[str, Asset]:
    """Return the dashboard's files, by the path that they are asked for under."""
    found = dict(_walk(files("llmos_server") / "web"))
    page = found.pop(PAGE)
    parts = [part for name in found for part in (name.encode(), found[name])]
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).hexdigest()[:16]
    assets = {f"/web/{digest}/{name}": _asset(name, content, FOR_EVER) for name, content in found.items()}
    shell = page.replace(BASE.encode(), f"/web/{digest}".encode())
    return {"/": _asset(PAGE, shell, "no-cache"), **assets}


ASSETS = read()
"""Read once: a server goes on with the dashboard that it started with."""


async def asset(request: Request) -> Response:
    """Send a file of the dashboard."""
    return ASSETS[request.url.path].response(request.headers.get("if-none-match", ""))


for _path in ASSETS:
    router.add_api_route(_path, asset, methods=["GET", "HEAD"])
