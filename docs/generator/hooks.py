"""What mkdocs calls while it builds the site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generator import repository
from docs.generator.reference import pages

_GENERATED = frozenset(pages())


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages made of READMEs into the navigation, so that a new plugin needs no line there."""
    nav: Any = config.nav
    for section in nav:
        for title, entries in section.items():
            folder = {"Parts": "parts/", "Project": "project/"}.get(title)
            if folder:
                entries.extend(place for place in repository.outside().values() if place.startswith(folder))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/."""
    for uri, text in _texts():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of the repository to pages of the site; beside the first page is nothing to choose from."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation", "toc"]
    return repository.for_site(markdown, page.file.src_uri, _GENERATED)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Say in which language a page is: browsers choose their fonts for Chinese by it."""
    chinese = page.file.src_uri.startswith("zh/")
    return output.replace('<html lang="en"', '<html lang="zh-Hans"', 1) if chinese else output


def _texts() -> Iterator[tuple[str, str]]:
    for path, uri in repository.outside().items():
        yield uri, repository.read(path)
    for uri, make in pages().items():
        yield uri, make()
