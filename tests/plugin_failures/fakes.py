"""Distributions as pip would leave them on disk, and programs that see them beside the standard set."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import attrs

from tests.workspace import llmos

_PROCESSOR = """
from llmos_kernel import Processor, hookimpl

api = {api}

class Same(Processor):
    def process(self, value, params):
        return value

@hookimpl
def {hook}(config):
    return Same()
"""
POLICY = """
from llmos_kernel import Policy, hookimpl

api = 1

class Grumpy(Policy):
    def check(self, action):
        raise RuntimeError("not in the mood")

@hookimpl
def llmos_policy(config):
    return Grumpy()
"""


def processor(hook: str = "llmos_processor", api: int = 1) -> str:
    """Return the source of a processor that changes nothing."""
    return _PROCESSOR.format(hook=hook, api=api)


@attrs.frozen
class Installation:
    """A user's home, and a folder of packages that only this user has."""

    home: Path
    packages: Path

    @classmethod
    def make(cls, home: Path) -> Installation:
        """Make the folders and a configuration that lets every plugin take part."""
        (home / "packages").mkdir()
        installation = cls(home, home / "packages")
        installation.configure('plugins = ["*"]')
        return installation

    def configure(self, toml: str) -> None:
        """Write the user's configuration."""
        (self.home / "llmos.toml").write_text(toml + "\n", "utf-8")

    def add(self, name: str, entry: str, source: str, requires: Iterable[str] = ()) -> None:
        """Install *name* 1.0, whose *entry* (``kind:name``) names a module with *source*."""
        module, (kind, _, plugin) = name.replace("-", "_"), entry.partition(":")
        (self.packages / f"{module}.py").write_text(source, "utf-8")
        info = self.packages / f"{module}-1.0.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {r}" for r in requires)]
        (info / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[llmos.{kind}]\n{plugin} = {module}\n", "utf-8")
        (info / "INSTALLER").write_text("pip\n", "utf-8")

    def llmos(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line where these packages are installed."""
        return llmos(*arguments, cwd=self.home, settings={"PYTHONPATH": str(self.packages)})

    def state(self, distribution: str, plugin: str) -> str:
        """Return the state that ``llmos plugins list`` gives the *plugin* (``kind:name``) of *distribution*."""
        done = self.llmos("plugins", "list", "--json")

        assert done.returncode == 0, done.stderr
        records = json.loads(done.stdout)
        (found,) = (record for record in records if (record["distribution"], record["key"]) == (distribution, plugin))
        return str(found["state"])


def add_all(installation: Installation) -> None:
    """Install one plugin for each way to fail, but for the policy, which is only as harmful as it is configured."""
    installation.add("fake-explodes", "processor:explodes", "raise RuntimeError('boom at import')")
    installation.add("fake-needy", "processor:needy", processor(), ["a-package-that-nobody-has>=1"])
    installation.add("fake-ancient", "processor:ancient", processor(), ["llmos-kernel>=99"])
    installation.add("fake-thief", "processor:normalize", processor())
    installation.add("fake-misspelt", "processor:misspelt", processor("llmos_proccessor"))
    installation.add("fake-grumpy", "policy:grumpy", POLICY)
