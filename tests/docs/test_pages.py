"""The pages of the site: what they show is what happens, in every language they are written in."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmos_kernel import hookspecs
from tests.documents import Block, blocks, pages
from tests.workspace import ROOT, llmos, python, run

PLUGINS = ROOT / "docs" / "tutorials" / "plugins"
CODE = ("python", "console", "toml", "json", "csv", "output", "sh")
SHOWN = (*CODE, "diff", "text")


def write_files(page: Path, folder: Path) -> None:
    """Write the files that *page* shows, and install what its pyproject.toml announces: pip would write the same."""
    for block in blocks(page, *CODE):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")
    if (folder / "pyproject.toml").exists():
        install(folder)


def install(folder: Path) -> None:
    """Write the metadata of the distribution in *folder* beside its modules."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {one}\n" for one in project["dependencies"])
    header = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(header + needs, "utf-8")
    groups = (f"[{group}]\n" + "".join(f"{name} = {point}\n" for name, point in points.items()) for group, points
              in project["entry-points"].items())  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(groups), "utf-8")


def settings(folder: Path) -> dict[str, str]:
    """Return an environment in which the modules of *folder* can be imported, as if they were installed."""
    path = [str(folder), str(folder / "src"), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_page(page: Path, tmp_path: Path, folders: dict[str, Path]) -> None:
    """The examples of a page run in order, as one program, and print what the page says."""
    for name, folder in folders.items():
        (tmp_path / name).symlink_to(folder)
    write_files(page, tmp_path)
    shown = blocks(page, "python", "console", "output")
    scripts = [block for block in shown if block.language == "python" and not block.title and not block.not_run]
    done = python("\n".join(block.text for block in scripts), cwd=tmp_path, settings=settings(tmp_path))

    assert done.returncode == 0, done.stderr
    printed = "\n" + "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"
    for block in shown:
        if block.language == "output":
            _, found, printed = printed.partition(f"\n{block.text.rstrip()}\n")
            printed = f"\n{printed}"
            assert found, f"{block}: not in {done.stdout!r}"
    for line in commands(shown):
        done = llmos(*shlex.split(line), cwd=tmp_path, settings=settings(tmp_path))
        assert done.returncode == 0, f"{line}: {done.stderr}"


def commands(shown: list[Block]) -> Iterator[str]:
    """Yield the arguments of each line that runs llmos."""
    for block in shown:
        if block.language == "console" and not block.not_run:
            lines = (line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ "))
            yield from (line.removeprefix("llmos ") for line in lines if line.startswith("llmos "))


def test_conformance_of_the_first_plugins(tmp_path: Path) -> None:
    """The plugins of the tutorials pass the tests that the tutorials give them."""
    tested = [page for page in pages() if any(block.title.startswith("test_") for block in blocks(page, "python"))]
    for page in tested:
        folder = tmp_path / page.stem
        folder.mkdir()
        for block in blocks(page, "python"):
            if block.title:
                (folder / block.title).write_text(block.text, "utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "--rootdir",
        tmp_path,
    ]
    done = run(*command, tmp_path, cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert len(tested) >= 8


@pytest.mark.parametrize("kind", sorted(hookspecs.HOOKS))
def test_each_hook_has_a_first_plugin(kind: str) -> None:
    """The page of each kind shows its hook with the arguments that it really has."""
    hook = hookspecs.HOOKS[kind]
    wanted = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    shown = [ast.parse(block.text) for block in blocks(PLUGINS / f"{kind}.md", "python")]
    functions = [node for tree in shown for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = [[one.arg for one in node.args.args if one.arg != "self"] for node in functions if node.name == hook]

    assert [wanted] == found


TRANSLATED = sorted(ROOT.glob("docs/zh/**/*.md"))


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_translation(page: Path) -> None:
    """A translated page has the examples of the page it translates; only comments may differ."""
    original = ROOT / "docs" / page.relative_to(ROOT / "docs" / "zh")

    assert [same(block) for block in blocks(original, *SHOWN)] == [same(block) for block in blocks(page, *SHOWN)]


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_translation_is_whole(page: Path) -> None:
    """A translated page has as many headings, tables' rows, items and paragraphs as the page it translates."""
    original = ROOT / "docs" / page.relative_to(ROOT / "docs" / "zh")

    assert shape(original) == shape(page)


FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"#+ |\||- |\d+\. |`$")


def shape(page: Path) -> list[tuple[str, int]]:
    """Return the parts of *page* in order: the mark of a heading, table, list or block, or none; lines that have it."""
    parts = re.split(r"\n{2,}", FENCE.sub("`", page.read_text("utf-8")).strip())
    marks = [(found[0] if (found := MARK.match(part)) else "", part) for part in parts]
    return [(mark, sum(line.startswith(mark) for line in part.splitlines()) if mark else 1) for mark, part in marks]


def test_tutorials_are_translated() -> None:
    """Every tutorial is there in Chinese."""
    tutorials = {path.relative_to(ROOT / "docs") for path in pages() if "tutorials" in path.parts}

    assert tutorials == {path.relative_to(ROOT / "docs" / "zh") for path in TRANSLATED}


def same(block: Block) -> tuple[str, str, str]:
    """Return what must be equal in two languages: Python without its comments, everything else as it is."""
    text = ast.dump(ast.parse(block.text)) if block.language == "python" else block.text
    return block.language, block.title, text
