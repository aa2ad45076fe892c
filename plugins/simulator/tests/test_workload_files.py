"""Workloads as TOML: what is read is what was written, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from llmos_kernel.errors import ConfigError, NotFound
from llmos_simulator import workload_files
from llmos_simulator.lengths import Fixed, LogNormal
from llmos_simulator.processes import Bursty
from llmos_simulator.workload_files import PRESETS, find_workload, parse_workload, preset_text, read_workload
from llmos_simulator.workloads import Tenant, Workload

WHOLE = """
requests = 20_000

[[tenants]]
name = "chat"
arrivals = { process = "bursty", rate = 2.0, variation = 3.0 }
prompt = { distribution = "lognormal", mean = 180, deviation = 160, most = 1024 }
output = 64
priority = 5
deadline = 10.0

[options.fair]
weights = { chat = 2.0 }
"""


def test_a_file_is_what_it_says(tmp_path: Path) -> None:
    """Every key is a field; the name is that of the file unless it says another."""
    path = tmp_path / "mine.toml"
    path.write_text(WHOLE)
    chat = Tenant(
        name="chat", arrivals=Bursty(rate=2.0, variation=3.0), prompt=LogNormal(mean=180, deviation=160, most=1024),
        output=Fixed(value=64), priority=5, deadline=10.0,
    )  # fmt: skip

    assert Workload(
        name="mine", tenants=[chat], requests=20_000, options={"fair": {"weights": {"chat": 2.0}}}
    ) == read_workload(path)
    assert read_workload(path) == find_workload(str(path))


def test_the_documentation_shows_this_file() -> None:
    """The module's docstring and the test read the same."""
    said = [line.partition("#")[0].strip() for line in (workload_files.__doc__ or "").splitlines()]

    assert set(WHOLE.split("\n")) - {""} <= set(said)


def test_a_trace_is_beside_the_file(tmp_path: Path) -> None:
    """Its path begins where the workload's file is; a trace is a workload by itself as well."""
    (tmp_path / "trace.csv").write_text("at,prompt,output\n0,1,1\n")
    (tmp_path / "mine.toml").write_text('trace = "trace.csv"')

    assert tmp_path / "trace.csv" == read_workload(tmp_path / "mine.toml").trace
    assert 1 == len(list(find_workload(str(tmp_path / "trace.csv")).draw()))


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    """Each can be drawn, says in a comment what it is, and is called like its file."""
    workload = find_workload(name)

    assert name == workload.name
    assert preset_text(name).startswith("# ")
    assert next(iter(workload.draw())).at >= 0


def test_every_preset_is_a_file_and_every_file_a_preset() -> None:
    """Nothing is left out."""
    folder = Path(workload_files.__file__).parent / "presets"

    assert set(PRESETS) == {path.stem for path in folder.iterdir()}


def test_an_unknown_name_says_what_is_near() -> None:
    """It is neither a file nor a preset."""
    with pytest.raises(NotFound, match=r"neither a file nor one of bursty, chat") as caught:
        find_workload("mixt")

    assert ["mixed"] == caught.value.fields["nearest"]
    with pytest.raises(NotFound, match="the presets are bursty, chat"):
        preset_text("mixt")


ARRIVALS, PROMPT, OUTPUT = 'arrivals = { process = "poisson", rate = 1.0 }', "prompt = 1", "output = 1"


def tenant(*lines: str) -> str:
    """A tenant that is right but for *lines*, which stand for those with the same key."""
    keys = {line.partition(" ")[0] for line in lines}
    rest = [line for line in (ARRIVALS, PROMPT, OUTPUT) if line.partition(" ")[0] not in keys]
    return "\n".join(["[[tenants]]", *rest, *(line for line in lines if not line.startswith("-"))])


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("", "tenants", "at least one tenant"),
        ("requests = 5", "tenants", "at least one tenant"),
        ("tenants = 3", "tenants", "tables"),
        ("tenants = [3]", "tenants", "a table"),
        ("requests = [", "file", "TOML"),
        (f"requests = 0\n{tenant()}", "requests", "from 1"),
        (f"seconds = nan\n{tenant()}", "seconds", "a number"),
        (f"seconds = -1\n{tenant()}", "seconds", "a number"),
        (f"second = 5\n{tenant()}", "second", "the nearest is 'seconds'"),
        (f"options = 5\n{tenant()}", "options", "a table"),
        (f"options.fair = 5\n{tenant()}", "options.fair", "a table"),
        (f"trace = 5\n{tenant()}", "trace", "a path"),
        (f"{tenant()}\n{tenant()}", "tenants", "stands once"),
        (tenant("prioritty = 5"), "prioritty", "the nearest is 'priority'"),
        (tenant("priority = 1e3"), "priority", "a whole number"),
        (tenant("deadline = nan"), "deadline", "a number"),
        (tenant("weight = 0"), "weight", "a number"),
        (tenant('arrivals = { process = "poison", rate = 1.0 }'), "arrivals.process", "the nearest is poisson"),
        (tenant("arrivals = { rate = 1.0 }"), "arrivals.process", "one of constant"),
        (tenant("arrivals = 5"), "arrivals", "a table"),
        (tenant('arrivals = { process = "poisson" }'), "rate", "given"),
        (tenant('arrivals = { process = "poisson", rate = nan }'), "rate", "a number"),
        (tenant('arrivals = { process = "poisson", rat = 1.0 }'), "rate", "given"),
        (tenant('arrivals = { process = "poisson", rate = 1.0, swing = 1.0 }'), "swing", "the nearest is 'rate'"),
        (tenant('prompt = { distribution = "normal", mean = 1.0 }'), "prompt.distribution", "lognormal"),
        (tenant('prompt = { distribution = "uniform", low = 5, high = 3 }'), "high", "at least low"),
        (tenant("prompt = -1"), "value", "from 1"),
        (tenant("prompt = true"), "value", "a whole number"),
        (tenant("prompt = 1.5"), "prompt", "a table"),
        (tenant('output = { distribution = "empirical", values = [] }'), "values", "at least one"),
        ("[[tenants]]\nname = 'me'", "arrivals", "given"),
    ],
)
def test_what_is_wrong_is_named(text: str, field: str, words: str) -> None:
    """The error says where it stands, which key is wrong, and what would be right."""
    with pytest.raises(ConfigError) as caught:
        parse_workload(text, "mine.toml", Path(), "mine")

    assert field == caught.value.fields["field"]
    assert str(caught.value).startswith("mine.toml")
    assert words in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """By its path."""
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff")
    for wrong in (path, tmp_path):
        with pytest.raises(ConfigError, match="file must be"):
            read_workload(wrong)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = "name arrivals prompt output kind priority max_tokens deadline weight".split()


@given(key=st.sampled_from(KEYS), value=values)
@settings(max_examples=200)
def test_any_value_is_taken_or_refused(key: str, value: Any) -> None:
    """Whatever stands in a tenant's table, nothing but `ConfigError` is raised."""
    table = {"arrivals": {"process": "poisson", "rate": 1.0}, "prompt": 1, "output": 1, key: value}
    try:
        found = workload_files._tenant(table, 1, "mine.toml")
    except ConfigError as error:
        found = None
        said = str(error)
    else:
        said = "mine.toml"

    assert said.startswith("mine.toml")
    assert isinstance(found, Tenant | None)
