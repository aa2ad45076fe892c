"""How likely a model finds a given text, through what any client can ask for.

The text is forced: a grammar of its own token ids leaves one answer, and ``logprobs`` reports what the model thought of
each token.  A backend can do that which takes grammars in Lark notation with token ids (``<[42]>``, as llguidance reads
them) and reports log probabilities from before the grammar, as llmos-onnx does; of any other it is said that it cannot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from llmos import Model, Options, Stream, TaskFile, Text
from llmos_evaluation.suites import Case
from llmos_kernel.errors import InvalidArgument, KernelError

_ABLE = "a model whose backend forces token ids by a grammar and reports log probabilities, as llmos-onnx does"
_UNABLE = ("grammar", "logprobs", "kind", "params")
"""Fields of errors that say that the backend cannot do it, whatever the text."""


@attrs.frozen
class Likelihood:
    """What the model thought of the first reference of a case."""

    case: Case
    sum: float = 0.0
    """Of the natural logarithms of the probabilities of its tokens."""
    tokens: int = 0
    error: KernelError | None = None


def likelihoods(model: Model, task: TaskFile, cases: Iterable[Case], at_once: int) -> Iterator[Likelihood]:
    """Yield the likelihood of the first reference of each of *cases* after its input, in order.

    A reference that is refused, as too long for instance, is a likelihood with an error.  Raises `InvalidArgument`
    for a model of which it cannot be told.
    """
    under_way: deque[tuple[Case, list[int], Stream | KernelError]] = deque()
    try:
        for case in cases:
            under_way.append(_begun(model, task, case))
            if len(under_way) == at_once:
                yield _ended(model, *under_way.popleft())
        while under_way:
            yield _ended(model, *under_way.popleft())
    finally:
        for _, _, stream in under_way:
            if isinstance(stream, Stream):
                stream.close()


def _begun(model: Model, task: TaskFile, case: Case) -> tuple[Case, list[int], Stream | KernelError]:
    tokens: list[int] = []
    try:
        tokens = model.tokenize(case.expected[0])
        if not tokens:
            raise InvalidArgument.of("expected", case.expected[0], "a text of at least one token")
        return case, tokens, _forced(model, task, task.asked(case.input), tokens)
    except KernelError as error:
        return case, tokens, error


def _forced(model: Model, task: TaskFile, asked: Any, tokens: list[int]) -> Stream:  # noqa: ANN401 - what a task takes
    """Begin the answer that consists of *tokens* and can be no other."""
    grammar = "start: " + " ".join(f"<[{token}]>" for token in tokens)
    how = Options(grammar=grammar, logprobs=0, max_tokens=len(tokens), temperature=0.0, pre=task.pre)
    if task.type == "chat":
        return model.chat_stream(asked, system=task.system or None, **how)
    return model.stream(asked, **how)


def _ended(model: Model, case: Case, tokens: list[int], stream: Stream | KernelError) -> Likelihood:
    try:
        if isinstance(stream, KernelError):
            raise stream
        return Likelihood(case, _sum(stream.result(), tokens), len(tokens))
    except InvalidArgument as error:
        if error.fields.get("field") in _UNABLE:
            message = f"the perplexity of {model.name} cannot be measured: {error.message}"
            raise InvalidArgument(message, field="metrics", value="perplexity", expected=_ABLE) from error
        return Likelihood(case, error=error)
    except KernelError as error:
        return Likelihood(case, error=error)


def _sum(text: Text, tokens: list[int]) -> float:
    """Return the sum of what was reported; raise `InvalidArgument` where that is not of *tokens*."""
    if list(text.tokens) != tokens:
        raise InvalidArgument("its backend does not keep to a grammar of token ids", field="grammar", value=tokens[:8])
    if len(text.logprobs) != len(tokens):
        raise InvalidArgument("its backend reports no log probabilities", field="logprobs", value=len(text.logprobs))
    return sum(float(entry["logprob"]) for entry in text.logprobs)
