"""The survey: one record per announced plugin, with a reason, before anything is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.tests.distributions import Site, temporary_site
from llmos_kernel._version import __version__
from llmos_kernel.config import KernelConfig
from llmos_kernel.errors import PluginFailed, PluginIncompatible, PluginMissing
from llmos_kernel.loader import MODELS_LIMIT, PluginRecord, import_plugin, list_models, survey

BOMB = {"bomb.py": "raise SystemExit('imported')"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site-packages folder of the test's own."""
    with temporary_site(tmp_path, monkeypatch) as made:
        yield made


# --- discovery and the allow-list ------------------------------------------------------------------------------


def test_discovers_without_importing(site: Site) -> None:
    """An announced plugin becomes a record with everything that the metadata says, and its module is not imported."""
    site.install("acme-echo", {"backend:echo": "bomb:plugin"}, version="2.1", files=BOMB)

    assert PluginRecord("backend", "echo", "bomb:plugin", "acme-echo", "2.1") == site.record("backend:echo")
    assert "bomb" not in sys.modules


def test_sorted_by_distribution_then_name(site: Site) -> None:
    """The order depends on names alone, not on the path or the file system."""
    site.install("b-dist", {"store:z": "bomb", "store:a": "bomb"})
    site.install("a-dist", {"store:y": "bomb"})

    assert ["store:y", "store:a", "store:z"] == list(site.survey())


@pytest.mark.parametrize("setting", ["backend:echo", "echo", "acme-echo", "Acme_Echo", "*"])
def test_each_spelling_allows(site: Site, setting: str) -> None:
    """A plugin may be named by kind and name, by name, by distribution however it is spelt, or with all others."""
    site.install("acme-echo", {"backend:echo": "bomb"})

    assert "discovered" == site.record("backend:echo", plugins=[setting]).state


@pytest.mark.parametrize("setting", ["backend:echo", "echo", "acme-echo", "*"])
def test_blocked_wins(site: Site, setting: str) -> None:
    """A plugin that is both allowed and blocked is blocked, and the reason names the setting."""
    site.install("acme-echo", {"backend:echo": "bomb"})
    record = site.record("backend:echo", plugins=["*"], blocked=[setting])

    assert "blocked" == record.state
    assert f"the setting blocked names {setting!r}; remove it there to use the plugin" == record.why


def test_nothing_is_allowed_by_default(site: Site) -> None:
    """An empty allow-list blocks everything, and the reason says what to add."""
    site.install("acme-echo", {"backend:echo": "bomb"})
    record = site.record("backend:echo", plugins=[])

    assert "blocked" == record.state
    assert "the setting plugins does not name it; add 'backend:echo' there to use the plugin" == record.why


# --- names and metadata ----------------------------------------------------------------------------------------


def test_name_claimed_twice(site: Site) -> None:
    """Both sides of a clash fail, each naming the other; plugins beside them are untouched."""
    site.install("one", {"backend:echo": "bomb:a", "store:fine": "bomb"})
    site.install("two", {"backend:echo": "bomb:b"})
    first, second = site.survey()["backend:echo"]

    assert ["failed", "failed"] == [first.state, second.state]
    assert "backend:echo is claimed twice, by bomb:a of one 1.0 and bomb:b of two 1.0; none is used" in first.why
    assert "by bomb:b of two 1.0 and bomb:a of one 1.0" in second.why
    assert "discovered" == site.record("store:fine").state


def test_blocking_one_side_settles_a_clash(site: Site) -> None:
    """A blocked plugin claims no name."""
    site.install("one", {"backend:echo": "bomb"})
    site.install("two", {"backend:echo": "bomb"})

    assert ["discovered", "blocked"] == [record.state for record in site.survey(blocked=["two"])["backend:echo"]]


def test_same_name_in_two_kinds(site: Site) -> None:
    """Names are per kind."""
    site.install("one", {"backend:echo": "bomb", "store:echo": "bomb"})

    assert {"discovered"} == {record.state for records in site.survey().values() for record in records}


def test_shadowed_distribution_is_not_announced(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two installations of one distribution the first on the path counts, as for imports: no clash with itself."""
    site.install("acme-echo", {"backend:echo": "bomb"}, version="2.0")
    other = Site(tmp_path / "other")
    other.install("acme_echo", {"backend:echo": "bomb", "backend:old": "bomb"}, version="1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other.folder)])

    assert {"backend:echo"} == set(site.survey())
    assert "2.0" == site.record("backend:echo").version


def test_one_kind(site: Site) -> None:
    """What is found of it is what is found of all; of the others nothing is told, also of those called almost so."""
    site.install("one", {"backend:echo": "bomb:a", "store:fine": "bomb", "stores:fine": "bomb", "xstore:fine": "bomb"})
    site.install("two", {"store:fine": "bomb:b", "store:other": "bomb"})
    config = KernelConfig(plugins=("*",))
    whole = [record for record in survey(config) if record.kind == "store"]

    assert {"store:fine", "store:other"} <= {record.key for record in whole}
    assert whole == [record for record in survey(config, kind="store") if record.kind]


def test_what_was_installed_since(site: Site) -> None:
    """Each survey looks again for what plugins need."""
    site.install("acme-echo", {"backend:echo": "bomb"}, requires=["absent-thing"])
    before = site.record("backend:echo").state
    site.install("absent-thing")

    assert ("failed", "discovered") == (before, site.record("backend:echo").state)


def test_unknown_kind(site: Site) -> None:
    """A misspelt group is a failure that names the nearest kind."""
    site.install("acme-echo", {"backends:echo": "bomb"})
    record = site.record("backends:echo")

    assert "failed" == record.state
    assert "'backends' is no kind of plugin; did you mean 'backend'?; report it to acme-echo" == record.why


def test_malformed_value(site: Site) -> None:
    """A value that names no object is a failure at discovery."""
    site.install("acme-echo", {"backend:echo": "not a module"})

    assert "'not a module' is not of the form module:object; report it to acme-echo" == site.record("backend:echo").why


def test_malformed_entry_points(site: Site) -> None:
    """A distribution whose announcement cannot be parsed is one record; everything else is found."""
    site.install("broken", "[llmos.backend]\njunk\n")
    site.install("acme-echo", {"backend:echo": "bomb"})

    assert "failed" == site.record(":broken").state
    assert "its entry_points.txt cannot be read (TypeError" in site.record(":broken").why
    assert "discovered" == site.record("backend:echo").state


def test_undecodable_metadata(site: Site) -> None:
    """Bytes that are no text make a failed record, not an exception."""
    site.install("broken")
    for file in site.folder.glob("broken*/*"):
        file.write_bytes(b"\xff\xfe[llmos.")
    record = site.record(":(unnamed)")

    assert "failed" == record.state
    assert "UnicodeDecodeError" in record.why


def test_remains_of_an_uninstallation(site: Site) -> None:
    """A distribution that lost its metadata is still told, under no name."""
    site.install("gone", {"backend:echo": "bomb"})
    (site.folder / "gone-1.0.dist-info" / "METADATA").unlink()

    assert "(unnamed)" == site.record("backend:echo").distribution


def test_folder_of_another_name(site: Site) -> None:
    """A distribution whose folder does not bear its name is found all the same."""
    site.install("acme-echo", {"backend:echo": "bomb"})
    (site.folder / "acme_echo-1.0.dist-info").rename(site.folder / "other-1.0.dist-info")
    records = survey(KernelConfig(plugins=("acme-echo",)))

    assert ["discovered"] == [record.state for record in records if record.distribution == "acme-echo"]


# --- requirements ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "requirement",
    [
        f"llmos-kernel>={__version__}",
        "LLMOS_kernel",
        "pluggy",
        "nowhere; python_version < '3'",
        "nowhere; extra == 'gpu'",
    ],
)
def test_satisfied_requirement(site: Site, requirement: str) -> None:
    """What is installed in a fitting version, and what is not required here, lets a plugin through."""
    site.install("acme-echo", {"backend:echo": "bomb"}, requires=[requirement])

    assert "discovered" == site.record("backend:echo").state


@pytest.mark.parametrize(
    ("requirement", "installed"), [("llmos-kernel>=99", __version__), ("pluggy<1", ""), ("llmos_kernel<0.0.1", "")]
)
def test_other_version_of_the_contract(site: Site, requirement: str, installed: str) -> None:
    """A distribution made for other versions is incompatible, and the reason names both versions."""
    site.install("acme-echo", {"backend:echo": "bomb"}, requires=[requirement])
    record = site.record("backend:echo")

    assert "incompatible" == record.state
    assert f"requires {requirement}, and {installed}" in record.why
    assert isinstance(record.error(), PluginIncompatible)


def test_missing_dependency(site: Site) -> None:
    """A requirement that is not installed is a failure that says what to install; it raises `PluginMissing`."""
    site.install("acme-echo", {"backend:echo": "bomb"}, requires=["nowhere[x]>=2,<3; python_version > '3'"])
    record = site.record("backend:echo")

    assert ("failed", "nowhere[x]<3,>=2") == (record.state, record.needs)
    assert "needs nowhere[x]<3,>=2, which is not installed: pip install 'nowhere[x]<3,>=2'" == record.why
    assert isinstance(record.error(), PluginMissing)


def test_remains_of_a_dependency(site: Site) -> None:
    """A dependency of which only a folder is left is not installed."""
    site.install("gone")
    (site.folder / "gone-1.0.dist-info" / "METADATA").unlink()
    site.install("acme-echo", {"backend:echo": "bomb"}, requires=["gone"])

    assert "gone" == site.record("backend:echo").needs


def test_extra_of_an_entry_point(site: Site) -> None:
    """An entry point that names an extra needs what the extra requires; its neighbours do not."""
    points = {"backend:gpu": "bomb:gpu [gpu]", "backend:cpu": "bomb:cpu"}
    site.install("acme-echo", points, requires=["nowhere; extra == 'gpu'"])

    assert "nowhere" == site.record("backend:gpu").needs
    assert "discovered" == site.record("backend:cpu").state


@pytest.mark.parametrize("requirement", ["what is this", "pluggy; colour == 'red'"])
def test_unreadable_requirement(site: Site, requirement: str) -> None:
    """A requirement or a marker that makes no sense is the distribution's failure."""
    site.install("acme-echo", {"backend:echo": "bomb"}, requires=[requirement])
    record = site.record("backend:echo")

    assert "failed" == record.state
    assert "its requirements cannot be read (InvalidRequirement" in record.why


# --- import ----------------------------------------------------------------------------------------------------


def imported(site: Site, source: str, value: str = "plug") -> object:
    """Install a plugin with this source and import it."""
    site.install("acme-echo", {"backend:echo": value}, files={"plug.py": source})
    return import_plugin(site.record("backend:echo"))


def test_imports_the_object(site: Site) -> None:
    """The object that the entry point names is returned, through dots too."""
    found = imported(site, "class A:\n    b = 7", "plug:A.b")

    assert 7 == found


def test_exception_at_import(site: Site) -> None:
    """A bug at import is a failure with its class and message, and whom to tell; the cause is chained."""
    with pytest.raises(PluginFailed, match=r"raised ZeroDivisionError: .*; report it to acme-echo") as caught:
        imported(site, "1 / 0")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "backend:echo" == caught.value.fields["plugin"]


def test_exit_at_import(site: Site) -> None:
    """SystemExit from a plugin is a failure of that plugin."""
    with pytest.raises(PluginFailed, match="importing plug raised SystemExit; report"):
        imported(site, "import sys; sys.exit()")


def test_interrupt_at_import(site: Site) -> None:
    """Ctrl-C while a plugin is imported reaches the caller."""
    with pytest.raises(KeyboardInterrupt):
        imported(site, "raise KeyboardInterrupt")


def test_missing_module_at_import(site: Site) -> None:
    """A module of others that is not installed is told apart from a bug."""
    with pytest.raises(PluginMissing, match="needs the module nowhere: pip install what provides it") as caught:
        imported(site, "import nowhere.sub")

    assert "nowhere" == caught.value.fields["needs"]


@pytest.mark.parametrize(("source", "value"), [("import plug.sub", "plug"), ("", "plugg"), ("", "plug:missing")])
def test_missing_piece_of_its_own(site: Site, source: str, value: str) -> None:
    """A module or an object of the plugin's own that does not exist is its bug."""
    with pytest.raises(PluginFailed, match="report it to acme-echo"):
        imported(site, source, value)


# --- models ----------------------------------------------------------------------------------------------------


def test_lists_models_without_import(site: Site) -> None:
    """The models file gives specifications with absolute paths and the distribution that brought them."""
    entry = {"name": "small", "backend": "echo", "path": "small", "aliases": ["s"], "distribution": "somebody-else"}
    site.models("acme", [entry, {"name": "far", "backend": "remote"}])
    small, far = list_models(site.record("model:acme"))

    assert str((site.folder / "pack" / "small").resolve()) == small.path
    assert (("s",), "acme") == (small.aliases, small.distribution)
    assert "" == far.path
    assert "pack" not in sys.modules


@pytest.mark.parametrize("value", ["pack.sub.mod:models", "pack.sub", "pack.sub.mod [x]"])
def test_models_beside_a_dotted_module(site: Site, value: str) -> None:
    """The file lies beside the module that the value names, whose parents are not imported either."""
    files = {"pack/__init__.py": "raise SystemExit", "pack/sub/__init__.py": "raise SystemExit", "pack/sub/mod.py": ""}
    listed = '[{"name": "small", "backend": "echo"}]'
    site.install("acme", {"model:acme": value}, files={**files, "pack/sub/models.json": listed})

    assert ["small"] == [spec.name for spec in list_models(site.record("model:acme"))]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ("{", "JSONDecodeError"),
        ("{}", "models.json must be a list of objects"),
        ("[" * 200_000, "RecursionError"),
        (" " * MODELS_LIMIT + "[]", "larger than 1000000 bytes"),
        ([7], r"models.json\[0\] must be an object, not int"),
        ([{"name": "a", "backend": "b"}, {"nam": "a"}], r"models.json\[1\] has an unknown field 'nam'; .* 'name'"),
        ([{"name": "a"}], r"models.json\[0\]: backend must be a non-empty string, not ''"),
        ([{"name": "a", "backend": 3}], "backend must be a non-empty string, not 3"),
        ([{"name": "a", "backend": "b", "aliases": "abc"}], "aliases must be a list of names, not 'abc'"),
        ([{"name": "a", "backend": "b", "context": -1}], "context must be a whole number from 0"),
        ('[{"name": "a", "backend": "b", "nbytes": NaN}]', "nbytes must be a whole number from 0"),
        ([{"name": "a", "backend": "b", "options": []}], "options must be a mapping"),
        ([{"name": "a", "backend": "b", "path": "../other"}], "path '../other' leaves the package"),
        ([{"name": "a", "backend": "b", "path": "/etc"}], "path '/etc' leaves the package"),
        ([{"name": "a", "backend": "b", "path": "x\0y"}], "its models cannot be listed: ValueError"),
    ],
)
def test_bad_models_file(site: Site, entries: object, why: str) -> None:
    """Whatever is wrong with a models file is a failure of that plugin, naming the entry and the field."""
    site.models("acme", entries)

    with pytest.raises(PluginFailed, match=why):
        list_models(site.record("model:acme"))


def test_model_path_through_a_link(site: Site) -> None:
    """A link that leads out of the package is followed before the path is judged."""
    site.models("acme", [{"name": "a", "backend": "b", "path": "out"}])
    (site.folder / "pack" / "out").symlink_to("/etc")

    with pytest.raises(PluginFailed, match="path 'out' leaves the package"):
        list_models(site.record("model:acme"))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("nowhere", "there is no module nowhere"),
        ("nowhere.sub", "there is no module nowhere.sub"),
        ("bomb", "bomb is no package"),
        ("space", "there is no module space"),
        ("full", "FileNotFoundError"),
    ],
)
def test_no_models_file(site: Site, value: str, why: str) -> None:
    """A module that does not exist, is no package, or has no models file beside it is a failure."""
    site.install("acme", {"model:acme": value}, files={**BOMB, "full/__init__.py": "", "space/data.txt": ""})

    with pytest.raises(PluginFailed, match=why):
        list_models(site.record("model:acme"))


# --- records ---------------------------------------------------------------------------------------------------


def test_error_of_an_embedded_object() -> None:
    """The message says where the plugin came from, also when nobody distributes it."""
    error = PluginRecord("store", "s", "x:Y", "", state="failed", why="it broke").error()

    assert "plugin store:s of the object passed to the kernel is failed: it broke" == str(error)


def test_survey_imports_nothing_heavy(site: Site) -> None:
    """Importing the loader and surveying costs no import of a plugin or of anything that draws, serves or computes."""
    site.install("acme-echo", {"backend:echo": "bomb"}, requires=["pluggy"], files=BOMB)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from llmos_kernel import loader, config\n"
        "records = loader.survey(config.KernelConfig(plugins=['*']))\n"
        "assert any(record.state == 'discovered' for record in records), records\n"
        "heavy = 'bomb numpy onnxruntime torch click rich structlog asyncio'.split()\n"
        "print(*(name for name in heavy if name in sys.modules))"
    )
    command = [sys.executable, "-c", script, str(site.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "" == done.stdout.strip()


def test_survey_survives_the_real_environment() -> None:
    """Every record of what is really installed has a key, and a reason unless it may be used."""
    for record in survey(KernelConfig(plugins=("*",))):
        assert record.key
        assert bool(record.why) == (record.state != "discovered")
