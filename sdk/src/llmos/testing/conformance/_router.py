"""What a router owes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from llmos.testing.conformance._base import Conformance, at_once, expect, reach, take
from llmos.testing.routing import Question, make_events, make_models, make_question, make_random
from llmos_kernel.api import Auto
from llmos_kernel.services import Event, Router

MakeRouter = Callable[[], Router]


class RouterConformance(Conformance):
    """What every router owes.  Subclass it, and give it a fixture ``make_router``.

    The fixture returns a function without arguments that makes a new router, as ``llmos_router`` does.
    """

    def test_is_taken(self, make_router: MakeRouter) -> None:
        """`llmos_router`: "return the router"."""
        take("router", make_router)

    def test_chooses_what_will_do(self, make_router: MakeRouter) -> None:
        """`Router.route`: "Return the name of one of *candidates*": one that has what is wanted; or raise, typed."""
        for seed in range(40):
            for question, answer in _asked(make_router(), make_random(seed)):
                allowed = question.suited | {"NotFound", "ModelUnavailable"}
                expect(True, answer in allowed, f"choosing {answer!r} for {question}; {sorted(allowed)} would do")

    def test_finds_what_will_do(self, make_router: MakeRouter) -> None:
        """`Router.route`: "raise `NotFound` if none will do", and only then, as long as nothing has failed."""
        for seed in range(200):
            random = make_random(seed)
            question = make_question(random, make_models(random, random.randint(0, 5)))
            answer = question.asked_of(make_router())
            expect(bool(question.suited), answer != "NotFound", f"finding one for {question}; the answer is {answer}")

    def test_same_calls_same_answers(self, make_router: MakeRouter) -> None:
        """`Router`: "Chooses the model": two that are asked and told the same, in the same order, choose the same."""
        for seed in range(20):
            first, second = ([answer for _, answer in _asked(make_router(), make_random(seed))] for _ in range(2))
            expect(first, second, "answers to the same questions")

    def test_any_event(self, make_router: MakeRouter) -> None:
        """`Router.heard`: "like them without promise": what it does not know, or says less, is no reason to raise."""
        router = make_router()
        for name in ("task.done", "task.failed", "task.accepted", "step", "model.loaded", "model.failed", "new.event"):
            router.heard(Event(name, 1.0, {}))
            router.heard(Event(name, 2.0, {"model": "nobody", "task": 10**9, "error": "NoSuchError"}))

    def test_many_threads(self, make_router: MakeRouter) -> None:
        """`Router`: "Any thread, concurrently": each that asks at the same time gets an answer to its own question."""
        router, failures = make_router(), list[str]()

        def ask(number: int) -> None:
            random = make_random(number)
            models = make_models(random, 4, f"of-thread-{number}")
            for at in range(60):
                question = make_question(random, models)
                try:
                    answer = question.asked_of(router)
                    for event in make_events(random, float(at), at, models[0].name):
                        router.heard(event)
                except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
                    answer = repr(error)
                if answer not in question.suited | {"NotFound", "ModelUnavailable"}:
                    failures.append(f"{answer} of {sorted(question.suited)}")

        at_once(*(partial(ask, number) for number in range(8)))
        expect([], failures, "answers that are none")

    def test_router_forgets(self, make_router: MakeRouter) -> None:
        """`Router.heard`: "Take note of what observers are told", and forget what has ended.

        A router that routed thousands is no larger than one that routed hundreds.
        """
        router, random = make_router(), make_random(0)
        models, sizes = make_models(random, 3), []
        for begin in range(0, 1600, 400):
            for number in range(begin, begin + 400):
                question = make_question(random, models)
                Question(question.kind, Auto(affinity=f"word {number}"), question.candidates).asked_of(router)
                for event in make_events(random, float(number), number, models[number % 3].name):
                    router.heard(event)
            sizes.append(reach(router))
        if sizes[-1] > sizes[0] + 400:
            raise AssertionError(f"the router grows with what it has routed; objects after each round: {sizes}")


def _asked(router: Router, random: Random) -> list[tuple[Question, str]]:
    """Ask and tell *router* this and that, and return the questions with their answers."""
    models, asked = make_models(random, random.randint(1, 6)), list[tuple[Question, str]]()
    for number in range(40):
        question = make_question(random, models)
        asked.append((question, question.asked_of(router)))
        for event in make_events(random, float(number), number, random.choice(models).name):
            router.heard(event)
    return asked
