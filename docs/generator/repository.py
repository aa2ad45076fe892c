"""Where the Markdown files of the repository stand in the site, and what their links become there.

A file is written for whoever reads it in the repository: its links are relative to where it lies.  In the site the same
links lead to the pages that were made of their targets; a link to a file that is no page (a licence, a test) becomes
its text.  A page takes a section of another file in with ``<!-- include: plugins/data/README.md#normalize -->``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from markdown.extensions.toc import slugify

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_INCLUDE = re.compile(r"^<!-- include: (\S+)#(\S+) -->$", re.MULTILINE)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


def outside() -> dict[str, str]:
    """Return the pages made of files outside of docs/: their place in the site, by path in the repository."""
    pages = {"kernel/README.md": "parts/kernel.md", "sdk/README.md": "parts/sdk.md"}
    for path in sorted(ROOT.glob("plugins/*/README.md")):
        pages[f"plugins/{path.parent.name}/README.md"] = f"parts/{path.parent.name}.md"
    pages |= {
        "plugins/tiny/MODEL_CARD.md": "parts/tiny-model-card.md", "plugin-template/README.md": "parts/template.md",
        "CONTRIBUTING.md": "project/contributing.md", "SECURITY.md": "project/security.md",
        "CHANGELOG.md": "project/changes.md",
    }  # fmt: skip
    return pages


def source_of(uri: str) -> str:
    """Return the path in the repository of the page at *uri* of the site."""
    made_of = {place: path for path, place in outside().items()}
    return made_of.get(uri, f"docs/{uri}")


def read(path: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / path).read_text("utf-8")


def for_site(text: str, uri: str, generated: frozenset[str]) -> str:
    """Return the Markdown *text* of the page at *uri* with its includes put in and its links led to pages."""
    text = _INCLUDE.sub(lambda found: _for_page(section(found[1], found[2]), found[1], uri, generated), text)
    return _for_page(text, source_of(uri), uri, generated)


def section(path: str, slug: str) -> str:
    """Return the section of a file whose heading has the anchor *slug*, without the heading; `KeyError` if none has."""
    text = read(path)
    bare = _FENCE.sub(lambda found: re.sub(r"[^\n]", "x", found[0]), text)
    headings = list(_HEADING.finditer(bare))
    for number, heading in enumerate(headings):
        if slugify(heading[2], "-") == slug:
            ends = (other.start() for other in headings[number + 1 :] if len(other[1]) <= len(heading[1]))
            return text[heading.end() : next(ends, len(text))].strip("\n")
    raise KeyError(f"{path} has no section {slug}")


def _for_page(text: str, path: str, uri: str, generated: frozenset[str]) -> str:
    places = outside() | {"README.md": "index.md"}

    def lead(link: re.Match[str]) -> str:
        mark, words, target = link.groups()
        if re.match(r"[a-z]+:|#|@", target):
            return link[0]
        name, _, anchor = target.partition("#")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        place = places.get(wanted, wanted.removeprefix("docs/"))
        is_page = wanted.startswith("docs/") and ((ROOT / wanted).exists() or place in generated)
        if wanted not in places and not is_page:
            return words
        relative = posixpath.relpath(place, posixpath.dirname(uri) or ".")
        return f"{mark}[{words}]({relative}{'#' if anchor else ''}{anchor})"

    return outside_of_code(text, lambda part: _LINK.sub(lead, part))


def outside_of_code(text: str, change: Callable[[str], str]) -> str:
    """Return *text* with *change* applied to what is outside of fenced blocks."""
    parts, at = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, change(text[at:])])
