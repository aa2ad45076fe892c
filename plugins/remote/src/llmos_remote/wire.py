"""The one way out: an HTTP client that asks one far end and nobody else, and takes no more than it should.

The makers' clients are given this one, so that what holds for requests and answers holds for all of them: the
configured address only, no redirects, no compressed bodies (they could grow without an end), a bound of bytes, and
errors of llmos instead of those of HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx2

from llmos_kernel.errors import ModelUnavailable
from llmos_remote.failures import FarEnd, Refusal
from llmos_remote.options import Options
from llmos_remote.pace import Pace

REFUSAL = 2**16
"""Most bytes that are read of a refusal."""
KEYS = ("authorization", "x-api-key", "x-goog-api-key")
"""Headers in which a maker's client sends the key, or something in its place where there is none."""
TYPES = ("application/json", "text/event-stream")


class Wire(httpx2.AsyncClient):
    """An `httpx2.AsyncClient` for one far end."""

    def __init__(self, far: FarEnd, options: Options, pace: Pace, own: tuple[str, ...] = ()) -> None:
        self._far, self._most, self._pace = far, options.nbytes, pace
        self._ambient = own
        super().__init__(
            # Plain http goes straight to its host: a proxy from the environment would read the key.
            trust_env=far.place.scheme == "https", follow_redirects=False, headers={"accept-encoding": "identity"},
            timeout=httpx2.Timeout(options.timeout, connect=options.connect, pool=None),
            limits=httpx2.Limits(max_connections=options.rows, max_keepalive_connections=options.rows),
        )  # fmt: skip

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, auth: object = None, follow_redirects: object = None
    ) -> httpx2.Response:
        """Send *request* and return the answer; raise `Refusal` for any other than 200."""
        self._check(request)
        response = await self._sent(request)
        try:
            if response.status_code != 200:
                raise self._far.refused(response.status_code, response.headers, await _start(response))
            self._pace.answered(response.headers, datetime.now(UTC))
            self._check_answer(response)
            response.stream = _Bounded(response.stream, self._most, self._far)
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await super().send(request, stream=True, auth=None, follow_redirects=False)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:  # nothing was sent
            refusal = Refusal(self._far.unavailable(f"cannot be reached ({_why(error, self._far)})"), again=True)
        except httpx2.TimeoutException:
            refusal = Refusal(self._far.unavailable("did not answer in time; it may have done the work"))
        except httpx2.TransportError as error:
            refusal = Refusal(self._far.unavailable(f"broke off before it answered ({_why(error, self._far)})"))
        raise refusal

    def _check(self, request: httpx2.Request) -> None:
        place, url = self._far.place, request.url
        port = url.port or {"https": 443, "http": 80}.get(url.scheme)
        inside = url.path == place.path or url.path.startswith(f"{place.path}/")
        if (url.scheme, url.host, port) != (place.scheme, place.host, place.port) or not inside:
            raise Refusal(self._far.unavailable("is the only one that is asked, and its client asked another"))
        for name in (*self._ambient, *(() if self._far.key else KEYS)):
            request.headers.pop(name, None)

    def _check_answer(self, response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in TYPES:
            said = self._far.clean(kind) or "nothing"
            raise Refusal(self._far.unavailable(f"answered {said} instead of {' or '.join(TYPES)}", field="base_url"))
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(self._far.unavailable("compressed its answer, although it was asked not to"))


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of an answer, no more than so many, with errors of llmos."""

    def __init__(self, stream: object, most: int, far: FarEnd) -> None:
        if not isinstance(stream, httpx2.AsyncByteStream):
            raise TypeError(f"an answer's stream is {type(stream).__name__}")
        self._stream, self._most, self._far = stream, most, far

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most
        failure: ModelUnavailable | None = None
        try:
            async for piece in self._stream:
                left -= len(piece)
                if left < 0:
                    raise self._far.unavailable(f"answered more than {self._most} bytes", field="nbytes")
                yield piece
        except httpx2.TimeoutException:
            failure = self._far.unavailable("fell silent in the middle of its answer", field="timeout")
        except httpx2.TransportError as error:
            failure = self._far.unavailable(f"broke off in the middle of its answer ({_why(error, self._far)})")
        if failure is not None:
            raise failure

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _start(response: httpx2.Response) -> bytes:
    """Return the first bytes of a refusal; one that breaks off says what it said."""
    body = b""
    try:
        async for piece in response.aiter_raw():
            body += piece
            if len(body) >= REFUSAL:
                break
    except httpx2.TransportError:
        return body
    return body[:REFUSAL]


def _why(error: Exception, far: FarEnd) -> str:
    return far.clean(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
