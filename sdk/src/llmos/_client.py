"""The synchronous client: models in this process, through the four system calls."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from llmos._conversation import Conversation
from llmos._default import lease_kernel
from llmos._elsewhere import named_spec
from llmos._models import (
    ModelInfo, ModelRequests, any_model, auto_info, check_fallbacks, control_message, note_alias,
    warn_of_fallback,
)  # fmt: skip
from llmos._requests import Messages, Options, Request, call_request, repeated
from llmos._running import Runner
from llmos._stream import Stream
from llmos._streams import Streams
from llmos._targets import AUTO, Target
from llmos._task_runs import AT_ONCE, Answer, run_each, run_one
from llmos._text import Text
from llmos._trace import Trace
from llmos_kernel.api import Auto, Credentials, check_number
from llmos_kernel.api import Model as ModelRequest
from llmos_kernel.errors import ModelUnavailable, NotFound, PermissionDenied, PluginError, ResourceError

if TYPE_CHECKING:
    from llmos._settings import Settings
    from llmos._supervisor import Supervisor
    from llmos._task_file import TaskFile
    from llmos_kernel import Handle, Kernel, KernelConfig, ModelSpec, Process, TaskHandle


class Client:
    """A program's seat at a kernel; thread-safe, to be shared by all its callers.

    Without arguments it shares the default kernel of this process, which is started with its first client and stopped
    with its last.  *kernel* uses one that the caller started and will stop.  *config*, a `KernelConfig` or all of the
    `Settings`, and *plugins* are those of the default kernel; they must be the same for all who share it.  *supervisor*
    is the one that watches *kernel*, if one does.  Closing the client cancels its tasks.

    With an *address* the kernel is that of a server: ``http://host:port``, ``https://host:port`` or ``unix:/path``, and
    *token* is a key of it.  A connection that breaks is made again while the server keeps the client's seat; then each
    call raises `PortBroken`.  Functions travel as their names and shared memory not at all.
    """

    def __init__(
        self, address: str | None = None, *, kernel: Kernel | None = None,
        config: KernelConfig | Settings | None = None, plugins: Iterable[object] = (),
        credentials: Credentials | None = None, token: str | None = None, supervisor: Supervisor | None = None,
    ) -> None:  # fmt: skip
        self._lease = lease_kernel(address, kernel, config, plugins, token, supervisor)
        try:
            self._process = self._lease.kernel.attach(credentials)
            _ = self._process.principal  # of a kernel elsewhere: waits until it has answered
        except BaseException:
            self._lease.release()
            raise
        self._runner = Runner(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def process(self) -> Process:
        """The seat itself, for the four system calls."""
        return self._runner.process

    @property
    def timeout(self) -> float:
        """Seconds after which a call without a timeout gives up, as the kernel was told."""
        return self._lease.timeout

    def close(self) -> None:
        """Cancel what runs, give everything back, and let go of the kernel.  Closing twice is not an error."""
        self._process.close()
        self._lease.release()

    def load_model(
        self, name: str | os.PathLike[str] | Auto, *, fallbacks: Sequence[str | Auto] | None = None,
        timeout: float | None = None,
    ) -> Model:  # fmt: skip
        """Return the model called *name*, an alias included, or the one in the model folder at the path *name*.

        With ``llmos-remote``, well-known names of models elsewhere will do where there is a key, and ``BACKEND:NAME``.
        For `Auto`, or the word ``auto``, a router chooses a model for each task.  A task that fails before anything was
        read of it, by the model's fault, is tried on the *fallbacks*, one after the other (by default those that the
        settings name); they are loaded when they are needed.
        """
        if isinstance(name, Auto) or name == AUTO:
            rest = self._others(AUTO, fallbacks)
            return Model(self._runner, AUTO, (Target(AUTO, any_model(name), self._lease.fleet), *rest))
        spec = self._named(name)
        if spec is not None:
            name = spec.name
            if all(model.name != name for model in self.models()):
                self.control("AddModel", spec)
        info = self._info(str(name))
        others = self._others(info.name, fallbacks)
        try:
            what: Handle | str = self.process.alloc(ModelRequest(str(name)), timeout=timeout)
        except (ResourceError, PluginError) as error:
            if not others:
                raise
            warn_of_fallback(str(name), error)
            what = str(name)
        note_alias(str(name), info)
        return Model(self._runner, info.name, (Target(info.name, what, self._lease.fleet), *others))

    def _named(self, name: str | os.PathLike[str]) -> ModelSpec | None:
        """Return what *name* names besides the models that are offered."""
        try:
            return named_spec(name, self._lease.kernel)
        except ModelUnavailable:  # a model's own name may look like a path, as those of Hugging Face do
            if not (isinstance(name, str) and self._offers(name)):
                raise
            return None

    def _offers(self, name: str) -> bool:
        try:
            self._info(name)
        except NotFound:
            return False
        return True

    def _info(self, name: str) -> ModelInfo:
        try:
            return ModelInfo.from_plain(self.control("InspectModel", name))
        except PermissionDenied:  # who may run a model need not be allowed to look into it
            return ModelInfo(name=name)

    def _others(self, name: str, fallbacks: Sequence[str | Auto] | None) -> tuple[Target, ...]:
        """Return what is tried after *name*, by the names of the models themselves."""
        given = self._lease.serving.fallbacks.get(name, ()) if fallbacks is None else check_fallbacks(fallbacks)
        names = [None if any_model(one) else self._info(str(one)).name for one in given]
        pairs, fleet = zip(names, given, strict=True), self._lease.fleet
        return tuple(Target(name or AUTO, name or any_model(one), fleet) for name, one in pairs)

    def models(self) -> tuple[ModelInfo, ...]:
        """Return the models that can be loaded."""
        return tuple(map(ModelInfo.from_plain, self.control("ListModels")))

    def control(self, message: str, *args: Any, timeout: float | None = None, **fields: Any) -> Any:  # noqa: ANN401
        """Send a control message by its name and return the answer: ``client.control("CancelTask", 7)``."""
        return self._runner.ask(control_message(message, *args, **fields), timeout)

    def submit(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> TaskHandle:  # noqa: ANN401
        """Run ``fn(*args, **kwargs)`` on a worker of the kernel; `result` waits for what it returns."""
        return self._runner.schedule(call_request(fn, args, kwargs))

    def result(self, task: TaskHandle, timeout: float | None = None) -> Any:  # noqa: ANN401 - whatever the task returns
        """Return a submitted task's value or raise its error; the task goes on when *timeout* ends the wait."""
        return self._runner.wait(task, timeout).value

    def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever fn returns
        """Run ``fn(*args, **kwargs)`` on a worker of the kernel and return what it returns."""
        return self._runner.run(call_request(fn, args, kwargs)).value

    def map(self, fn: Callable[..., Any], items: Iterable[Any], *, at_once: int = 64) -> Iterator[Any]:
        """Yield ``fn(item)`` in the order of *items*, with at most *at_once* tasks in flight."""
        check_number("at_once", at_once, 1, 2**20)
        return self._map(fn, items, at_once)

    def run(self, task: TaskFile, input: object, *, model: str | Auto | None = None) -> Answer:
        """Run *task* on *input*, a text or a mapping of its fields, on its model, or on the one that is given.

        Raises `InvalidArgument` for an input that is not as the task says, and what the last try failed with.
        """
        with self._of(task, model) as loaded:
            return loaded.run(task, input)

    def run_each(
        self, task: TaskFile, inputs: Iterable[object], *, model: str | Auto | None = None, at_once: int = AT_ONCE
    ) -> Iterator[Answer]:
        """Yield the answer to each of *inputs*, in their order, with at most *at_once* of them under way.

        An input that is refused, or fails, is an answer with an ``error``, and ends no other; so is an
        `InvalidArgument` among the inputs, in place of one that could not be read.  What would fail for every input is
        raised: a plugin that is missing, a model that cannot be had, a kernel that stopped.
        """
        check_number("at_once", at_once, 1, 2**20)
        with self._of(task, model) as loaded:
            yield from loaded.run_each(task, inputs, at_once=at_once)

    def _of(self, task: TaskFile, model: str | Auto | None) -> Model:
        """Return the model of *task*."""
        return self.load_model(model or task.chosen, fallbacks=task.fallbacks or None)

    def _map(self, fn: Callable[..., Any], items: Iterable[Any], at_once: int) -> Iterator[Any]:
        tasks: deque[TaskHandle] = deque()
        try:
            for item in items:
                tasks.append(self.submit(fn, item))
                if len(tasks) == at_once:
                    yield self.result(tasks.popleft())
            while tasks:
                yield self.result(tasks.popleft())
        finally:
            for task in tasks:
                task.close()


class Model(ModelRequests):
    """A model that may be run.  Made by `Client.load_model`; closing it lets the kernel unload the model."""

    def __init__(self, runner: Runner, name: str, targets: tuple[Target, ...]) -> None:
        super().__init__(name, targets)
        self._runner = runner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def info(self) -> ModelInfo:
        """Return what the kernel knows of the model."""
        if isinstance(want := self._served_by, Auto):
            return auto_info(want)
        return ModelInfo.from_plain(self._runner.ask(control_message("InspectModel", self.name)))

    @overload
    def generate_text(self, prompt: str, *, n: None = None, **options: Unpack[Options]) -> Text: ...
    @overload
    def generate_text(self, prompt: str, *, n: int, **options: Unpack[Options]) -> list[Text]: ...
    def generate_text(self, prompt: str, *, n: int | None = None, **options: Unpack[Options]) -> Text | list[Text]:
        """Continue *prompt*.  With *n*, return a list of so many answers, made side by side."""
        return self._answer(self._generate(prompt, options), n)

    @overload
    def stream(self, prompt: str, *, n: None = None, **options: Unpack[Options]) -> Stream: ...
    @overload
    def stream(self, prompt: str, *, n: int, **options: Unpack[Options]) -> Streams: ...
    def stream(self, prompt: str, *, n: int | None = None, **options: Unpack[Options]) -> Stream | Streams:
        """Continue *prompt*, piece by piece.

        With *n*, so many answers are made side by side, and `Piece.answer` says whose each piece is.
        """
        return self._pieces(self._generate(prompt, options, stream=True), n)

    @overload
    def chat(
        self, messages: str | Messages, *, system: str | None = None, n: None = None, **options: Unpack[Options]
    ) -> Text: ...
    @overload
    def chat(
        self, messages: str | Messages, *, system: str | None = None, n: int, **options: Unpack[Options]
    ) -> list[Text]: ...
    def chat(
        self, messages: str | Messages, *, system: str | None = None, n: int | None = None, **options: Unpack[Options]
    ) -> Text | list[Text]:
        """Answer a conversation: a string, or ``[{"role": ..., "content": ...}, ...]``."""
        return self._answer(self._chat(messages, system, options), n)

    @overload
    def chat_stream(
        self, messages: str | Messages, *, system: str | None = None, n: None = None, **options: Unpack[Options]
    ) -> Stream: ...
    @overload
    def chat_stream(
        self, messages: str | Messages, *, system: str | None = None, n: int, **options: Unpack[Options]
    ) -> Streams: ...
    def chat_stream(
        self, messages: str | Messages, *, system: str | None = None, n: int | None = None, **options: Unpack[Options]
    ) -> Stream | Streams:
        """Answer a conversation, piece by piece; *n* is that of `stream`."""
        return self._pieces(self._chat(messages, system, options, stream=True), n)

    def conversation(
        self, *, system: str | None = None, messages: Messages = (), tokens: int | None = None,
        timeout: float | None = None,
    ) -> Conversation:  # fmt: skip
        """Begin a conversation, whose cache is kept between turns in a context of *tokens*.

        The context is charged to this client's budget until the conversation is closed.  By default it is as long as
        the model's own; 0 is none, for models that keep none or that a router chooses.
        *system* is what the model is told first, *messages*
        what was said earlier.  Raises `InvalidArgument` for a model that keeps no contexts or shorter ones, and
        `BudgetExceeded`.
        """
        return Conversation(self._runner, self._served_by, system, messages, tokens, timeout)

    @overload
    def embed(
        self, text: str, *, truncate: bool = False, timeout: float | None = None, trace: Trace = ""
    ) -> list[float]: ...
    @overload
    def embed(
        self, text: list[str] | tuple[str, ...], *, truncate: bool = False, timeout: float | None = None,
        trace: Trace = "",
    ) -> list[list[float]]: ...  # fmt: skip
    def embed(
        self, text: str | Sequence[str], *, truncate: bool = False, timeout: float | None = None, trace: Trace = ""
    ) -> list[float] | list[list[float]]:
        """Return the vector of *text*, or one per text of a list.

        A text beyond the model's context is refused, or with *truncate* its beginning is used.  *trace* is that of
        `Options`.
        """
        requests = self._encode("embed", text, truncate, timeout, trace)
        vectors = [list(done.value) for done in self._runner.run_all(requests)]
        return vectors[0] if isinstance(text, str) else vectors

    @overload
    def classify(
        self, text: str, *, truncate: bool = False, timeout: float | None = None, trace: Trace = ""
    ) -> dict[str, float]: ...
    @overload
    def classify(
        self, text: list[Any] | tuple[Any, ...], *, truncate: bool = False, timeout: float | None = None,
        trace: Trace = "",
    ) -> list[dict[str, float]]: ...  # fmt: skip
    def classify(
        self, text: str | Sequence[Any], *, truncate: bool = False, timeout: float | None = None, trace: Trace = ""
    ) -> dict[str, float] | list[dict[str, float]]:
        """Return the probability of each label, the likeliest first: of *text*, or of each of a list.

        An item of a list may be two texts, for models that read a pair.  *truncate* and *trace* are those of `embed`.
        """
        requests = self._encode("classify", text, truncate, timeout, trace)
        scores = [dict(done.value) for done in self._runner.run_all(requests)]
        return scores[0] if isinstance(text, str) else scores

    def run(self, task: TaskFile, input: object) -> Answer:
        """Run *task* on *input* as `Client.run` does."""
        return run_one(self._runner, task, input, self._targets)

    def run_each(
        self, task: TaskFile, inputs: Iterable[object], *, at_once: int = AT_ONCE
    ) -> Generator[Answer, None, None]:
        """Yield the answer to each of *inputs*, in their order, as `Client.run_each` does."""
        check_number("at_once", at_once, 1, 2**20)
        return run_each(self._runner, task, inputs, self._targets, at_once)

    def tokenize(self, text: str, *, timeout: float | None = None, trace: Trace = "") -> list[int]:
        """Return the tokens of *text*."""
        return list(self._runner.run(self._tokenize(text, timeout, trace)).value)

    def detokenize(self, tokens: Sequence[int], *, timeout: float | None = None, trace: Trace = "") -> str:
        """Return the text of *tokens*."""
        return self._runner.run(self._detokenize(tokens, timeout, trace)).text

    def _answer(self, request: Request, n: int | None) -> Text | list[Text]:
        if n is None:
            return self._runner.texts([request])[0]
        return self._runner.texts(repeated(request, n))

    def _pieces(self, request: Request, n: int | None) -> Stream | Streams:
        if n is None:
            return self._runner.stream(request)
        return Streams(self._runner, repeated(request, n))
