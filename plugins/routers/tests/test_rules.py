"""What each router prefers among those that will do."""

from __future__ import annotations

from collections import Counter

import pytest

from llmos_kernel.errors import ConfigError
from llmos_kernel.services import Event
from llmos_routers.prefix_affinity import weight
from plugins.routers.tests.rules import MODULES, ask, ended, one, rule


@pytest.mark.parametrize("name", MODULES)
def test_options(name: str) -> None:
    """An unknown option is refused with the nearest, and a value that is no number of seconds with the key."""
    with pytest.raises(ConfigError, match="cool_down"):
        rule(name, cooldown=1.0)()
    with pytest.raises(ConfigError, match="cool_down"):
        rule(name, cool_down=float("nan"))()


# --- least-loaded, round-robin, cheapest -----------------------------------------------------------------------


def test_least_loaded() -> None:
    """The fewest unfinished tasks; who is not loaded, only where nobody is."""
    router = rule("least-loaded")()

    assert "b" == ask(router, one("a", 3), one("b", 2), one("c", 0, loaded=False))
    assert "c" == ask(router, one("c", 0, loaded=False), one("d", 1, loaded=False))


def test_least_loaded_takes_turns() -> None:
    """Among equals no one gets all: what is unfinished is known late, and many ask at once."""
    router = rule("least-loaded")()

    assert list("abcabc") == [ask(router, one("a"), one("b"), one("c")) for _ in range(6)]


def test_round_robin() -> None:
    """One after the other, however long the lines are; a newcomer is next."""
    router = rule("round-robin")()

    assert list("abab") == [ask(router, one("a", 9), one("b", 0, loaded=False)) for _ in range(4)]
    assert "new" == ask(router, one("a"), one("b"), one("new"))


def test_cheapest() -> None:
    """The price first, then who is loaded, then the line."""
    router = rule("cheapest")()

    assert "free" == ask(router, one("dear", cost=2.0), one("free", 50, loaded=False))
    assert "here" == ask(router, one("there", loaded=False, cost=1.0), one("here", 3, cost=1.0))
    assert "short" == ask(router, one("long", 2, cost=1.0), one("short", 1, cost=1.0))


# --- fastest ---------------------------------------------------------------------------------------------------


def test_fastest() -> None:
    """The shortest seconds per token win, in the queue or in service, whatever the length of the answers."""
    router = rule("fastest")()
    router.heard(ended("slow", 1.0, 2.0, tokens=1))
    router.heard(ended("fast", 1.0, 10.0, tokens=100))
    router.heard(ended("queue", 1.0, 1.0, tokens=10, queued=9.0))

    assert "fast" == ask(router, one("slow"), one("fast"), one("queue"))


def test_fastest_tries_each_once() -> None:
    """Who was not measured gets one task, and no second one before the first has ended."""
    router = rule("fastest")()
    router.heard(ended("known", 1.0))
    crowd = (one("known"), one("new-1"), one("new-2"))

    assert ["new-1", "new-2", "known", "known"] == [ask(router, *crowd) for _ in range(4)]
    router.heard(ended("new-2", 2.0, 0.5))
    assert "new-2" == ask(router, *crowd)


def test_fastest_measures_what_was_too_late() -> None:
    """A task that missed its deadline took at least so long; otherwise the slowest would count as not measured."""
    router = rule("fastest")()
    router.heard(ended("known", 1.0, 1.0))
    router.heard(ended("stuck", 2.0, 60.0, error="DeadlineExceeded"))

    assert "known" == ask(router, one("known"), one("stuck"))


def test_fastest_tries_again() -> None:
    """A measurement counts for less with time: a model that was eight times slower is tried after three half-lives."""
    router = rule("fastest", half_life=10.0)()
    router.heard(ended("fast", 0.0, 1.0))
    router.heard(ended("slow", 0.0, 8.0))

    chosen = []
    for at in range(1, 60):
        router.heard(ended("fast", float(at), 1.0))
        chosen.append((at, ask(router, one("fast"), one("slow"))))
    tried = [at for at, name in chosen if name == "slow"]
    assert 30 == tried[0]
    assert len(tried) <= 4  # one at a time, and each is given up after a half-life without news


# --- prefix-affinity -------------------------------------------------------------------------------------------


def test_affinity_stays() -> None:
    """The same word goes to the same model, in whatever order they are offered, and words spread evenly."""
    router = rule("prefix-affinity")()
    crowd = [one(f"replica-{number}") for number in range(4)]
    words = [f"word {number}" for number in range(2000)]
    first = {word: ask(router, *crowd, affinity=word) for word in words}

    assert first == {word: ask(router, *reversed(crowd), affinity=word) for word in words}
    shares = Counter(first.values())
    assert 4 == len(shares)
    assert all(400 <= count <= 600 for count in shares.values())  # 500 expected, standard deviation 19


def test_affinity_moves_little() -> None:
    """When a model goes, only its own words move; when it comes back they return."""
    router = rule("prefix-affinity")()
    crowd = [one(f"replica-{number}") for number in range(4)]
    words = [f"word {number}" for number in range(400)]
    before = {word: ask(router, *crowd, affinity=word) for word in words}
    after = {word: ask(router, *crowd[:-1], affinity=word) for word in words}

    moved = {word for word in words if before[word] != after[word]}
    assert {word for word in words if before[word] == "replica-3"} == moved


def test_affinity_is_bounded() -> None:
    """Nobody has more than 1.25 times its share, rounded up, however often the same word is asked for."""
    router = rule("prefix-affinity")()
    load = Counter({f"replica-{number}": 0 for number in range(4)})
    for tasks in range(1, 200):
        chosen = ask(router, *(one(name, count) for name, count in load.items()), affinity="hot")
        load[chosen] += 1

        assert load[chosen] <= -(-5 * tasks // 16)  # ceil(1.25 * tasks / 4)
    first, *_, last = sorted(load, key=lambda name: weight("hot", name), reverse=True)
    assert (max(load.values()), min(load.values())) == (load[first], load[last])


def test_no_affinity() -> None:
    """Without a word it goes where the line is shortest."""
    assert "b" == ask(rule("prefix-affinity")(), one("a", 2), one("b", 1))


# --- auto ------------------------------------------------------------------------------------------------------


def test_auto_takes_the_cheaper_of_equals() -> None:
    """Where nothing is known of either, the price decides, then the name."""
    router = rule("auto")()

    assert "b" == ask(router, one("a", cost=2.0), one("b", cost=1.0), one("c", cost=1.0))


def test_auto_avoids_demonstrations() -> None:
    """A demonstration model is chosen only where there is no other, or where it is asked for."""
    router = rule("auto")()
    toy, real = one("toy", description="A demonstration model."), one("real", 50, loaded=False, nbytes=10**11)

    assert "real" == ask(router, toy, real)
    assert "toy" == ask(router, toy)
    shown = one("shown", capabilities=("demonstration",))
    assert "shown" == ask(router, shown, real, capabilities=("demonstration",))


def test_auto_weighs_speed_against_the_line() -> None:
    """A model that is three times faster gets tasks until its line is as long as the other's service.

    One at a time: 1 s each on the fast one, 3 s on the slow one.  With two unfinished the third takes 3 s on either;
    the tie goes to the name.
    """
    router = rule("auto")()
    for at in range(20):
        router.heard(ended("fast", float(at), 1.0))
        router.heard(ended("slow", float(at), 3.0))

    assert ["fast", "fast", "fast", "slow"] == [ask(router, one("fast", line), one("slow")) for line in range(4)]


def test_auto_knows_who_serves_many_at_once() -> None:
    """By Little's law, eight rows drain a line eight times as fast as one; the steps say how many there are."""
    router = rule("auto")()
    for name in ("narrow", "wide"):
        router.heard(ended(name, 1.0, 1.0))
        rows = {"narrow": 1, "wide": 8}[name]
        router.heard(Event("step", 2.0, {"model": name, "rows": rows, "prompt": 0, "seconds": 0.1}))

    assert "wide" == ask(router, one("narrow", 1), one("wide", 8))  # 2 s, and 1 + 1/8 s
    assert "narrow" == ask(router, one("narrow", 0), one("wide", 8))
    assert "replica" == ask(router, one("replica", 7), one("wide", 8))  # 1 s: it may be as wide


def test_auto_counts_loading() -> None:
    """A model that is not loaded is worth it only when the line is longer than its loading takes."""
    router = rule("auto", load_seconds=1.0, load_rate=1e9)()
    router.heard(ended("here", 1.0, 1.0))
    router.heard(ended("away", 1.0, 1.0))
    away = one("away", loaded=False, nbytes=3 * 10**9)  # 4 s to load

    assert "here" == ask(router, one("here", 3), away)
    assert "away" == ask(router, one("here", 5), away)


def test_auto_learns_how_long_loading_takes() -> None:
    """The last loading counts more than a guess from the size."""
    router = rule("auto", load_seconds=100.0)()
    router.heard(Event("kernel.started", 0.0, {}))
    asleep = one("model", loaded=False)
    assert "model" == ask(router, asleep)
    router.heard(Event("model.loaded", 2.0, {"model": "model", "error": ""}))

    assert "model" == ask(router, asleep, one("other", 5))
