"""What people install works: in an empty environment, from the wheels, away from the sources."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.documents import blocks, commands
from tests.packaging.environments import META, Environment, new_environment, wheel
from tests.workspace import AS_CALLER, DISTRIBUTIONS, ROOT, RUNTIME, run, tracked


@pytest.fixture(scope="module")
def standard(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The standard set from its wheels, with a runtime."""
    environment = new_environment(tmp_path_factory.mktemp("standard"))
    wheels = [str(wheel(built, dist.name)) for dist in [META, *DISTRIBUTIONS]]
    environment.install(*wheels, f"llmos-onnx[{RUNTIME}]")
    return environment


def test_standard_set_is_consistent(standard: Environment) -> None:
    """What the parts require fits together."""
    done = standard.run("python", "-m", "pip", "check")

    assert done.returncode == 0, done.stdout


def test_standard_set_is_light(standard: Environment) -> None:
    """The standard set needs neither torch nor transformers, and one runtime only."""
    assert set() == standard.installed() & {"torch", "transformers", "onnxruntime"}


@pytest.mark.parametrize("argument", ["--help", "version", "plugins list", "models list", "doctor"])
def test_command_line(standard: Environment, argument: str) -> None:
    """The command line answers."""
    done = standard.run("llmos", *argument.split())

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.strip()


def test_generate(standard: Environment) -> None:
    """The bundled model writes."""
    done = standard.run("llmos", "generate", "The quick brown fox")

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "shortest-prompt"
version = "1.0"
dependencies = ["llmos-kernel"]

[project.entry-points."llmos.scheduler"]
shortest-prompt = "shortest_prompt"

[tool.setuptools]
py-modules = ["shortest_prompt"]
"""


def test_a_scheduler_of_ones_own(standard: Environment, tmp_path: Path) -> None:
    """The scheduler that a README writes is installed like any package, and then chosen by its name."""
    readme = ROOT / "plugins" / "schedulers" / "README.md"
    (source,) = (block.text for block in blocks(readme, "python") if "class ShortestPrompt" in block.text)
    (tmp_path / "shortest_prompt.py").write_text(source, "utf-8")
    (tmp_path / "pyproject.toml").write_text(PROJECT, "utf-8")
    standard.install(str(tmp_path))
    prompt = ("generate", "The quick brown fox", "--max-tokens", "4")
    done = standard.run("llmos", "--scheduler", "shortest-prompt", *prompt)
    misspelt = standard.run("llmos", "--scheduler", "shortest-promt", *prompt)

    assert 0 == done.returncode, done.stderr
    assert done.stdout.strip()
    assert len(source.splitlines()) <= 50, "its imports and blank lines included"
    assert 3 == misspelt.returncode
    assert "shortest-prompt" in misspelt.stderr


def test_types_are_shipped(standard: Environment) -> None:
    """Each installed package says that it is typed."""
    code = "import importlib.util as u, sys; print(*u.find_spec(sys.argv[1]).submodule_search_locations)"
    for dist in DISTRIBUTIONS:
        place = standard.run("python", "-c", code, dist.package).stdout.strip()

        assert Path(place, "py.typed").is_file()


def test_kernel_alone(built: dict[str, Path], environment: Environment) -> None:
    """The kernel comes with its four dependencies and runs without anything else of ours."""
    environment.install(str(wheel(built, "llmos-kernel")))
    code = "import llmos_kernel as k\nwith k.Kernel() as kernel: print(kernel.attach().alloc(k.Port(1)) is not None)"

    assert {"llmos-kernel", "pluggy", "attrs", "structlog", "packaging"} == environment.installed()
    assert "True" == environment.run("python", "-c", code).stdout.strip()


def test_first_command(tmp_path: Path) -> None:
    """The README's first command, in a fresh clone, ends with text from the bundled model."""
    for name in tracked():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    done = run("sh", "-c", commands()[0], cwd=tmp_path, settings=AS_CALLER, timeout=900)

    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout.splitlines()[-1].startswith("Successfully installed")
    assert not list(tmp_path.glob(".venv/lib/*/site-packages/torch"))
