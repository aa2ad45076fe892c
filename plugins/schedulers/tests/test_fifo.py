"""First come, first served: what it plans in each situation, and its options."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from llmos_kernel.contracts import API, Limits, Plan, TaskView
from llmos_kernel.errors import ConfigError
from llmos_schedulers import fifo

LIMITS = Limits(rows=8, free=8)


def view(id: int, **fields: Any) -> TaskView:
    """A waiting task that arrived at the time *id*."""
    known = {"prompt": 10, "max_tokens": 4, "arrival": float(id)} | fields
    return TaskView(id=id, kind="generate", tenant="t", priority=0, deadline=None, **known)


def scheduler(*tasks: TaskView, **options: Any) -> fifo.Fifo:
    """A scheduler that has heard of *tasks*."""
    made = fifo.llmos_scheduler(options)
    assert isinstance(made, fifo.Fifo)
    for task in tasks:
        made.arrived(task)
    return made


def running(id: int, **fields: Any) -> TaskView:
    """A task that has its place."""
    return view(id, state="running", **fields)


def test_nothing_to_do() -> None:
    """Without tasks the plan is empty and asks for no wake-up."""
    assert Plan() == scheduler().plan(0.0, LIMITS)


def test_admits_in_order_of_arrival() -> None:
    """The earliest arrivals get the free places, whatever the order in which the scheduler heard of them."""
    made = scheduler(view(3), view(1), view(2))

    assert Plan(admit=(1, 2)) == made.plan(0.0, attrs.evolve(LIMITS, free=2))


def test_equal_arrivals_stand_in_order_of_id() -> None:
    """The id decides between tasks that arrived at the same time."""
    made = scheduler(view(2, arrival=0.0), view(1, arrival=0.0))

    assert made.plan(0.0, LIMITS).admit == (1, 2)


def test_refused_task_is_proposed_again() -> None:
    """A task that the executor answered `NotNow` keeps its turn."""
    made = scheduler(view(1), view(2))
    made.plan(0.0, attrs.evolve(LIMITS, free=1))

    assert made.plan(1.0, attrs.evolve(LIMITS, free=1)).admit == (1,)


def test_full_length_class_holds_up_only_itself() -> None:
    """Tasks of a class with room pass those of a class without; each class is first come, first served."""
    long, short = {"length_class": 1}, {"length_class": 0}
    made = scheduler(view(1, **long), view(2, **short), view(3, **long), view(4, **short))
    limits = attrs.evolve(LIMITS, free=2, pools=((128, 2), (2048, 0)))

    assert made.plan(0.0, limits).admit == (2, 4)
    assert made.plan(0.0, attrs.evolve(limits, pools=((128, 1), (2048, 1)))).admit == (1, 2)


def test_classes_share_the_free_places_in_order_of_arrival() -> None:
    """Where every class has room, the free places go to the earliest of all."""
    made = scheduler(view(1, length_class=1), view(2, length_class=0), view(3, length_class=0))
    limits = attrs.evolve(LIMITS, free=2, pools=((128, 2), (2048, 2)))

    assert made.plan(0.0, limits).admit == (1, 2)


def test_class_that_is_not_published_takes_any_free_place() -> None:
    """A length class beyond the published ones is bounded by the free places alone."""
    made = scheduler(view(1, length_class=3))

    assert made.plan(0.0, attrs.evolve(LIMITS, pools=((128, 0),))).admit == (1,)


def test_admitted_task_is_prefilled_and_then_decoded() -> None:
    """The prompt comes first, cached tokens left out; decoding starts when it is computed."""
    made = scheduler(view(1))
    made.changed(running(1, cached=4))

    assert Plan(prefill=((1, 6),)) == made.plan(0.0, LIMITS)
    made.charged(1, 6, 1)
    assert Plan(decode=((1, 3),)) == made.plan(0.0, LIMITS)


def test_fully_cached_prompt_is_decoded_at_once() -> None:
    """Where nothing of the prompt is left to compute, there is nothing to prefill."""
    made = scheduler(view(1))
    made.changed(running(1, cached=10))

    assert Plan(decode=((1, 4),)) == made.plan(0.0, LIMITS)


def test_who_runs_alone_may_produce_all_that_is_left() -> None:
    """A task beside which nothing runs is planned for all that it has left and a step takes; others for one token."""
    made = scheduler()
    made.changed(running(1, cached=10))
    few = attrs.evolve(LIMITS, tokens=2)

    assert ((1, 4),) == made.plan(0.0, LIMITS).decode
    assert ((1, 2),) == made.plan(0.0, few).decode
    made.changed(running(2))
    assert ((1, 1),) == made.plan(0.0, LIMITS).decode
    made.changed(running(2, cached=10))
    assert ((1, 1), (2, 1)) == made.plan(0.0, LIMITS).decode


def test_no_token_past_the_maximum() -> None:
    """A task that has produced its maximum is not decoded while it is being retired."""
    made = scheduler()
    made.changed(running(1, cached=10, generated=3))
    made.charged(1, 0, 1)

    assert Plan() == made.plan(0.0, LIMITS)


def test_long_prompt_is_cut_into_chunks() -> None:
    """No step computes more prompt tokens than the chunk."""
    made = scheduler(chunk=4)
    made.changed(running(1))

    pieces: list[tuple[int, int]] = []
    while piece := made.plan(0.0, LIMITS).prefill:
        pieces += piece
        made.charged(1, piece[0][1], 0)
    assert pieces == [(1, 4), (1, 4), (1, 2)]


def test_first_prompts_share_a_step_whole() -> None:
    """Prompts that fit into the chunk together are computed together; the one that does not fit waits uncut."""
    made = scheduler(chunk=25)
    for id in (1, 2, 3):
        made.changed(running(id))

    assert made.plan(0.0, LIMITS).prefill == ((1, 10), (2, 10))


def test_one_prompt_at_a_time_if_told() -> None:
    """With batch_prompts off, one prompt is computed per step."""
    made = scheduler(batch_prompts=False)
    made.changed(running(1))
    made.changed(running(2))

    assert made.plan(0.0, LIMITS).prefill == ((1, 10),)


def test_executor_says_how_many_chunks() -> None:
    """The executor's limit of chunks per step holds."""
    made = scheduler()
    for id in (1, 2, 3):
        made.changed(running(id))

    assert made.plan(0.0, attrs.evolve(LIMITS, chunks=2)).prefill == ((1, 10), (2, 10))


def test_decodes_come_first_and_prompts_take_the_rest() -> None:
    """Running tasks never wait for a prompt; it gets the tokens that they leave."""
    made = scheduler()
    made.changed(running(1, cached=10))
    made.changed(running(2, cached=10))
    made.changed(running(3))
    limits = attrs.evolve(LIMITS, tokens=6)

    assert Plan(decode=((1, 1), (2, 1)), prefill=((3, 4),)) == made.plan(0.0, limits)


def test_more_running_than_rows() -> None:
    """A step serves no more tasks than the executor has rows, the earliest first."""
    made = scheduler()
    made.changed(running(1))
    made.changed(running(2, cached=10))
    made.changed(running(3, cached=10))

    assert Plan(decode=((2, 1), (3, 1))) == made.plan(0.0, attrs.evolve(LIMITS, rows=2, free=0))


def test_fewer_tokens_than_rows() -> None:
    """Decoded tokens count against the token budget as well."""
    made = scheduler()
    for id in (1, 2, 3):
        made.changed(running(id, cached=10))

    assert Plan(decode=((1, 1), (2, 1))) == made.plan(0.0, attrs.evolve(LIMITS, tokens=2))


def test_stalled_task_is_left_alone() -> None:
    """A task whose reader is behind is not decoded, until it runs again."""
    made = scheduler()
    made.changed(running(1, cached=10))
    made.changed(view(1, cached=10, generated=2, state="stalled"))

    assert Plan() == made.plan(0.0, LIMITS)
    made.changed(running(1, cached=10, generated=2))
    assert Plan(decode=((1, 2),)) == made.plan(0.0, LIMITS)


def test_preempted_task_is_resumed_before_later_arrivals() -> None:
    """Somebody else preempted it: it stands outside, where its arrival puts it."""
    made = scheduler(view(2), view(3))
    made.changed(view(1, prefilled=10, generated=1, state="preempted"))

    assert Plan(resume=(1,), admit=(2,)) == made.plan(0.0, attrs.evolve(LIMITS, free=2))


def test_run_executor_only_admits() -> None:
    """A task without prompt and output tokens is run by its executor: it is admitted and never planned again."""
    made = scheduler(view(1, prompt=0, max_tokens=0))

    assert Plan(admit=(1,)) == made.plan(0.0, LIMITS)
    made.changed(running(1, prompt=0, max_tokens=0))
    assert Plan() == made.plan(0.0, LIMITS)


def test_prompt_without_output_is_prefilled() -> None:
    """An embedding has a prompt and no output: prefill is all there is."""
    made = scheduler()
    made.changed(running(1, max_tokens=0))

    assert Plan(prefill=((1, 10),)) == made.plan(0.0, LIMITS)
    made.charged(1, 10, 0)
    assert Plan() == made.plan(0.0, LIMITS)


def test_ended_tasks_are_forgotten() -> None:
    """A task may end anywhere: before it arrived, outside, while it runs, and during the step that charges it."""
    made = scheduler(view(1), view(2))
    made.changed(running(2))
    for id in (1, 2, 3):
        made.finished(id)
    made.charged(2, 10, 1)

    assert Plan() == made.plan(0.0, LIMITS)
    assert made.tasks == {}


def test_module_states_the_contract() -> None:
    """The module is written for the kernel's version of the scheduler contract."""
    assert API["scheduler"] == fifo.api


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"chunks": 4}, "chunks", "'chunk'"),
        ({"batch": True}, "batch", "'batch_prompts'"),
        ({"chunk": 0}, "chunk", "from 1"),
        ({"chunk": float("nan")}, "chunk", "whole number"),
        ({"batch_prompts": "yes"}, "batch_prompts", "true or false"),
    ],
)
def test_wrong_option(options: dict[str, Any], field: str, words: str) -> None:
    """A wrong option is an error that names it, the plugin, and what would be right."""
    with pytest.raises(ConfigError, match=words) as caught:
        fifo.llmos_scheduler(options)

    assert field == caught.value.fields["field"]
    assert caught.value.fields["source"] == "scheduler:fifo"
