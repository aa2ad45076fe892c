"""What tox.ini cannot say: one environment per plugin and per other Python, what installs, and a closing line over all.

A plugin's environment holds the kernel, the SDK, that plugin and the plugins that it depends on, installed as wheels,
and nothing else of ours: the plugin's tests pass there only if its dependencies are declared and its wheel is complete.
"""

from __future__ import annotations

import atexit
import glob
import os
import platform
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from tox.config.loader.memory import MemoryLoader
from tox.config.types import Command
from tox.plugin import impl
from tox.tox_env.errors import Skip
from tox.tox_env.python.api import Python

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tox.config.sets import ConfigSet, EnvConfigSet
    from tox.execute import Outcome
    from tox.session.state import State
    from tox.tox_env.api import ToxEnv

ROOT = Path(__file__).parent
PYTHONS = ("py311", "py312", "py313", "py314")
HERE = f"py{sys.version_info.major}{sys.version_info.minor}"
INSTALL = [sys.executable, "-I", str(ROOT / "tests" / "installing.py")]
RUNTIME = "gpu" if (sys.platform, platform.machine()) == ("linux", "x86_64") or sys.platform == "win32" else "cpu"

_counts: dict[str, tuple[int, int, int]] = {}
"""Passed, failed and skipped tests by environment."""


def plugins() -> list[str]:
    """Return the folders of the plugins, sorted."""
    return sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def pyproject(plugin: str) -> dict[str, Any]:
    """Return what the plugin says of itself."""
    return tomllib.loads((ROOT / "plugins" / plugin / "pyproject.toml").read_text("utf-8"))


def requirements(plugin: str, known: list[str]) -> list[str]:
    """Return what pip must install for *plugin*: the plugins of ours that it depends on first, then itself."""
    project = pyproject(plugin)["project"]
    extras = project.get("optional-dependencies", {})
    lines = [*project.get("dependencies", ()), *extras.get("test", ())]
    siblings = {found[1] for line in lines if (found := re.match(r"llmos-([a-z0-9-]+)", line))}
    needed = [line for name in known if name in siblings and name != plugin for line in requirements(name, known)]
    wanted = ",".join(name for name in (RUNTIME, "test") if name in extras)
    return [*dict.fromkeys(needed), f"./plugins/{plugin}[{wanted}]" if wanted else f"./plugins/{plugin}"]


def weights(plugin: str) -> list[str]:
    """Return the distributions with weights that the tests of *plugin* run, installed without what they depend on."""
    found: list[str] = pyproject(plugin).get("dependency-groups", {}).get("weights", [])
    return found


def interpreters(name: str) -> list[str]:
    """Return where to look for a Python: on the path, then among pyenv's, whose stubs may be switched off."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [name, *map(str, sorted(root.glob(f"versions/{name[2]}.{name[3:]}.*/bin/python")))]


@impl
def tox_extend_envs() -> Iterable[str]:
    """Add an environment per plugin, and the Pythons that `tests` does not run on."""
    return (*(f"plugin-{name}" for name in plugins()), *(name for name in PYTHONS if name != HERE))


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Make the additional environments part of plain `tox`, and say what they are."""
    core_conf["env_list"].envs.extend(tox_extend_envs())
    for name in PYTHONS:
        state.conf.memory_seed_loaders[name].append(MemoryLoader(base_python=interpreters(name)))
    known = plugins()
    for name in known:
        parts = ["./kernel", "./sdk", *requirements(name, known)]
        report = core_conf["work_dir"] / f"plugin-{name}" / "tests.xml"
        install = [*INSTALL, "--quiet"]
        steps = [[*install, *parts], *([*install, "--no-deps", found] for found in weights(name))]
        tests = ["python", "-m", "pytest", f"plugins/{name}/tests", f"--junit-xml={report}"]
        values: dict[str, Any] = {
            "description": f"the wheels of the kernel, the SDK and {name}",
            "deps": [],
            "commands_pre": [Command(step) for step in steps],
            "commands": [Command(tests)],
        }
        state.conf.memory_seed_loaders[f"plugin-{name}"].append(MemoryLoader(**values))


@impl
def tox_add_env_config(env_conf: EnvConfigSet, state: State) -> None:
    """Install by uv what pip would; uv itself comes by pip, into the environment of tox that `requires` asks for."""
    if env_conf.name == state.conf.core["provision_tox_env"]:
        return
    command = Command([*INSTALL, "{opts}", "{packages}"])
    env_conf.loaders.append(MemoryLoader(install_command=command, allowlist_externals=[glob.escape(sys.executable)]))


@impl
def tox_before_run_commands(tox_env: ToxEnv) -> None:
    """Forget the reports of an earlier run."""
    for report in _reports(tox_env):
        report.unlink()


@impl
def tox_after_run_commands(tox_env: ToxEnv, exit_code: int, outcomes: list[Outcome]) -> None:
    """Count the environment's tests; one that failed without a failed test (lint) counts as one failure."""
    trees = [ET.parse(report) for report in _reports(tox_env)]  # noqa: S314 - written by our own pytest
    suites = [suite for tree in trees for suite in tree.iter("testsuite")]
    tests, skipped = _total(suites, "tests"), _total(suites, "skipped")
    failed = _total(suites, "failures") + _total(suites, "errors")
    _counts[tox_env.name] = (tests - failed - skipped, max(failed, int(exit_code != 0)), skipped)


@impl
def tox_env_teardown(tox_env: ToxEnv) -> None:
    """Count an environment that could not even be set up as failed, unless its Python is not installed."""
    if tox_env.name not in _counts and _ought_to_run(tox_env):
        _counts[tox_env.name] = (0, 1, 0)


def _ought_to_run(env: ToxEnv) -> bool:
    if not isinstance(env, Python) or env.options.no_test or env.name == env.core["provision_tox_env"]:
        return False
    try:
        _ = env.base_python
    except Skip:
        return False
    return True


def _reports(env: ToxEnv) -> list[Path]:
    return sorted(env.env_dir.glob("tests*.xml"))


def _total(suites: Iterable[ET.Element], count: str) -> int:
    return sum(int(suite.get(count, 0)) for suite in suites)


@atexit.register
def closing_line() -> None:
    """Print one line over all the environments that ran, after tox's own report."""
    if _counts:
        passed, failed, skipped = (sum(column) for column in zip(*_counts.values(), strict=True))
        print(f"tests: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
