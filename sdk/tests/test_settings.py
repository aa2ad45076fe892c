"""Settings: where they come from, which wins, and what is said of wrong ones."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos import Secret, Serving, load_settings, reveal
from llmos._reading import as_whole, split_names, split_pairs
from llmos._settings import _ENV, _readers, default_settings
from llmos_kernel import KernelConfig
from llmos_kernel.api import Budget
from llmos_kernel.errors import ConfigError, InvalidArgument

WORDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_characters=",=", exclude_categories=["Z", "C"]),
    min_size=1,
)


def write(text: str, name: str = "llmos.toml") -> Path:
    """Write a settings file in the current folder."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_defaults() -> None:
    """Every installed plugin may be used, and the model is the bundled one."""
    settings = load_settings(environ={})

    assert (("*",), "fifo", "tiny", "") == (
        settings.kernel.plugins,
        settings.kernel.scheduler,
        settings.model,
        settings.file,
    )
    assert settings.kernel == default_settings().kernel


def test_every_field_of_the_kernel_has_a_reader() -> None:
    """Nothing that the kernel, or who serves, may be told is missing in the file, which knows else the SDK's own."""
    known = {field.name for kind in (KernelConfig, Serving) for field in attrs.fields(kind)}
    assert known | {"model", "pipelines"} == set(_readers(Path()))
    assert set(_ENV) < set(_readers(Path()))


def test_a_whole_file() -> None:
    """Every kind of value arrives as the kernel takes it; paths start at the file."""
    write(
        """
        plugins = ["onnx", "scheduler:fifo"]
        timeout = 12
        workers = 2
        model = "mine"
        aliases = {gpt-3 = "mine"}
        devices = {cpu = 1000}
        budget = {ports = 7}
        [options."backend:remote"]
        key = {env = "MY_KEY"}
        deep = [{file = "key.txt"}]
        [[models]]
        name = "mine"
        backend = "onnx"
        path = "folder"
        kinds = ["generate", "chat"]
        """,
        "conf/llmos.toml",
    )
    settings = load_settings("conf/llmos.toml", environ={})
    kernel = settings.kernel

    assert (("onnx", "scheduler:fifo"), 12, 2, "mine") == (
        kernel.plugins,
        kernel.timeout,
        kernel.workers,
        settings.model,
    )
    assert ({"gpt-3": "mine"}, {"cpu": 1000}, Budget(ports=7)) == (kernel.aliases, kernel.devices, kernel.budget)
    assert str(Path("conf/folder").resolve()) == kernel.models[0].path
    assert Secret(env="MY_KEY") == kernel.options["backend:remote"]["key"]
    assert [Secret(file=str(Path("conf/key.txt").resolve()))] == kernel.options["backend:remote"]["deep"]


def test_later_layers_win() -> None:
    """Arguments override the environment, which overrides the file."""
    write("timeout = 1\nworkers = 1\ncall_rows = 1")
    kernel = load_settings(environ={"LLMOS_WORKERS": "2", "LLMOS_CALL_ROWS": "2"}, call_rows=3).kernel

    assert (1, 2, 3) == (kernel.timeout, kernel.workers, kernel.call_rows)


def test_blocked_adds_up() -> None:
    """What the command line blocks is blocked besides what the file blocks."""
    write('blocked = ["a"]')

    assert ("a", "b") == load_settings(environ={}, blocked=["b"]).kernel.blocked


def test_no_plugin_by_environment() -> None:
    """``LLMOS_PLUGINS`` that is empty means none."""
    assert () == load_settings(environ={"LLMOS_PLUGINS": ""}).kernel.plugins


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    """The one that is named, then the environment's, then the folder's, then the user's."""
    user = write("workers = 4", str(tmp_path / "config/llmos/llmos.toml"))
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    found = [load_settings(environ=environ).kernel.workers]
    write("workers = 3")
    found.append(load_settings(environ=environ).kernel.workers)
    environ["LLMOS_CONFIG"] = str(write("workers = 2", "other.toml"))
    found.append(load_settings(environ=environ).kernel.workers)
    found.append(load_settings(write("workers = 1", "named.toml"), environ=environ).kernel.workers)

    assert [4, 3, 2, 1] == found
    assert user.exists()


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("plugin = []", "plugin", "plugins"),
        ("timeout = -1", "timeout", "0.001"),
        ("timeout = nan", "timeout", "nan"),
        ("timeout = true", "timeout", "a number"),
        ('plugins = "onnx"', "plugins", "list of names"),
        ("workers = 1.5", "workers", "whole"),
        ('scheduler = ""', "scheduler", "non-empty"),
        ("devices = {cpu = -1}", "devices.cpu", "-1"),
        ("devices = 7", "devices", "a table"),
        ("budget = {port = 1}", "port", "ports"),
        ("budget = {ports = -1}", "ports", "-1"),
        ("aliases = {a = 7}", "aliases.a", "string"),
        ("models = 3", "models", "list of tables"),
        ("models = [3]", "models[0]", "a table"),
        ('models = [{name = "a"}]', "models[0].backend", "backend"),
        ('models = [{name = "a", backend = "b", kind = []}]', "kind", "kinds"),
        ('models = [{name = "a", backend = "b", kinds = "chat"}]', "models[0].kinds", "list"),
        ('models = [{name = "a", backend = "b", path = 3}]', "models[0].path", "a string"),
        ('models = [{name = "a", backend = "b", context = -1}]', "context", "models[0]"),
        ('models = [{name = "a", backend = "b"}, {name = "a", backend = "b"}]', "models", "twice"),
        ("options = {x = 3}", "options.x", "a table"),
        ("= 3", "config", "valid TOML"),
    ],
)
def test_wrong_files_are_named(text: str, field: str, says: str) -> None:
    """Each mistake is one error that names the key, the file, and what would be right."""
    write(text)

    with pytest.raises(ConfigError) as caught:
        load_settings(environ={})

    assert (field, "llmos.toml") == (caught.value.fields["field"], caught.value.fields["source"])
    assert says in caught.value.message
    assert "llmos.toml" in caught.value.message


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({"LLMOS_TIMEOU": "3"}, "timeou"),
        ({"LLMOS_TIMEOUT": "soon"}, "timeout"),
        ({"LLMOS_TIMEOUT": "inf"}, "timeout"),
        ({"LLMOS_WORKERS": "1.5"}, "workers"),
        ({"LLMOS_ALIASES": "a"}, "aliases"),
        ({"LLMOS_DEVICES": "cpu=x"}, "devices.cpu"),
        ({"LLMOS_SCHEDULER": ""}, "scheduler"),
        ({"LLMOS_OPTIONS": "a=b"}, "options"),
    ],
)
def test_wrong_variables_are_named(environ: Mapping[str, str], field: str) -> None:
    """A mistake in the environment names its variable."""
    with pytest.raises(ConfigError) as caught:
        load_settings(environ=environ)

    assert field == caught.value.fields["field"]
    assert next(iter(environ)) in caught.value.message


def test_variables_of_others_are_left_alone() -> None:
    """Those that hold a secret of the file, and those with the free prefix, are no settings."""
    write('options = {"backend:remote" = {key = {env = "LLMOS_REMOTE_KEY"}}}')

    settings = load_settings(environ={"LLMOS_REMOTE_KEY": "s3cret", "LLMOS_X_MINE": "1"})

    assert {"backend:remote"} == set(settings.kernel.options)


def test_a_missing_file_is_an_error() -> None:
    """A file that was named and is not there is not ignored."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings("nowhere.toml", environ={})


@given(st.lists(WORDS))
def test_names_survive_the_environment(names: list[str]) -> None:
    """A list of names, written with commas, is read as it was."""
    assert names == split_names("plugins", ", ".join(names))


@given(st.dictionaries(WORDS, WORDS))
def test_pairs_survive_the_environment(pairs: dict[str, str]) -> None:
    """So are pairs."""
    assert pairs == split_pairs("aliases", ", ".join(f"{name} = {value}" for name, value in pairs.items()))


@given(st.text())
def test_any_text_for_pairs_is_read_or_refused(text: str) -> None:
    """Nothing else than the typed error comes out."""
    try:
        split_pairs("aliases", text)
    except InvalidArgument as error:
        assert "aliases" == error.fields["field"]  # noqa: PT017 - both ways out are right


@given(st.text())
def test_any_text_for_a_number_is_read_or_refused(text: str) -> None:
    """Only what Python reads as a whole number is one."""
    try:
        whole = as_whole("workers", text)
        assert int(text) == whole
    except InvalidArgument as error:
        assert "workers" == error.fields["field"]  # noqa: PT017 - both ways out are right


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(_readers(Path()))), JSON)
def test_any_value_for_a_key_is_read_or_refused(key: str, value: object) -> None:
    """Whatever stands behind a key, the outcome is settings or the typed error."""
    try:
        load_settings(None, environ={"XDG_CONFIG_HOME": "/nowhere", "XDG_DATA_HOME": "/nowhere"}, **{key: value})
    except InvalidArgument as error:
        assert isinstance(error, ConfigError)  # noqa: PT017 - both ways out are right


def test_secrets_are_resolved_late(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reference can be made before the value exists, and looks it up anew each time."""
    secret, key = Secret(env="MY_KEY"), tmp_path / "key"
    with pytest.raises(ConfigError, match="MY_KEY"):
        secret.reveal()
    monkeypatch.setenv("MY_KEY", "s3cret")
    key.write_text("from file\n", "utf-8")

    assert ("s3cret", "from file", "plain") == (secret.reveal(), Secret(file=str(key)).reveal(), reveal("plain"))
    assert "s3cret" == reveal(secret)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that hold one can be printed and logged."""
    monkeypatch.setenv("MY_KEY", "s3cret")
    write('options = {"backend:remote" = {key = {env = "MY_KEY"}}}')
    settings = load_settings(environ={})

    assert "s3cret" not in f"{settings!r} {settings}"
    assert "MY_KEY" in repr(settings)


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """Without its content."""
    with pytest.raises(ConfigError, match="missing"):
        Secret(file=str(tmp_path / "missing")).reveal()


def test_the_example_of_the_readme_is_valid() -> None:
    """The settings that the package's page shows are ones that it takes."""
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    for block in readme.split("```toml\n")[1:]:
        write(block.split("```")[0])
        tomllib.loads(block.split("```")[0])

        assert "llmos.toml" == load_settings(environ={}).file
