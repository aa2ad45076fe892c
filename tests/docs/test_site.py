"""The site builds without a warning, needs no network, and its generated pages say everything that there is."""

from __future__ import annotations

import inspect
import json
import re
import sys
from html import unescape
from pathlib import Path

import attrs
import click
import pytest

from docs.generator.reference import pages
from llmos import _settings
from llmos.cli import COMMANDS, cli
from llmos_kernel import KernelConfig, control, errors, hookspecs
from llmos_kernel.errors import KernelError
from tests.workspace import PLUGINS, ROOT, python, run

EXTERNAL = re.compile(r"<(?:link[^>]*rel=\"?stylesheet[^>]*href|script[^>]*src|img[^>]*src)=\"?(https?:)?//")

QUIET = {"NO_MKDOCS_2_WARNING": "1"}
"""The theme announces its successor on every build."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; links and anchors that lead nowhere are warnings, and warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    done = run(
        sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder, cwd=ROOT, settings=QUIET
    )

    assert (0, "") == (done.returncode, done.stdout + done.stderr)
    return folder


def text_of(site: Path, page: str) -> str:
    """Return what a reader of a page sees."""
    return unescape(re.sub(r"<[^>]+>", "", (site / page).read_text("utf-8")))


def test_needs_no_network(site: Path) -> None:
    """No page fetches a font, a style, a script or a picture from elsewhere."""
    assert [] == [path.name for path in site.rglob("*.html") if EXTERNAL.search(path.read_text("utf-8"))]


def test_every_part_has_a_page(site: Path) -> None:
    """Each distribution's README is a page."""
    assert [] == [part.folder.name for part in PLUGINS if not (site / "parts" / f"{part.folder.name}.html").exists()]


@pytest.mark.parametrize("name", sorted(hookspecs.HOOKS.values()))
def test_hooks(site: Path, name: str) -> None:
    """Each hook is described with its exact arguments and what it returns."""
    signature = str(inspect.signature(getattr(hookspecs, name))).replace("'", "")

    assert f"def {name}{signature}: ..." in text_of(site, "reference/hooks.html")


def test_errors(site: Path) -> None:
    """Each error has its place in the tree and a description."""
    kinds = [name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, KernelError)]
    page = (site / "reference" / "errors.html").read_text("utf-8")

    assert [] == [name for name in kinds if f'id="llmos_kernel.errors.{name}"' not in page]


def test_control_messages(site: Path) -> None:
    """Each message has a row with its arguments, and the example of the page runs."""
    found = [name for name, kind in vars(control).items() if attrs.has(kind) and issubclass(kind, control.Request)]
    page = text_of(site, "reference/control.html")
    example = pages()["reference/control.md"]().partition("```python\n")[2].partition("```")[0]
    done = python(example, cwd=site)

    assert [] == [name for name in found if not name.startswith("_") and f"{name}(" not in page]
    assert "InspectTask(id)" in page
    assert (0, "unloaded\n") == (done.returncode, done.stdout), done.stderr


def test_settings(site: Path) -> None:
    """Each key of the file is in the table, and each that a kernel may be told."""
    page = (site / "reference" / "settings.html").read_text("utf-8")
    keys = {*_settings._readers(Path()), *attrs.fields_dict(KernelConfig)}

    assert [] == [key for key in sorted(keys) if f"<code>{key}</code>" not in page]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_commands(site: Path, name: str) -> None:
    """Each command and each of its options is described."""
    command = cli.get_command(click.Context(cli, info_name="llmos"), name)
    assert command is not None
    page = text_of(site, "reference/cli.html")

    assert [] == [option for option in options(command) if option not in page]


def options(command: click.Command) -> list[str]:
    """Return the long options of *command* and of the commands in it."""
    inner = list(command.commands.values()) if isinstance(command, click.Group) else []
    own = [option for param in command.params for option in param.opts if option.startswith("--")]
    return own + [option for one in inner for option in options(one)]


def test_plugins_lead_to_their_parts(site: Path) -> None:
    """Each plugin has its state, and a link to the page of the distribution that brings it."""
    page = (site / "reference" / "plugins.html").read_text("utf-8")
    parts = {part.folder.name for part in PLUGINS if part.pyproject["project"].get("entry-points")}

    assert set() == {part for part in parts if f'href="../parts/{part}.html"' not in page}


def test_chinese_can_be_searched(site: Path) -> None:
    """Text without spaces is cut where the index and the question are cut alike: at every character."""
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))

    assert ["调", "度", "器", "和", "fair"] == re.split(index["config"]["separator"], "调度器和 fair")


def test_pages_say_their_language(site: Path) -> None:
    """Chinese pages say that they are Chinese, and the others that they are English."""
    said = {path: "zh" in path.relative_to(site).parts for path in site.glob("*/**/*.html")}

    wanted = {True: '<html lang="zh-Hans"', False: '<html lang="en"'}
    assert [] == [path for path, chinese in said.items() if wanted[chinese] not in path.read_text("utf-8")]


def test_generated_pages_are_in_the_navigation() -> None:
    """No page of the reference is made and then not found."""
    text = (ROOT / "mkdocs.yml").read_text("utf-8")

    assert [] == [page for page in pages() if page not in text]
