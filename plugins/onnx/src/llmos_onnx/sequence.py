"""One task while it generates: its tokens, its text, and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmos_kernel.contracts import Result
from llmos_kernel.errors import InvalidArgument
from llmos_onnx.sampler import COLUMNS, Edit
from llmos_onnx.speculation import Trust
from llmos_onnx.text import StopMatcher

if TYPE_CHECKING:
    import numpy.typing as npt

    from llmos_onnx.grammar import Matcher
    from llmos_onnx.prefix import Prompt
    from llmos_onnx.sampler import LogProb
    from llmos_onnx.sampling import SamplingParams
    from llmos_onnx.text import Codec

_NOTHING = np.zeros(0, np.int64)


class Sequence:
    """Prompt and output of one task.  It outlives its slot: a preempted sequence has none."""

    def __init__(
        self, id: int, prompt: Prompt, params: SamplingParams, codec: Codec, eos: tuple[int, ...],
        matcher: Matcher | None = None,
    ) -> None:  # fmt: skip
        self.id = id
        self.params = params
        self.source = prompt
        """What its prompt's cache is found by."""
        self.prompt = self.count = len(prompt.tokens)
        """Tokens of prompt and output so far."""
        self.tokens = np.zeros(self.prompt + params.max_tokens, np.int64)
        self.tokens[: self.prompt] = prompt.tokens
        self.slot: int | None = None
        self.trust = Trust()
        """How well its tokens were guessed."""
        self.planned = 0
        """Prompt tokens that steps were asked for, where prompts are computed whole."""
        self._ends = params.stop_token_ids | (frozenset() if params.ignore_eos else frozenset(eos))
        self._end_ids = np.array(sorted(self._ends), np.int64)
        self._matcher = matcher
        self._codec = codec
        self._text = codec.detokenizer()
        self._spoken = False  # whether a token before the next one has text; kept where these are reported
        self._stops = StopMatcher(params.stop) if params.stop else None
        self._bias_ids = np.array(list(params.logit_bias), np.int64)
        self._bias = np.array(list(params.logit_bias.values()), np.float32)
        self._always_edited = bool(
            params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty or params.logit_bias
        )

    @property
    def generated(self) -> int:
        """Tokens of output so far."""
        return self.count - self.prompt

    def column(self) -> npt.NDArray[Any]:
        """Return this row of the sampler's `COLUMNS`."""
        p = self.params
        values = (p.temperature, p.top_k, p.top_p, p.min_p, p.seed, self.generated)
        return np.array(values, COLUMNS)

    def edit(self, row: int) -> Edit | None:
        """Return what changes this sequence's logits in *row* of a batch, if anything does."""
        held_back = self.generated < self.params.min_tokens
        if not (self._always_edited or held_back or self._matcher):
            return None
        banned = self._end_ids if held_back else _NOTHING
        return Edit(
            row=row,
            seen=self.tokens[: self.count],
            output=self.tokens[self.prompt : self.count],
            repetition=self.params.repetition_penalty,
            presence=self.params.presence_penalty,
            frequency=self.params.frequency_penalty,
            bias_ids=self._bias_ids,
            bias=self._bias,
            banned=banned if self._matcher is None else _NOTHING,
            allowed=None if self._matcher is None else self._matcher.allowed(banned),
        )

    def dead_end(self) -> InvalidArgument | None:
        """Return why its grammar leaves this sequence without a next token; None if that is not the reason."""
        return None if self._matcher is None else self._matcher.error()

    def advance(self, token: int, logprob: LogProb | None) -> Result:
        """Take the next *token* and return what it means to the reader."""
        self.tokens[self.count] = token
        self.count += 1
        text, finish = self._output(token)
        logprobs = () if logprob is None else (self._report(token, logprob),)
        return Result(self.id, tokens=(token,), text=text, logprobs=logprobs, finish=finish)

    def _output(self, token: int) -> tuple[str, str | None]:
        if token in self._ends:
            return self._rest(""), "stop"
        complete = self._matcher is not None and self._matcher.advance(token)
        piece = self._text.feed(token)
        if self._stops is not None and self.generated >= self.params.min_tokens:
            piece = self._stops.feed(piece)
            if self._stops.matched is not None:
                return piece, "stop"
        if not complete and self.generated < self.params.max_tokens:
            return piece, None
        rest = self._rest(piece)
        stopped = complete or (self._stops is not None and self._stops.matched is not None)
        return rest, "stop" if stopped else "length"

    def _rest(self, piece: str) -> str:
        """Return *piece* and all text that was held back."""
        last = self._text.end()
        if self._stops is None:
            return piece + last
        piece += self._stops.feed(last)
        return piece if self._stops.matched is not None else piece + self._stops.end()

    def _report(self, token: int, logprob: LogProb) -> dict[str, object]:
        """Return a log probability as plain values."""
        first = not self._spoken
        self._spoken = self._spoken or bool(self._codec.spoken(token, first=True)[1])
        top = [self._entry(id, value, first=first) for id, value in logprob.top]
        return {**self._entry(token, logprob.chosen, first=first), "top": top}

    def _entry(self, id: int, value: float, *, first: bool) -> dict[str, object]:
        text, data = self._codec.spoken(id, first=first)
        return {"id": id, "token": text, "bytes": [] if id in self._ends else list(data), "logprob": value}
