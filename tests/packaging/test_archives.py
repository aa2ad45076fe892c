"""What is in the wheels and source distributions, and what they say about themselves."""

from __future__ import annotations

import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.environments import META, wheel
from tests.workspace import DISTRIBUTIONS, Distribution

each = pytest.mark.parametrize("dist", DISTRIBUTIONS, ids=str)
every = pytest.mark.parametrize("dist", [META, *DISTRIBUTIONS], ids=lambda dist: dist.name)


def names(archive: Path) -> set[str]:
    """Return the names of the files of a wheel."""
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def metadata(archive: Path) -> Message:
    """Return the metadata of a wheel."""
    with zipfile.ZipFile(archive) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(opened.read(name).decode())


@each
def test_wheel_holds_the_package_alone(dist: Distribution, built: dict[str, Path]) -> None:
    """A wheel holds one package with its types, and no tests, caches or sources of anything else."""
    files = names(wheel(built, dist.name))
    tops = {name.partition("/")[0] for name in files}

    assert {dist.package, f"{dist.name.replace('-', '_')}-{version(dist, built)}.dist-info"} == tops
    assert f"{dist.package}/py.typed" in files
    ours = [name for name in files if not name.startswith("llmos/plugin-template/")]  # which has the tests of others
    assert [name for name in ours if "/tests/" in name or "__pycache__" in name] == []


@each
def test_wheel_is_complete(dist: Distribution, built: dict[str, Path]) -> None:
    """Every module of the source folder is in the wheel."""
    modules = {path.relative_to(dist.folder / "src").as_posix() for path in dist.modules}

    assert set() == modules - names(wheel(built, dist.name))


def version(dist: Distribution, built: dict[str, Path]) -> str:
    """Return the version that the wheel states."""
    return str(metadata(wheel(built, dist.name))["Version"])


@every
def test_metadata(dist: Distribution, built: dict[str, Path]) -> None:
    """Licence, Python and description are stated, and the licence's text is inside."""
    archive = wheel(built, dist.name)
    stated = metadata(archive)

    assert ("Apache-2.0", ">=3.11") == (stated["License-Expression"], stated["Requires-Python"])
    assert stated["Summary"]
    assert len(str(stated.get_payload())) > 200
    assert [name for name in names(archive) if name.endswith("dist-info/licenses/LICENSE")] != []


@every
def test_no_torch(dist: Distribution, built: dict[str, Path]) -> None:
    """Nothing that is published requires torch or transformers; only training does, in an extra of that name."""
    lines = metadata(wheel(built, dist.name)).get_all("Requires-Dist") or []
    wanted = {
        requirement.name
        for requirement in map(Requirement, lines)
        for extra in ("", "all", "cpu", "gpu")
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    }

    assert set() == wanted & {"torch", "transformers"}


@every
def test_source_distribution(dist: Distribution, built: dict[str, Path]) -> None:
    """A source distribution can be built and tested by itself, and is not swollen by what lies around."""
    (path,) = built[dist.name].glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= files
    assert [name for name in files if name.startswith((".tox", ".venv", "dist/")) or "__pycache__" in name] == []
    assert path.stat().st_size < 16e6
