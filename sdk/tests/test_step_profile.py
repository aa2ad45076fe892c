"""`llmos.StepProfile`: a sum of terms, and a file that says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos import StepProfile
from llmos_kernel.errors import ConfigError, InvalidArgument

TERMS = "fixed per_row prompt_fixed per_pass per_prompt_token per_context_token per_prompt_context".split()
SECONDS = st.floats(0, 3600)
COUNTS = st.integers(1, 2**40)


def test_a_step_is_the_sum_of_its_terms() -> None:
    """Every step has the fixed part; what a prompt takes is added where one is computed, and a pass for each."""
    profile = StepProfile(
        fixed=1.0,
        per_row=0.5,
        prompt_fixed=0.25,
        per_pass=8,
        per_prompt_token=0.01,
        per_context_token=1e-3,
        per_prompt_context=2,
    )

    assert 0.0 == profile.seconds(0, 0)
    assert 3.0 == profile.seconds(4, 0)
    assert 3.1 == pytest.approx(profile.seconds(4, 0, 100))
    assert 1 + 0.5 * 4 + 0.25 + 8 + 1 + 0.1 + 2 * 3 == pytest.approx(profile.seconds(4, 100, 100, 3))
    assert 1 + 0.5 * 4 + 0.25 + 8 * 3 + 1 == pytest.approx(profile.seconds(4, 100, prompts=4))


@given(
    terms=st.fixed_dictionaries(dict.fromkeys(TERMS, SECONDS)),
    limits=st.fixed_dictionaries(dict.fromkeys(("places", "rows", "tokens", "chunks", "context"), COUNTS)),
    model=st.text(),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, terms: dict[str, Any], limits: dict[str, Any], model: str
) -> None:
    """A profile comes back from its file as it was, and leaves nothing beside it."""
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    profile = StepProfile(model=model, machine={"cpu": "some", "cores": 2}, date="today", **terms, **limits)
    profile.write(path)

    assert profile == StepProfile.read(path)
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fixed": -1}, "fixed"), ({"per_row": "fast"}, "per_row"), ({"per_row": True}, "per_row"),
        ({"places": 0}, "places"), ({"tokens": 1.5}, "tokens"), ({"machine": []}, "machine"),
        ({"per_prompt_tokens": 1}, "per_prompt_tokens"), ({"format": 2}, "format"), ({"model": None}, "model"),
        ({"r2": 2}, "r2"), ({"fixed": 10**400}, "fixed"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    """What is out of range, of another kind, unknown, or of another format."""
    path = tmp_path / "profile.json"
    StepProfile().write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(ConfigError) as caught:
        StepProfile.read(path)

    assert field == caught.value.fields["field"]
    assert str(path) == caught.value.fields["source"]
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "\xff", '{"format": 1, "format": 1}', '{"format": 1, "fixed": NaN}', "[" * 100_000, " " * 2**21],
    ids=["empty", "list", "half", "bytes", "twice", "nan", "deep", "long"],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    """One error that names the file, whatever it holds."""
    path = tmp_path / "profile.json"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(ConfigError, match=r"profile\.json: "):
        StepProfile.read(path)


def test_a_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """Neither read where there is none, nor written where there is no folder."""
    with pytest.raises(ConfigError, match="No such file"):
        StepProfile.read(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="No such file"):
        StepProfile().write(tmp_path / "none" / "profile.json")


def test_a_profile_that_cannot_be_is_not_made() -> None:
    """NaN is no duration."""
    with pytest.raises(InvalidArgument, match="fixed"):
        StepProfile(fixed=float("nan"))
