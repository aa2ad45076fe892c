"""Everything that a far end can do wrong ends a task with one typed error, soon, and without the key in it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from llmos import Secret
from llmos.testing import Recorder
from llmos_kernel import Task
from llmos_kernel.errors import Cancelled, DeadlineExceeded, InvalidArgument, KernelError, ModelUnavailable, Overloaded
from llmos_kernel.services import Event
from llmos_remote.anthropic import AnthropicBackend
from llmos_remote.backend import RemoteBackend
from llmos_remote.gemini import GeminiBackend
from llmos_remote.openai import OpenAIBackend
from plugins.remote.tests.far_end import EVENTS, PATIENCE, FarEnd, Reply, events, far_end, plain, refusal
from plugins.remote.tests.serving import client_of, spec_of
from plugins.remote.tests.test_openai import ANSWER, chunk

CANARY = "sk-canary-4f1c2a9b0d3e"


@pytest.fixture
def server() -> Iterator[FarEnd]:
    """A far end that answers well once its replies are used up."""
    with far_end() as server:
        server.always = ANSWER
        yield server


def outcome(server: FarEnd, *, deadline: float = PATIENCE, **options: Any) -> str | KernelError:
    """Return what the model said, or the error that its task ended with."""
    with client_of(OpenAIBackend({}), spec_of(server, **options)) as client:
        try:
            return client.load_model("far").chat("Count", deadline=deadline)
        except KernelError as error:
            return error


BROKEN = {
    "nothing": events(done=False),
    "done at once": events(),
    "no end": events(chunk("One"), done=False),
    "no JSON": Reply([b"data: {nonsense\n\n"], type=EVENTS),
    "no UTF-8": Reply([b"data: \xff\xfe\n\n"], type=EVENTS),
    "no object": events([1, 2]),
    "no choices": events({"id": "x", "choices": 5, "model": "m"}),
    "no delta": events({"id": "x", "choices": [{"index": 0}], "model": "m"}),
    "text that is none": events(chunk(finish="stop", delta={"content": 7})),
    "tokens that are none": events(chunk("One", "stop"), {**chunk(), "usage": {"prompt_tokens": -1}}),
    "many tokens": events(chunk("One", "stop"), {**chunk(), "usage": {"prompt_tokens": 2**70}}),
    "deep": Reply([b"data: " + b"[" * 100_000 + b"\n\n"], type=EVENTS),
    "an error": events(chunk("One"), {"error": {"message": "the server had an error", "type": "server_error"}}),
    "a web page": Reply([b"<html>"], type="text/html"),
    "no type": Reply([b"{}"], type=""),
    "compressed": Reply([b"\x1f\x8b"], type=EVENTS, headers={"content-encoding": "gzip"}),
    "JSON instead": plain({"choices": []}),
    "a broken line": events(chunk("One"), ending="break", done=False),
    "a redirect": Reply(status=307, headers={"location": "http://127.0.0.1:9/v1/chat/completions"}),
    "gateway timeout": Reply(status=504),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_answers(server: FarEnd, what: str) -> None:
    """An answer that is not whole, or none of the protocol's, is the far end's failure; it is not asked again."""
    server.replies.append(BROKEN[what])

    assert type(outcome(server)) is ModelUnavailable
    assert len(server.asked) == 1


def test_endless_answer(server: FarEnd) -> None:
    """An answer of more bytes than the options allow is cut off, whether it is lines or one line."""
    for piece in (b"data: " + b"x" * 4000, b": still here\n\n" * 400):
        server.replies.append(Reply([piece] * 1000, type=EVENTS))
        error = outcome(server, nbytes=100_000)

        assert isinstance(error, ModelUnavailable)
        assert error.fields["field"] == "nbytes"


@pytest.mark.parametrize("status", [401, 402, 403])
def test_refused_key(server: FarEnd, status: int) -> None:
    """A key that is refused says what to look at."""
    server.replies.append(refusal(status, "Incorrect API key provided"))
    error = outcome(server)

    assert isinstance(error, ModelUnavailable)
    assert error.fields["field"] == "api_key"
    assert "OPENAI_API_KEY" in error.message


def test_unknown_model(server: FarEnd) -> None:
    """A model that is not there is named as the far end was asked for it."""
    server.replies.append(refusal(404, "The model does not exist", "model_not_found"))
    error = outcome(server)

    assert isinstance(error, ModelUnavailable)
    assert error.fields["value"] == "theirs"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_refused_request(server: FarEnd, status: int) -> None:
    """What the far end finds wrong with a request is the caller's to mend, in its own words."""
    server.replies.append(refusal(status, "maximum context length\nis 8192"))
    error = outcome(server)

    assert isinstance(error, InvalidArgument)
    assert "maximum context length is 8192" in error.message


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_asks_again(server: FarEnd, status: int) -> None:
    """A refusal before the answer began is asked again when the far end says."""
    server.replies += [refusal(status, "later", retry_after="0")] * 2

    assert outcome(server) == "One two three"
    assert len(server.asked) == 3


def test_gives_up(server: FarEnd) -> None:
    """After so many tries the last refusal is the error."""
    server.replies += [refusal(429, "later", retry_after="0")] * 3
    error = outcome(server, retries=2)

    assert isinstance(error, Overloaded)
    assert error.fields["retry_after"] == 0
    assert len(server.asked) == 3


def test_does_not_wait_too_long(server: FarEnd) -> None:
    """Who is told to come later than its deadline, or than its patience, is told at once."""
    server.replies += [refusal(429, "later", retry_after="50")]
    error = outcome(server, deadline=PATIENCE)
    assert isinstance(error, Overloaded)
    assert error.fields["retry_after"] == 50

    server.replies += [refusal(429, "later", retry_after_ms="70000")]
    assert isinstance(outcome(server), Overloaded)
    assert len(server.asked) == 2


def test_no_quota_left(server: FarEnd) -> None:
    """An account without money is no matter of waiting."""
    server.replies.append(refusal(429, "You exceeded your current quota", "insufficient_quota"))

    assert type(outcome(server)) is ModelUnavailable
    assert len(server.asked) == 1


def test_holds_others_back(server: FarEnd) -> None:
    """A limit that is used up holds the model's next tasks back, within their patience."""
    server.always = events(chunk("One", "stop"), x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="6m0s")
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        model = client.load_model("far")
        assert model.chat("Count") == "One"
        with pytest.raises(Overloaded) as refused:
            model.chat("Count")

    assert 300 < float(str(refused.value.fields["retry_after"])) <= 360
    assert len(server.asked) == 1


def test_nobody_there() -> None:
    """A far end that is not there cannot be reached, however often one tries."""
    with far_end() as server:
        pass
    error = outcome(server, retries=0)

    assert isinstance(error, ModelUnavailable)
    assert "cannot be reached" in error.message


def test_silence(server: FarEnd) -> None:
    """A far end that falls silent is given up; it is not asked again, because it may have done the work."""
    server.replies += [events(chunk("One"), ending="stay", done=False), Reply(ending="stay", type=EVENTS)]
    for _ in range(2):
        error = outcome(server, timeout=0.05)

        assert isinstance(error, ModelUnavailable)
        assert "silent" in error.message
    assert len(server.asked) == 2


def test_cancelled(server: FarEnd) -> None:
    """Closing a stream closes the connection."""
    server.replies.append(events(chunk("One"), ending="stay", done=False))
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        with client.load_model("far").stream("Count") as stream:
            assert next(stream) == "One"

        assert server.gone.wait(PATIENCE)


def test_cancelled_before_it_began(server: FarEnd) -> None:
    """Cancelling a task that waits for its answer closes the connection, too."""
    server.replies.append(Reply(ending="stay", type=EVENTS))
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        stream = client.load_model("far").stream("Count")
        assert server.begun.wait(PATIENCE)
        client.control("CancelTask", stream._task.id)

        assert server.gone.wait(PATIENCE)
        with pytest.raises(Cancelled):
            stream.result()


def test_deadline(server: FarEnd) -> None:
    """A task's deadline ends it wherever it is, and the connection with it."""
    server.replies.append(events(chunk("One"), ending="stay", done=False))

    assert isinstance(outcome(server, deadline=0.2), DeadlineExceeded)
    assert server.gone.wait(PATIENCE)


def test_model_is_unloaded_with_its_connections(server: FarEnd) -> None:
    """A kernel that stops while an answer comes leaves no connection."""
    server.replies.append(events(chunk("One"), ending="stay", done=False))
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        client.load_model("far").stream("Count")
        assert server.begun.wait(PATIENCE)

    assert server.gone.wait(PATIENCE)


def test_partial_text_is_kept(server: FarEnd) -> None:
    """What came before the line broke was read by who streams."""
    server.replies.append(events(chunk("One"), ending="break", done=False))
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        stream = client.load_model("far").stream("Count")
        with pytest.raises(ModelUnavailable):
            stream.result()

        assert stream.text_so_far == "One"


def test_partial_text_of_a_whole_answer(server: FarEnd) -> None:
    """Who does not stream finds in the event of the failure what came before."""
    server.replies.append(events(chunk("One"), chunk(" two"), ending="break", done=False))
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        task = Task("chat", "far", [{"role": "user", "content": "Count"}])
        event = client.process.recv(client.process.schedule(task)).body

    assert isinstance(event.error, ModelUnavailable)
    assert event.text == "One two"


INPUTS: list[Any] = [
    "text", [], [5], [{"content": "no role"}], [{"role": "user"}], [{"role": "queen", "content": "x"}],
    [{"role": "user", "content": "\ud800"}], [{"role": "user", "content": object()}],
]  # fmt: skip
PARAMS: dict[str, Any] = {
    "stop": 5, "max_tokens": 0, "logprobs": -1, "temperature": float("nan"), "logit_bias": {"1": object()},
    "tempreature": 1,
}  # fmt: skip


@pytest.mark.parametrize("value", INPUTS, ids=repr)
def test_bad_input(server: FarEnd, value: object) -> None:
    """Input that cannot be sent is named before anything is."""
    with client_of(OpenAIBackend({}), spec_of(server)) as client:
        error = client.process.recv(client.process.schedule(Task("chat", "far", value))).body.error

    assert isinstance(error, InvalidArgument)
    assert str(error.fields["field"]).startswith("input")
    assert server.asked == []


@pytest.mark.parametrize("name", PARAMS)
def test_bad_parameter(server: FarEnd, name: str) -> None:
    """So is a parameter."""
    with client_of(OpenAIBackend({}), spec_of(server)) as client, pytest.raises(InvalidArgument) as refused:
        client.load_model("far").chat("Count", params={name: PARAMS[name]})

    assert refused.value.fields["field"] == name
    assert server.asked == []


@pytest.mark.parametrize("kind", [OpenAIBackend, AnthropicBackend, GeminiBackend])
def test_key_is_never_told(
    server: FarEnd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type[RemoteBackend]
) -> None:
    """The key is in no error, event, fact, representation or log record, whatever the far end repeats."""
    monkeypatch.setenv("MINE", CANARY)
    caplog.set_level(logging.DEBUG)
    recorder = Recorder()
    echoes: list[Reply] = [
        refusal(401, f"Incorrect API key provided: {CANARY}"), refusal(400, CANARY), refusal(404, CANARY),
        refusal(429, CANARY, retry_after="500"), Reply([CANARY.encode()], type="text/plain"),
        events({"error": {"message": CANARY, "code": CANARY}}), Reply([f"data: {CANARY}\n\n".encode()], type=EVENTS),
        events(chunk("One"), ending="break", done=False),
    ]  # fmt: skip
    told: list[object] = []
    for reply in echoes:
        server.replies.append(reply)
        backend = kind({})
        spec = spec_of(server, backend.name, api_key=Secret(env="MINE"))
        with client_of(backend, spec, recorder) as client:
            model = client.load_model("far")
            with pytest.raises(KernelError) as failure:
                model.chat("Count")
            told += [traceback.format_exception(failure.value), failure.value.to_wire(), failure.value.__cause__]
            told += [client.control("InspectModel", "far"), spec, backend.load(spec), vars(backend.load(spec))]

    assert len(server.asked) == len(echoes)
    assert all(CANARY in repr(one.headers) for one in server.asked)
    assert CANARY not in repr(told)
    assert CANARY not in repr([_plain(event) for event in recorder.events])
    assert CANARY not in caplog.text
    assert CANARY not in repr([vars(record) for record in caplog.records])


def _plain(event: Event) -> object:
    return event.name, dict(event.fields)
