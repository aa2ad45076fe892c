"""The plugin template makes packages of every kind that install, are found, and pass tests, lint and types."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from llmos_kernel import API
from tests.workspace import AS_CALLER, ROOT, llmos, run

TEMPLATE = ROOT / "plugin-template"
KINDS = sorted(API)


def path_with(folder: Path) -> str:
    """Return the import path with *folder* before everything else."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@attrs.frozen
class Generated:
    """A plugin of every kind, made by the command line, and a folder in which their wheels are installed."""

    root: Path
    site: Path

    def folder(self, kind: str) -> Path:
        """Return the folder of one."""
        return self.root / f"llmos-loud-{kind}"

    def run(self, *program: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a Python program where the plugins are installed."""
        settings = {"PYTHONPATH": path_with(self.site), "MYPYPATH": str(self.site)}
        return run(sys.executable, "-m", *program, cwd=cwd or self.root, settings=settings)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """Make them, build their wheels, and install these."""
    root = tmp_path_factory.mktemp("plugins")
    made = Generated(root, root / "site")
    for kind in KINDS:
        done = llmos("plugins", "new", kind, f"loud-{kind}", cwd=root)

        assert done.returncode == 0, done.stderr
        built = run(
            sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", root / "wheels", cwd=made.folder(kind)
        )

        assert built.returncode == 0, built.stderr
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", made.site]
    installed = run(*pip, *(root / "wheels").glob("*.whl"), cwd=root, settings=AS_CALLER)

    assert installed.returncode == 0, installed.stderr
    return made


def test_the_template_asks_for_every_kind() -> None:
    """Whatever a plugin can be, the template begins one."""
    choices = re.findall(r'^    "\w+: .+": (\w+)$', (TEMPLATE / "copier.yml").read_text("utf-8"), re.MULTILINE)

    assert KINDS == sorted(choices)


@pytest.mark.parametrize("kind", KINDS)
def test_is_complete(kind: str, generated: Generated) -> None:
    """Each is a package with its sources, tests, description, licence and CI; nothing of the template is left in it."""
    folder = generated.folder(kind)
    parts = [
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".gitignore",
        ".github/workflows/ci.yml",
        f"tests/test_{kind}.py",
    ]

    assert [] == [part for part in parts if not (folder / part).is_file()]
    assert (ROOT / "LICENSE").read_text("utf-8") == (folder / "LICENSE").read_text("utf-8")
    texts = [path for path in folder.rglob("*") if path.is_file() and path.name != "ci.yml"]
    assert [] == [path for path in texts if "{{" in path.read_text("utf-8") + path.name or path.suffix == ".jinja"]


@pytest.mark.parametrize("kind", KINDS)
def test_passes_its_own_tests(kind: str, generated: Generated) -> None:
    """Installed from its wheel, it is found, and keeps the contract of its kind."""
    done = generated.run("pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", cwd=generated.folder(kind))

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_lint(generated: Generated) -> None:
    """As generated, they are formatted and pass the rules that they bring."""
    folders = [str(generated.folder(kind)) for kind in KINDS]
    for command in (["check"], ["format", "--diff"]):
        done = generated.run("ruff", *command, *folders)

        assert done.returncode == 0, done.stdout + done.stderr


def test_types(generated: Generated) -> None:
    """As generated, they pass mypy with the settings that they bring; one run for all, which bring the same."""
    folders = [generated.folder(kind) for kind in KINDS]
    parts = [str(folder / part) for folder in folders for part in ("src", "tests")]
    settings = ["--config-file", str(folders[0] / "pyproject.toml"), "--cache-dir", str(generated.root / "cache")]
    done = generated.run("mypy", *settings, *parts)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Loud Voice", "1st", "two--hyphens", "-", "ü"])
def test_refuses_a_bad_name(name: str, tmp_path: Path) -> None:
    """A name that cannot be a package is refused before anything is written, with what would be right."""
    done = llmos("plugins", "new", "--", "processor", name, cwd=tmp_path)

    assert (done.returncode, "digits" in done.stderr) == (1, True), done.stderr
    assert [] == list(tmp_path.iterdir())


def test_overwrites_nothing(tmp_path: Path) -> None:
    """A folder that is there is somebody's."""
    (tmp_path / "llmos-loud").mkdir()
    (tmp_path / "llmos-loud" / "mine").touch()
    done = llmos("plugins", "new", "store", "loud", cwd=tmp_path)

    assert (done.returncode, "llmos-loud" in done.stderr) == (1, True), done.stderr
    assert ["mine"] == [path.name for path in (tmp_path / "llmos-loud").iterdir()]


def test_without_copier(tmp_path: Path) -> None:
    """Where copier is not installed, the error says how to install it."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "copier.py").write_text("raise ModuleNotFoundError(name='copier')", "utf-8")
    done = llmos(
        "plugins", "new", "store", "loud", cwd=tmp_path, settings={"PYTHONPATH": path_with(tmp_path / "hidden")}
    )

    assert (done.returncode, "pip install" in done.stderr) == (3, True), done.stderr
    assert "Traceback" not in done.stderr
