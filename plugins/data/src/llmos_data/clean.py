"""The processor ``clean``: the text of HTML or Markdown, without what is not text, and without boilerplate if told.

HTML is read by Lexbor, which builds the tree that browsers build (HTML Living Standard, 13.2), Markdown by markdown-it
(CommonMark, with tables).  What comes later can change what a piece means, so as a post-processor it waits for the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import attrs
from selectolax.lexbor import LexborHTMLParser, LexborNode

from llmos import read_options
from llmos_data.texts import OnTexts, choice
from llmos_kernel.api import check_number, number, of_type
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Processor

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

api = 1
"""The version of the processor contract that this module is written for."""
_SILENT = set(
    "script style template noscript head svg math iframe object embed canvas video audio map select option datalist "
    "textarea button input".split()
)
"""Elements whose content nobody reads as text."""
_FURNITURE = set("nav header footer aside form menu dialog".split())
"""Elements that surround the text of a page."""
_PARAGRAPHS = set("p h1 h2 h3 h4 h5 h6 ul ol dl table blockquote pre article section main figure hr".split())
_LINES = set("div li dt dd tr br address figcaption caption body html thead tbody tfoot summary details nav".split())
_WHITE = re.compile(r"[ \t\n\r\f]+")
_BLOCKS = ("paragraph_", "heading_", "blockquote_", "table_")
"""Tokens of Markdown that end a paragraph."""
_LINKED, _FEW = 0.5, 20
"""A block of which more is in links, and that has fewer words outside, is boilerplate."""


@attrs.frozen(kw_only=True)
class Options:
    """What ``clean`` can be told."""

    source: Literal["html", "markdown"] = attrs.field(default="html", validator=choice("html", "markdown"))
    """What the text is written in."""
    boilerplate: bool = attrs.field(default=False, validator=of_type(bool, "true or false"))
    """Leave out navigation, headers, footers, forms and blocks of links of HTML, too."""
    limit: int = attrs.field(default=2**24, validator=number(1, 2**28))
    """Most characters of a text."""


@attrs.frozen
class Clean(OnTexts):
    """Takes the text out of HTML or Markdown."""

    name = "clean"
    options: Options

    def change(self, text: str) -> str:
        """Return the text.  Raises `InvalidArgument` for one that is too long."""
        check_number("characters of input", len(text), 0, self.options.limit)
        if self.options.source == "markdown":
            return _of_markdown(text)
        return _of_html(text, boilerplate=self.options.boilerplate)


@attrs.define
class _Lines:
    """Puts words, spaces and line ends together as a browser shows them: of several, the strongest counts."""

    parts: list[str] = attrs.field(factory=list)
    gap: str = ""
    """What stands before the next word, if one comes."""

    def words(self, text: str) -> None:
        """Add text in which white space is a space."""
        words = _WHITE.sub(" ", text)
        if words.startswith(" "):
            self.space()
        if words.strip(" "):
            self.literal(words.strip(" "))
            if words.endswith(" "):
                self.space()

    def literal(self, text: str) -> None:
        """Add text as it is."""
        if self.parts:
            self.parts.append(self.gap)
        self.gap = ""
        self.parts.append(text)

    def space(self) -> None:
        """Part two words."""
        self.gap = self.gap or " "

    def lines(self, count: int) -> None:
        """End the line, or with 2 the paragraph."""
        self.gap = max(self.gap.strip(" "), "\n" * count)

    def __str__(self) -> str:
        return "".join(self.parts)


def _of_html(text: str, *, boilerplate: bool) -> str:
    tree, lines = LexborHTMLParser(text), _Lines()
    if boilerplate:
        for block in [block for block in tree.css("div, ul, ol, p, table, section, td") if _is_links(block)]:
            block.decompose()
    silent = _SILENT | _FURNITURE if boilerplate else _SILENT
    todo: list[tuple[LexborNode | None, int, bool]] = [(tree.root, 0, False)]
    while todo:
        node, ends, exact = todo.pop()
        if node is None:
            lines.lines(ends)
            continue
        tag = node.tag or ""
        if node.is_text_node:
            content = node.text_content or ""
            lines.literal(content) if exact and content else lines.words(content)
        elif tag in silent or node.is_comment_node:
            lines.space()
        else:
            ends = 2 if tag in _PARAGRAPHS else 1 if tag in _LINES else 0
            lines.lines(ends) if ends else lines.space() if tag in ("td", "th") else None
            if tag == "li":
                lines.literal("- ")
            if ends:
                todo.append((None, ends, False))
            todo.extend((child, 0, exact or tag == "pre") for child in reversed([*_children(node)]))
    return str(lines)


def _children(node: LexborNode) -> Iterator[LexborNode]:
    child: LexborNode | None = node.child
    while child is not None:
        yield child
        child = child.next


def _is_links(node: LexborNode) -> bool:
    """Return whether *node* is a block of links (Kohlschütter et al., WSDM 2010: link density and number of words)."""
    whole = len(node.text().split())
    linked = sum(len(link.text().split()) for link in node.css("a"))
    return linked > 1 and linked / max(1, whole) > _LINKED and whole - linked < _FEW


@cache
def _reader() -> MarkdownIt:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only Markdown needs it

    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _of_markdown(text: str) -> str:
    lines = _Lines()
    numbers: list[int] = []
    for token in _reader().parse(text):
        match token.type:
            case "inline":
                _inline(token, lines)
            case "fence" | "code_block":
                lines.lines(2)
                lines.literal(token.content.rstrip("\n"))
                lines.lines(2)
            case "ordered_list_open" | "bullet_list_open":
                numbers.append(int(token.attrs.get("start", 1)) if token.type[0] == "o" else -1)
            case "ordered_list_close" | "bullet_list_close":
                numbers.pop()
            case "list_item_open":
                lines.lines(1)
                lines.literal("- " if numbers[-1] < 0 else f"{numbers[-1]}. ")
                numbers[-1] += numbers[-1] >= 0
            case "td_open" | "th_open":
                lines.space()
            case "tr_open" | "tr_close":
                lines.lines(1)
            case other if other.startswith(_BLOCKS) and not token.hidden:
                _end(other, lines)
    return str(lines)


def _end(kind: str, lines: _Lines) -> None:
    """End a paragraph; the mark of an item stays on the line of its text."""
    if not (kind.endswith("_open") and lines.parts and lines.gap == "" and lines.parts[-1].endswith(("- ", ". "))):
        lines.lines(2)


def _inline(token: Token, lines: _Lines) -> None:
    for child in token.children or ():
        match child.type:
            case "text":
                lines.words(child.content)
            case "code_inline":
                lines.literal(child.content)
            case "softbreak":
                lines.space()
            case "hardbreak":
                lines.lines(1)
            case "image":
                lines.words(child.content)


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a cleaning processor; *config* holds `Options`.  Raises `ConfigError`."""
    return Clean(read_options(Options, config, "processor:clean"))
