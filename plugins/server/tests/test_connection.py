"""What is asked of a connection besides requests: the rules of HTTP/1.1 that its parser leaves to who uses it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmos_server.connection import AHEAD, Joined, HEAD as MOST
from plugins.server.tests.raw import HEAD, asked, client, error, rest
from plugins.server.tests.serving import Site, serving

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"
SOON = 0.2


def statuses(answers: bytes) -> list[int]:
    """Return the statuses of answers one after the other."""
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def chunked(*parts: bytes, trailer: bytes = b"") -> bytes:
    """Return a body in chunks (RFC 9112, section 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (HEALTH + b"X: " + b"x" * MOST + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * MOST + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (HEALTH + b"X: x\r\n" * MOST, 431),
        (b"\r\n" * MOST, 431),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + chunked(b"{}"), 400),
        (HEAD + b"Transfer-Encoding: identity\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 2, 2\r\n\r\n{}", 400),
        (HEALTH + b"X : x\r\n\r\n", 400),
        (HEALTH + b"X: x\r y\r\n\r\n", 400),
        (b"GET /h\xc3\xa4 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
    ids=["no host", "a long head at once", "a long path", "many headers", "blank lines", "two ways to say how long",
         "an unknown coding", "a negative length", "a length twice", "a space before a colon", "a lone return",
         "a path that is not ASCII", "a tunnel", "no path", "an unknown version", "HTTP/2"],
)  # fmt: skip
def test_what_is_no_request(site: Site, sent: bytes, told: int) -> None:
    """Is refused in the form of all errors, and nothing after it is read as a request."""
    with client(site) as opened:
        sending = threading.Thread(target=opened.sendall, args=(sent + HEALTH + CLOSE,))
        sending.start()
        assert (told, "bad_request") == error(rest(opened))
        sending.join()

    assert 200 == site.http.get("/health").status_code


def test_old_clients_name_no_host(site: Site) -> None:
    """HTTP/1.0 has none, and ends the connection after its answer."""
    with client(site) as opened:
        opened.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert [200] == statuses(rest(opened))


def test_a_blank_line_alone_is_the_beginning_of_a_head() -> None:
    """It may stand before a request (RFC 9112, section 2.2), and the time for the rest runs."""
    with serving(head_seconds=SOON) as site:
        with client(site) as opened:
            opened.sendall(b"\r\n" + HEALTH + CLOSE)
            assert [200] == statuses(rest(opened))
        with client(site) as opened:
            opened.sendall(HEALTH + b"\r\n")
            opened.recv(2**16)
            opened.sendall(b"\r\n")
            assert (408, "request_timeout") == error(rest(opened))


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_however_it_is_cut(site: Site, step: int) -> None:
    """Requests are the same in many pieces and in one."""
    body = json.dumps({"model": "toy", "messages": [{"role": "user", "content": "one two"}]}).encode()
    sent = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body[:9], body[9:]) + asked("three") + HEALTH + CLOSE
    with client(site) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(sent), step):
            opened.sendall(sent[at : at + step])
        answers = rest(opened)

    assert [200, 200, 200] == statuses(answers)
    assert -1 < answers.index(b'"one two"') < answers.index(b'"three"')


def test_what_follows_a_body_says_nothing(site: Site) -> None:
    """Trailers are no headers: one that names another origin, which is refused as a header, changes nothing."""
    body = json.dumps({"model": "toy", "messages": [{"role": "user", "content": "one two"}]}).encode()
    head, origin = HEAD + b"Transfer-Encoding: chunked\r\n", b"Origin: http://example.com\r\n"
    with client(site) as opened:
        opened.sendall(head + b"\r\n" + chunked(body, trailer=origin) + head + origin + CLOSE + chunked(body))
        assert [200, 403] == statuses(rest(opened))


@pytest.mark.parametrize(
    "endless", [b"0\r\nX: " + b"x" * 2 * MOST, b"1;x=" + b"x" * 2 * MOST], ids=["trailer", "chunk"]
)
def test_what_is_no_body_has_an_end(site: Site, endless: bytes) -> None:
    """A trailer, or what is said of a chunk, is bounded as a head is."""
    with client(site) as opened:
        opened.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + endless + b"x" * 2 * MOST)
        assert (431, "bad_request") == error(rest(opened))


def test_another_protocol_is_not_spoken(site: Site) -> None:
    """Who asks for one, as Java's client does for HTTP/2, is answered in this one, body and all, and may go on."""
    body = b'{"model": "toy", "messages": [{"role": "user", "content": "one two"}]}'
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    for cut in (20, 220, 10**6):
        sent = HEAD + wish + b"Content-Length: %d\r\n\r\n" % len(body) + body + HEALTH + wish + CLOSE
        with client(site) as opened:
            opened.sendall(sent[:cut])
            opened.sendall(sent[cut:])
            answers = rest(opened)

        assert [200, 200] == statuses(answers)
        assert b'"one two"' in answers


def test_who_waits_to_be_told_to_go_on(site: Site) -> None:
    """Is told so once its body is wanted; whoever is refused before need not send it, and the connection ends."""
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n"
    body = b'{"model": "toy", "messages": [{"role": "user", "content": "one two"}]}'
    with client(site) as opened:
        opened.sendall(expecting % len(body) + CLOSE)
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == opened.recv(2**16)
        opened.sendall(body)
        assert b'"one two"' in rest(opened)
    with client(site) as opened:
        opened.sendall(expecting % 10**10 + b"\r\n")
        assert [413] == statuses(rest(opened))


def test_a_body_that_was_refused_is_read_and_left(site: Site) -> None:
    """What comes after it is the next request, and not a part of it."""
    size = site.app.state.llmos.options.body + 1
    with client(site) as opened:
        opened.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size)
        answer = opened.recv(2**16)
        opened.sendall(b"x" * size + HEALTH + CLOSE)
        assert [413, 200] == statuses(answer + rest(opened))


def test_too_many_requests_behind_each_other() -> None:
    """End the connection: each costs the server more than it costs its client.  Nobody else is affected."""
    with serving() as site:
        site.echo.gate.shut()
        with client(site) as opened:
            opened.sendall(asked() + (HEALTH + b"\r\n") * (AHEAD + 2))
            assert b"" == rest(opened)
        site.echo.gate.open()

        assert 200 == site.http.get("/health").status_code


def test_a_fault_of_the_server(site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told as one, and not as the client's; the log has the rest."""
    monkeypatch.setattr(HttpToolsProtocol, "on_url", lambda *_: 1 / 0)
    with client(site) as opened:
        opened.sendall(HEALTH + CLOSE)
        answer = rest(opened)

    assert [500] == statuses(answer)
    assert b"division" not in answer
    assert "ZeroDivisionError" in caplog.text


class Wire(asyncio.Transport):
    """A transport that tells what was sent through it, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note what is sent."""
        self.told.append(bytes(data))

    def write_eof(self) -> None:
        """Note it."""
        self.told.append("eof")

    def close(self) -> None:
        """Note it."""
        self.told.append("close")

    def get_write_buffer_size(self) -> int:
        """Return what was not taken yet."""
        return 100


def test_what_is_written_in_one_turn_is_sent_together() -> None:
    """In order, at the end of the turn, and before the connection ends."""

    async def main() -> list[bytes | str]:
        wire = Wire()
        joined = Joined(wire, asyncio.get_running_loop())
        joined.write(b"a")
        joined.write(b"bc")
        assert (103, []) == (joined.get_write_buffer_size(), wire.told)
        await asyncio.sleep(0)
        joined.write(b"d")
        joined.write_eof()
        joined.write(b"e")
        joined.close()
        await asyncio.sleep(0)
        return wire.told

    assert [b"abc", b"d", "eof", b"e", "close"] == asyncio.run(main())


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    cuts=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 20), st.binary(max_size=6)), min_size=1, max_size=3),
    ways=st.sampled_from([asked("hi", max_tokens=1), HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"{}")]),
)
def test_damaged_requests(site: Site, cuts: list[tuple[int, int, bytes]], ways: bytes) -> None:
    """Are answered, or end the connection; a fault of the server's own is none of the answers."""
    sent = ways + HEALTH + CLOSE
    for at, length, put in cuts:
        sent = sent[:at] + put + sent[at + length :]
    with client(site) as opened:
        opened.sendall(sent)
        opened.shutdown(socket.SHUT_WR)
        assert not [status for status in statuses(rest(opened)) if status >= 500]
