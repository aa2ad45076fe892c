"""Who may be chosen, and what is said where nobody may: the same for every router."""

from __future__ import annotations

from typing import Any

import pytest

from llmos_kernel.errors import ModelUnavailable, NotFound
from llmos_kernel.services import Event
from plugins.routers.tests.rules import MODULES, Watch, ask, ended, one, rule, timed

each_router = pytest.mark.parametrize("name", MODULES)

RICH = one(
    "rich", kinds=("generate", "chat"), languages=("en-GB", "zh"), capabilities=("vision",), context=8192, cost=5.0
)
POOR = one("poor", kinds=("generate",))


@each_router
@pytest.mark.parametrize(
    "want",
    [
        {"languages": ("EN",)},
        {"languages": ("en-gb", "zh")},
        {"capabilities": ("vision",)},
        {"capabilities": ("chat",)},
        {"context": 8192},
        {"models": ("rich", "other")},
        {"avoid": ("poor",)},
        {"kind": "chat"},
    ],
    ids=str,
)
def test_only_who_has_what_is_wanted(name: str, want: dict[str, Any]) -> None:
    """Each wish alone is enough to leave out who does not have it."""
    for _ in range(3):
        assert "rich" == ask(rule(name)(), POOR, RICH, **want)


@each_router
def test_cost_ceiling(name: str) -> None:
    """What costs more than the ceiling is left out; the ceiling itself will do."""
    dear = one("dear", cost=5.5)

    assert "rich" == ask(rule(name)(), dear, RICH, cost=5.0)


def test_language_is_not_a_prefix_of_letters() -> None:
    """A tag's first subtag is what counts: somebody who knows Zhuang does not know Chinese."""
    with pytest.raises(NotFound):
        ask(rule("auto")(), one("zhuang", languages=("zha",)), languages=("zh",))


@each_router
def test_says_why_nobody_will_do(name: str) -> None:
    """The error has each near miss with all that it lacks, the nearest first."""
    with pytest.raises(NotFound, match="'rich' costs 5, more than 1; 'poor' does not say") as caught:
        ask(rule(name)(), POOR, RICH, languages=("en",), context=100, cost=1.0)

    facts: Any = caught.value.fields
    assert ["rich", "poor"] == facts["nearest"]
    assert 2 == len(facts["reasons"]["poor"])


def test_long_lists_are_cut() -> None:
    """A message names eight near misses, the fields all of them."""
    crowd = [one(f"model-{number}") for number in range(20)]
    with pytest.raises(NotFound, match=r"and 12 more$") as caught:
        ask(rule("auto")(), *crowd, context=1)

    facts: Any = caught.value.fields
    assert 20 == len(facts["reasons"])


def test_no_model_at_all() -> None:
    """Without candidates the error names the kind of task."""
    with pytest.raises(NotFound, match="no model serves 'embed' tasks"):
        ask(rule("auto")(), kind="embed")


@each_router
@pytest.mark.parametrize("error", ["ExecutorCrashed", "PluginFailed", "ModelUnavailable", "OutOfMemory"])
def test_failing_model_is_left_alone(name: str, error: str) -> None:
    """After three failures in a row it is not chosen, then tried once, and is back when that ends well."""
    watch = Watch()
    router = timed(name, watch, failures=3, cool_down=5.0)
    good, bad = one("good", 100), one("bad", capabilities=("vision",))
    for _ in range(3):
        router.heard(ended("bad", watch.time, error=error))

    assert "good" == ask(router, good, bad)
    with pytest.raises(ModelUnavailable) as caught:
        ask(router, good, bad, capabilities=("vision",))
    assert 5.0 == caught.value.fields["retry_after"]
    watch.time = 5.0
    assert "bad" == ask(router, good, bad, capabilities=("vision",))
    with pytest.raises(ModelUnavailable, match=r"'bad' for 5\.0 s"):
        ask(router, good, bad, capabilities=("vision",))
    router.heard(ended("bad", 6.0))
    assert ["bad", "bad"] == [ask(router, good, bad, capabilities=("vision",)) for _ in range(2)]


@each_router
@pytest.mark.parametrize("error", ["InvalidArgument", "Cancelled", "Overloaded", "KernelStopped", "NoSuchError", ""])
def test_blameless_ends(name: str, error: str) -> None:
    """Callers' errors, too much work and a stopping kernel are not the model's fault."""
    router = rule(name)()
    for at in range(20):
        router.heard(ended("model", float(at), error=error))

    assert "model" == ask(router, one("model"))


@each_router
def test_model_that_cannot_be_loaded(name: str) -> None:
    """One failure to load is enough: whoever comes next would wait for the same."""
    router = rule(name)()
    router.heard(Event("model.failed", 0.0, {"model": "broken", "error": "no such file"}))

    assert "sound" == ask(router, one("broken", loaded=False), one("sound", loaded=False))


@each_router
def test_time_of_the_kernel(name: str) -> None:
    """The kernel's clock may show anything: what counts is how much passes on ours since an event."""
    watch = Watch()
    router = timed(name, watch, failures=1, cool_down=5.0)
    router.heard(ended("model", 1e6, error="ExecutorCrashed"))
    watch.time = 4.9
    with pytest.raises(ModelUnavailable):
        ask(router, one("model"))
    watch.time = 5.0

    assert "model" == ask(router, one("model"))
