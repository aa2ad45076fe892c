"""The synchronous client, over a kernel with an echo model."""

from __future__ import annotations

import pickle
import sys
import threading
from typing import Any

import pytest

from llmos import Client, Model, Text, call
from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Action, Credentials, Decision, Kernel, KernelConfig, Policy, control
from llmos_kernel.errors import (
    Cancelled, DeadlineExceeded, HandleRevoked, InvalidArgument, KernelError, NotFound, PluginMissing, PortBroken,
    TaskFailed,
)  # fmt: skip


def test_text_is_a_string_with_facts(model: Model) -> None:
    """The answer prints as its text, and knows its finish, its tokens and its usage."""
    answer = model.generate_text("the quick brown fox", max_tokens=3)

    assert "the quick brown" == answer
    assert ("length", 3, "echo") == (answer.finish, len(answer.tokens), answer.model)
    assert (4, 3) == (answer.usage.prompt, answer.usage.generated)


def test_max_length_is_another_name(model: Model) -> None:
    """``max_length`` limits the answer like ``max_tokens``."""
    assert "a b" == model.generate_text("a b c", max_length=2)


def test_two_lengths_that_differ_are_refused(model: Model) -> None:
    """Giving both names with different values is an error that names one of them."""
    with pytest.raises(InvalidArgument) as caught:
        model.generate_text("a b c", max_length=2, max_tokens=3)

    assert "max_length" == caught.value.fields["field"]


def test_n_answers_are_n_tasks(model: Model, echo: EchoBackend) -> None:
    """``n`` gives a list, made side by side by tasks of their own."""
    answers = model.generate_text("a b", n=3)

    assert ["a b"] * 3 == answers
    assert 3 == len({answer.task for answer in answers})


def test_n_answers_have_seeds_of_their_own(model: Model, echo: EchoBackend) -> None:
    """A seed counts up over the answers, or they would all be the same."""
    model.generate_text("a", n=3, seed=5)

    assert [5, 6, 7] == sorted(task.params["seed"] for task in echo.executors[0].tasks)


def test_seeds_of_n_answers_begin_again_after_the_last(model: Model, echo: EchoBackend) -> None:
    """The largest seed is followed by the smallest, not by one that no backend takes."""
    model.generate_text("a", n=2, seed=2**64 - 1)

    assert {0, 2**64 - 1} == {task.params["seed"] for task in echo.executors[0].tasks}


def test_parameters_of_a_backend_pass_through(model: Model) -> None:
    """``params`` carries what only a backend knows, and the backend refuses what it does not."""
    with pytest.raises(InvalidArgument, match="warmth"):
        model.generate_text("a", params={"warmth": 3})


def test_forms_of_the_answer_pass_through(model: Model, echo: EchoBackend) -> None:
    """``schema``, ``regex`` and ``grammar`` reach the backend as they are."""
    for form in ({"schema": {"type": "integer"}}, {"regex": "a+"}, {"grammar": 'start: "a"'}):
        model.generate_text("a", **form)

        assert form == echo.executors[0].tasks[-1].params


def test_answer_as_json(model: Model) -> None:
    """An answer that is JSON text gives its value."""
    assert {"a": [1, None]} == model.generate_text('{"a": [1, null]}').json()


@pytest.mark.parametrize(("prompt", "said"), [("no JSON", "JSON"), ('{"a": 1}', "max_tokens"), ("[" * 10**5, "JSON")])
def test_answer_that_is_no_json(model: Model, prompt: str, said: str) -> None:
    """What is no JSON text is an error that says so, and whether it was cut."""
    answer = model.generate_text(prompt, max_tokens=1)
    with pytest.raises(InvalidArgument, match=said):
        answer.json()


def test_chat_takes_a_string_or_messages(model: Model) -> None:
    """A string is what the user says."""
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "yo"},
    ]

    assert ("hello", "yo") == (model.chat("hello", system="be brief"), model.chat(messages))


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        (7, "messages"),
        (["hi"], "messages[0]"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": 1, "content": "x"}], "messages[0].role"),
    ],
)
def test_broken_messages_are_named(model: Model, messages: object, field: str) -> None:
    """Each mistake in a conversation is an error that says where it is."""
    with pytest.raises(InvalidArgument) as caught:
        model.chat(messages)  # type: ignore[call-overload]

    assert field == caught.value.fields["field"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temprature": 1.0}, "temprature"),
        ({"timeout": -1}, "timeout"),
        ({"priority": 5000}, "priority"),
        ({"n": 0}, "n"),
        ({"params": 3}, "params"),
    ],
)
def test_bad_options_are_named_and_hurt_nobody(model: Model, options: dict[str, object], field: str) -> None:
    """Each is one typed error; the model goes on."""
    with pytest.raises(InvalidArgument) as caught:
        model.generate_text("a", **options)  # type: ignore[call-overload]

    assert field == caught.value.fields["field"]
    assert "a" == model.generate_text("a")


def test_prompt_must_be_text(model: Model) -> None:
    """A prompt of another type is refused before it reaches the kernel."""
    with pytest.raises(InvalidArgument, match="prompt must be a string"):
        model.generate_text(7)  # type: ignore[call-overload]


def test_embed_one_or_many(model: Model) -> None:
    """One text gives a vector, a list gives a list of them."""
    assert ([2.0, 3.0], [[2.0, 3.0], [1.0, 1.0]]) == (model.embed("a b"), model.embed(["a b", "c"]))


def test_tokens_and_back(model: Model) -> None:
    """`detokenize` undoes `tokenize`."""
    assert "the quick fox" == model.detokenize(model.tokenize("the quick fox"))


def test_unknown_model_names_the_nearest(client: Client) -> None:
    """A misspelt name is an error with the nearest names."""
    with pytest.raises(NotFound) as caught:
        client.load_model("ecko")

    assert "echo" in caught.value.fields["nearest"]  # type: ignore[operator]


def test_an_alias_is_the_model(client: Client) -> None:
    """The handle knows the model's own name."""
    assert "echo" == client.load_model("parrot").name


def test_models_are_listed(client: Client) -> None:
    """`models` returns a record per model; `info` knows more of one that is loaded."""
    assert ["echo", "echo-2"] == sorted(info.name for info in client.models())
    assert "echo" == client.load_model("echo").info().details["executor"]["provider"]


def test_two_models_are_two_handles(client: Client) -> None:
    """Closing one does not hurt the other."""
    first, second = client.load_model("echo"), client.load_model("echo")
    first.close()

    assert "a" == second.generate_text("a")
    with pytest.raises(HandleRevoked):
        first.generate_text("a")


def test_call_runs_a_function(client: Client) -> None:
    """What the function returns comes back; its thread is the kernel's."""
    assert threading.get_ident() != client.call(threading.get_ident)


def test_call_raises_what_the_function_raised(client: Client) -> None:
    """An exception of the function is one typed error that names it."""
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        client.call(lambda: 1 / 0)


def test_call_needs_a_callable(client: Client) -> None:
    """Anything else is refused at once."""
    with pytest.raises(InvalidArgument, match="fn must be callable"):
        client.call("os:getcwd and more")  # type: ignore[arg-type]


def test_map_keeps_the_order(client: Client) -> None:
    """Results come in the order of the items, however many run at once."""
    assert list("ABCDE") == list(client.map(str.upper, "abcde", at_once=2))


def test_abandoned_map_cancels_the_rest(client: Client) -> None:
    """Closing the iterator ends what it had submitted."""
    results = client.map(str.upper, "abcde", at_once=3)
    next(results)
    results.close()  # type: ignore[attr-defined]

    assert {} == client.control("Stats")["tasks"]


def test_a_task_may_use_the_client(client: Client, model: Model) -> None:
    """A function that runs as a task generates with the client it was made with."""
    assert "a b" == client.call(lambda: model.generate_text("a b"))


def test_timeout_cancels(model: Model, client: Client, echo: EchoBackend) -> None:
    """A caller who gives up takes the task along."""
    echo.gate.shut()

    with pytest.raises(DeadlineExceeded):
        model.generate_text("a b", timeout=0.05)
    echo.gate.open()

    assert {} == client.control("Stats")["tasks"]


def test_a_result_may_be_waited_for_twice(client: Client) -> None:
    """A wait that ends early leaves the submitted task alone."""
    go = threading.Event()
    task = client.submit(go.wait)
    with pytest.raises(DeadlineExceeded):
        client.result(task, timeout=0.05)
    go.set()

    assert client.result(task) is True


def test_one_failure_cancels_its_siblings(model: Model, client: Client, echo: EchoBackend) -> None:
    """When one of several answers fails, the others do not go on unread."""
    echo.faults.row = (1, KernelError("broken row"))

    with pytest.raises(KernelError, match="broken row"):
        model.generate_text("a b c", n=3)

    assert {} == client.control("Stats")["tasks"]


def test_closing_the_client_cancels_its_tasks(kernel: Kernel, echo: EchoBackend) -> None:
    """A thread that waits for an answer is told, not left."""
    client = Client(kernel=kernel)
    model = client.load_model("echo")
    errors: list[BaseException] = []
    echo.gate.shut()

    def ask() -> None:
        try:
            model.generate_text("a b")
        except KernelError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    echo.gate.wait_for_visitor()
    client.close()
    client.close()
    thread.join()
    echo.gate.open()

    assert [True] == [isinstance(error, Cancelled | HandleRevoked) for error in errors]


def test_closing_the_client_leaves_the_kernel(kernel: Kernel) -> None:
    """A kernel that the caller made is the caller's to stop."""
    Client(kernel=kernel).close()

    assert "running" == kernel.state


def test_a_client_is_shared_by_threads(model: Model) -> None:
    """Many callers at once get their own answers."""
    answers: dict[int, Text] = {}
    threads = [
        threading.Thread(target=lambda number=number: answers.update({number: model.generate_text(f"it is {number}")}))
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {number: f"it is {number}" for number in range(16)} == answers


def test_control_messages_by_name(client: Client) -> None:
    """A control message is asked by its name; what is none is refused."""
    assert "running" == client.control("Stats")["state"]
    with pytest.raises(InvalidArgument, match="Explode"):
        client.control("Explode")


def test_call_is_send_and_receive(client: Client) -> None:
    """`llmos.call` asks any port that answers; an error that is answered is raised."""
    seat = client.process

    assert "running" == call(seat, seat.control, control.Stats())["state"]
    with pytest.raises(NotFound):
        call(seat, seat.control, control.InspectTask(10**6))


def test_an_address_where_nobody_answers() -> None:
    """Is told at once."""
    with pytest.raises(PortBroken, match=r"http://127\.0\.0\.1:1"):
        Client("http://127.0.0.1:1", token="secret")


@pytest.mark.parametrize(
    "address", ["", "localhost:1", "ftp://a", "http://", "http://a:b", "http://u:p@a", "unix:a", 7]
)
def test_addresses_that_are_none(address: Any) -> None:
    """Are named, and what would be right."""
    with pytest.raises(InvalidArgument, match="http://host:port") as caught:
        Client(address)

    assert "address" == caught.value.fields["field"]


def test_an_address_is_enough(kernel: Kernel) -> None:
    """What is for a kernel in this process cannot be given besides."""
    for given in ({"kernel": kernel}, {"config": KernelConfig()}, {"plugins": [1]}, {"credentials": Credentials()}):
        with pytest.raises(InvalidArgument, match=next(iter(given))):
            Client("http://127.0.0.1:1", **given)


def test_an_address_needs_more_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them that is an error with what to install."""
    monkeypatch.setitem(sys.modules, "llmos._remote", None)
    with pytest.raises(PluginMissing, match=r"llmos-sdk\[remote\]"):
        Client("http://127.0.0.1:1")


def test_a_token_needs_an_address() -> None:
    """A secret that would go nowhere is a mistake."""
    with pytest.raises(InvalidArgument, match="token"):
        Client(token="secret")


def test_settings_are_for_the_default_kernel(kernel: Kernel) -> None:
    """A kernel of one's own cannot be given other settings."""
    with pytest.raises(InvalidArgument, match="default kernel"):
        Client(kernel=kernel, config=KernelConfig())


def test_text_survives_pickling(model: Model) -> None:
    """An answer can be stored with its facts."""
    answer = model.generate_text("a b")
    again = pickle.loads(pickle.dumps(answer))  # noqa: S301 - our own bytes

    assert (answer, answer.usage, answer.tokens) == (again, again.usage, again.tokens)


class NoLooking(Policy):
    """Lets everybody run models and nobody ask about them."""

    name = "no-looking"

    def check(self, action: Action) -> Decision:
        """Deny every control message."""
        return Decision.DENY if action.name.startswith("control.") else Decision.ABSTAIN


def test_running_needs_no_right_to_look() -> None:
    """A policy that keeps the control port closed does not keep models from being loaded."""
    config = KernelConfig(models=[echo_spec()])
    with (
        Kernel(config, plugins=[EchoBackend(), FirstComePlugin(), NoLooking()]) as kernel,
        Client(kernel=kernel) as client,
    ):
        assert "a" == client.load_model("echo").generate_text("a")
        with pytest.raises(PermissionError):
            client.models()
