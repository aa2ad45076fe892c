"""Answers in pieces, for threads."""

from __future__ import annotations

import gc

import pytest

from llmos import Client, Model
from llmos.testing import EchoBackend
from llmos_kernel.errors import DeadlineExceeded, InvalidArgument, KernelError, PortClosed


def test_pieces_and_result(model: Model) -> None:
    """The pieces are strings with their tokens; together they are the result."""
    stream = model.stream("a b c")
    pieces = list(stream)

    assert ["a", " b", " c"] == pieces
    assert ("a b c", "stop") == (stream.result(), stream.result().finish)
    assert [1, 1, 1] == [len(piece.tokens) for piece in pieces]


def test_pieces_at_a_pace(model: Model, echo: EchoBackend) -> None:
    """What is made before the reader wants it comes joined; no token is lost, and the end does not wait for an hour."""
    pieces = list(model.stream("a b c d e", pace=3600))

    assert "a b c d e" == "".join(pieces)
    assert 5 == sum(len(piece.tokens) for piece in pieces)
    assert 3600 == echo.executors[0].tasks[-1].pace
    with pytest.raises(InvalidArgument, match="pace"):
        model.stream("a", pace=-1)


def test_result_reads_what_is_left(model: Model) -> None:
    """`result` in the middle of a stream goes on to its end."""
    stream = model.stream("a b c")
    next(stream)

    assert "a b c" == stream.result()


def test_chat_streams_too(model: Model) -> None:
    """A conversation's answer comes in pieces as well."""
    assert ["hello", " there"] == list(model.chat_stream("hello there"))


def test_leaving_the_stream_cancels(model: Model, client: Client, echo: EchoBackend) -> None:
    """What was read stays; the task ends; the whole is never there."""
    echo.gate.shut()
    with model.stream("a b c") as stream:
        echo.gate.wait_for_visitor()
        echo.gate.open()
        next(stream)
        echo.gate.shut()
    echo.gate.open()

    assert {} == client.control("Stats")["tasks"]
    assert stream.text_so_far.startswith("a")
    assert [] == list(stream)
    with pytest.raises(PortClosed):
        stream.result()


def test_dropping_the_stream_cancels(model: Model, client: Client, echo: EchoBackend) -> None:
    """A stream that nobody holds any more does not go on: the next use of the client ends its task."""
    echo.gate.shut()
    stream = model.stream("a b c")
    echo.gate.wait_for_visitor()
    del stream
    gc.collect()
    tasks = client.control("Stats")["tasks"]
    echo.gate.open()

    assert {} == tasks


def test_failure_comes_after_what_was_said(model: Model, echo: EchoBackend) -> None:
    """The pieces until the failure are read, then its error is raised, each time again."""
    echo.faults.row = (1, KernelError("broken row"))
    stream = model.stream("a b c")

    assert "a" == next(stream)
    with pytest.raises(KernelError, match="broken row"):
        next(stream)
    with pytest.raises(KernelError, match="broken row"):
        stream.result()
    assert "a" == stream.text_so_far


def test_a_wait_that_ends_early_can_be_repeated(model: Model, echo: EchoBackend) -> None:
    """`DeadlineExceeded` of one wait leaves the stream alone."""
    echo.gate.shut()
    stream = model.stream("a b", timeout=0.05)
    with pytest.raises(DeadlineExceeded):
        next(stream)
    echo.gate.open()

    assert "a b" == stream.result()
