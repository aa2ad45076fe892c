"""What a model answers: strings that also carry the facts."""

from __future__ import annotations

from typing import Any, Self

from llmos_kernel.api import Chunk, Done, Failed, Usage
from llmos_kernel.errors import InvalidArgument


class Text(str):
    """A model's whole answer.  It is a string; besides, it knows how it came about."""

    __slots__ = ("finish", "logprobs", "model", "task", "tokens", "usage", "value")

    finish: str
    """Why it ended: ``stop``, ``length``, or what the backend says."""
    usage: Usage
    """Tokens of the prompt, from the cache and generated; seconds queued, in prefill and in decode."""
    tokens: tuple[int, ...]
    logprobs: tuple[Any, ...]
    """One entry per token where they were asked for."""
    value: Any
    """What the task returned besides text, if anything."""
    model: str
    task: int
    """The kernel's number of the task."""

    def __new__(cls, text: str = "", *, done: Done | None = None, model: str = "") -> Self:
        """Make the answer of *model* from the event that ended its task; *text* wins over the event's own."""
        end = Done(0, text) if done is None else done
        self = super().__new__(cls, text or end.text)
        self.finish, self.usage, self.value = end.finish, end.usage, end.value
        self.tokens, self.logprobs = end.tokens, end.logprobs
        self.model, self.task = model, end.task
        return self

    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value that the answer is the JSON text of, as it is where a ``schema`` was given.

        Raises `InvalidArgument` for an answer that is no JSON, one that was cut at its length for instance.
        """
        import json  # noqa: PLC0415 - only who asks pays

        try:
            return json.loads(self)
        except (ValueError, RecursionError) as error:
            cut = "; it was cut at its length: give it more max_tokens" if self.finish == "length" else ""
            expected = "JSON text, as a schema makes it"
            message = f"the answer is no {expected} ({error}){cut}"
            raise InvalidArgument(message, field="text", value=str(self), expected=expected) from error

    @property
    def tokens_per_second(self) -> float:
        """Speed of generation after the first token; 0 where it cannot be told."""
        after_first = self.usage.generated - 1
        return after_first / self.usage.decode if after_first > 0 and self.usage.decode > 0 else 0.0


class Piece(str):
    """A piece of a streamed answer.  It is a string; besides, it knows its tokens."""

    __slots__ = ("answer", "logprobs", "tokens", "value")

    answer: int
    """Which of several answers it belongs to, counted from 0."""

    tokens: tuple[int, ...]
    logprobs: Any
    value: Any

    def __new__(cls, text: str = "", *, chunk: Chunk | None = None, answer: int = 0) -> Self:
        """Make the piece from the event that brought it."""
        self = super().__new__(cls, chunk.text if chunk is not None else text)
        self.answer = answer
        self.tokens = chunk.tokens if chunk is not None else ()
        self.logprobs = chunk.logprobs if chunk is not None else None
        self.value = chunk.value if chunk is not None else None
        return self


def outcome(event: Any) -> Done:  # noqa: ANN401 - a message's body can be anything
    """Return the event that ended a task well; raise the error of one that did not."""
    if isinstance(event, Failed):
        raise event.error
    if not isinstance(event, Done):
        raise TypeError(f"a task ended with {event!r:.80}")
    return event
