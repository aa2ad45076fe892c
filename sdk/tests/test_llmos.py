"""`LLMOS`: submit functions, get results in order."""

from __future__ import annotations

import threading

import pytest

from llmos import LLMOS
from llmos_kernel import Kernel
from llmos_kernel.errors import DeadlineExceeded, NotFound, TaskFailed


def test_results_come_in_the_order_of_submission(kernel: Kernel) -> None:
    """Whichever function ends first."""
    with LLMOS(kernel=kernel) as os:
        go = threading.Event()
        os.submit_task(go.wait)
        os.submit_task(go.set)

        assert [True, None] == [os.get_result(), os.get_result()]


def test_arguments_are_passed(kernel: Kernel) -> None:
    """Positional and by keyword."""
    with LLMOS(kernel=kernel) as os:
        os.submit_task(int, "ff", base=16)

        assert 255 == os.get_result()


def test_a_failure_is_raised_in_its_turn(kernel: Kernel) -> None:
    """And those behind it are not affected."""
    with LLMOS(kernel=kernel) as os:
        os.submit_task(lambda: 1 / 0)
        os.submit_task(lambda: "fine")

        with pytest.raises(TaskFailed, match="ZeroDivisionError"):
            os.get_result()
        assert "fine" == os.get_result()


def test_a_timeout_leaves_the_task_first(kernel: Kernel) -> None:
    """Who did not wait long enough may wait again."""
    with LLMOS(kernel=kernel) as os:
        go = threading.Event()
        os.submit_task(go.wait)
        os.submit_task(lambda: "second")
        with pytest.raises(DeadlineExceeded):
            os.get_result(timeout=0.05)
        go.set()

        assert [True, "second"] == [os.get_result(), os.get_result()]


def test_nothing_submitted_is_an_error(kernel: Kernel) -> None:
    """Instead of waiting for ever."""
    with LLMOS(kernel=kernel) as os, pytest.raises(NotFound, match="no submitted task"):
        os.get_result()


def test_models(kernel: Kernel) -> None:
    """It loads models like a client."""
    with LLMOS(kernel=kernel) as os:
        assert "a" == os.load_model("echo").generate_text("a")
