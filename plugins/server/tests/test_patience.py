"""Clients that are slow, odd or gone: each has its time, and none costs another one anything."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmos.testing import EchoBackend, FirstComePlugin, Recorder, echo_spec
from llmos_kernel import Kernel, KernelConfig
from plugins.server.tests.raw import HEAD, asked, client, error, rest
from plugins.server.tests.serving import PATIENCE, Site, serving, serving_kernel

SOON = 0.2


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET /health HTTP/1.1\r\nHost: loc", (408, "request_timeout")),
        (b"G", (408, "request_timeout")),
        (HEAD + b"Content-Length: 100\r\n\r\n{", (408, "request_timeout")),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", (408, "request_timeout")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400, "bad_request")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400, "bad_request")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", (400, "bad_request")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", (400, "bad_request")),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", (400, "bad_request")),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 2**17, (431, "bad_request")),
    ],
    ids=["half a head", "a byte", "half a body", "half a chunk", "TLS", "two hosts", "two lengths",
         "a zero byte", "no chunk", "a long head"],
)  # fmt: skip
def test_what_is_no_request(sent: bytes, told: tuple[int, str]) -> None:
    """Is one typed error, after which the connection is ended; and the server goes on."""
    with serving(head_seconds=SOON, body_seconds=SOON) as site:
        with client(site) as opened:
            opened.sendall(sent)
            assert told == error(rest(opened))

        assert 200 == site.http.get("/health").status_code


def test_who_says_nothing_is_let_go() -> None:
    """Without an answer, because nothing was asked: at the beginning, and after an answer too."""
    with serving(head_seconds=SOON) as site:
        with client(site) as silent:
            assert b"" == rest(silent)
        with client(site) as refused:  # a body that is announced, refused, and never sent
            refused.sendall(HEAD + b"Content-Length: 999999999\r\n\r\n")
            answer = rest(refused)

        assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_byte_at_a_time_does_not_buy_more_time() -> None:
    """The limit is that of the whole head, however often something comes."""
    with serving(head_seconds=SOON) as site, client(site) as opened:
        opened.settimeout(SOON / 20)
        said, sent = b"", HEAD + b"X: " + b"x" * 10_000
        for index in range(len(sent)):
            opened.sendall(sent[index : index + 1])
            try:
                said = opened.recv(2**16)
            except TimeoutError:
                continue
            break

        assert said.startswith(b"HTTP/1.1 408 ")


def test_requests_behind_each_other_are_answered_in_order(site: Site) -> None:
    """Also when all of them come at once, one of them with a fault."""
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with client(site) as opened:
        opened.sendall(asked("one", max_tokens=1) + asked(temperature=9) + asked("two", max_tokens=1) + last)
        answers = rest(opened)

    assert [b"200", b"400", b"200", b"200"] == [part.split()[0] for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert -1 < answers.index(b'"one"') < answers.index(b'"two"') < answers.index(b'"ok"')


def test_half_closed_is_gone() -> None:
    """Who closes its side of the connection has gone, and its task is cancelled."""
    echo, recorder = EchoBackend(), Recorder()
    with serving(recorder, echo=echo) as site:
        echo.gate.shut()
        with client(site) as opened:
            opened.sendall(asked())
            echo.gate.wait_for_visitor()
            opened.shutdown(socket.SHUT_WR)
            recorder.wait_for("task.cancelled", PATIENCE)

            assert b"" == rest(opened)


def test_half_closed_with_much_unread_is_gone(tmp_path: Path) -> None:
    """Also while what waits to be written cannot be: nobody waits for that.  A Unix socket holds little."""
    echo, recorder, path = EchoBackend(), Recorder(), tmp_path / "socket"
    config = KernelConfig(models=(echo_spec("toy"),), timeout=PATIENCE)
    text = " ".join(["word" * 100] * 3000)
    with (
        Kernel(config, plugins=(echo, FirstComePlugin(), recorder)) as kernel,
        serving_kernel(kernel, echo, path=path),
        socket.socket(socket.AF_UNIX) as opened,
    ):
        opened.connect(str(path))
        opened.sendall(asked(text, stream=True))
        opened.recv(16)
        opened.shutdown(socket.SHUT_WR)

        assert "task.cancelled" == recorder.wait_for("task.cancelled", PATIENCE).name


def test_half_a_body_is_no_request() -> None:
    """Nothing is begun for who goes before its request was whole, even if what came can be read."""
    recorder = Recorder()
    with serving(recorder) as site:
        body = b'{"model": "echo", "prompt": "a"}'
        with client(site) as opened:
            opened.sendall(HEAD.replace(b"chat/", b"") + f"Content-Length: {len(body) + 1}\r\n\r\n".encode() + body)
            opened.shutdown(socket.SHUT_WR)
            assert b"" == rest(opened)
        site.chat()

    assert 1 == len([event for event in recorder.events if event.name == "task.done"])


def test_a_reader_that_stalls_is_alone_with_it() -> None:
    """Others are answered meanwhile, and after its time it is let go: its tasks are cancelled."""
    echo, recorder = EchoBackend(), Recorder()
    text = " ".join(["word"] * 2000)
    with serving(recorder, echo=echo, stall_seconds=1.0) as site, client(site, room=2048) as opened:
        opened.sendall(asked(text, stream=True, n=8, logprobs=True, top_logprobs=5))
        assert opened.recv(64).startswith(b"HTTP/1.1 200")
        assert "one two three" == site.chat().choices[0].message.content
        recorder.wait_for("task.cancelled", PATIENCE)

        assert b"[DONE]" not in rest(opened)


def test_bodies_share_a_room() -> None:
    """Many large ones at once are too much: the one for which there is no room is told when to try again."""
    with serving(reading=2**16) as site, client(site) as first, client(site) as second:
        large = HEAD + b"Content-Length: 60000\r\n\r\n"
        first.sendall(large + b" " * 50_000)
        second.sendall(large + b" " * 50_000)
        first.settimeout(SOON)
        refused = next(_first_answer(first, second))
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in refused.lower()

        assert 200 == site.http.get("/health").status_code


def _first_answer(*sockets: socket.socket) -> Iterator[bytes]:
    """Yield what the first of *sockets* that is answered gets."""
    while True:
        for opened in sockets:
            opened.settimeout(SOON)
            try:
                yield opened.recv(2**16)
            except TimeoutError:
                continue
