"""Output of a given form: a JSON schema, a regular expression or a grammar decides which tokens may come next.

`llguidance` (Moskal et al., https://github.com/guidance-ai/llguidance) follows the text byte by byte and gives, for
each position, one bit per token.  Here are its two ends: `Grammars` compiles what tasks ask for, once per source and
only after a process of its own has survived it (see `grammar_check`), and `Matcher` is one sequence's place in it.

- **The bits are applied last**, after penalties and biases: no bias makes a forbidden token possible.
- **Control tokens are never text.**  A grammar may name one (``<|end|>`` in Lark notation); a string that spells it
  gets ordinary characters.
- **The end.**  An end token is possible exactly where the grammar may end.  Where nothing else may follow, the output
  ends by itself, without one.
- **No token is skipped over.**  Where the grammar leaves one token only, the model still computes its step: a run over
  several tokens rounds differently, and one rounding is enough to change a later token.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from llmos_kernel.errors import InvalidArgument
from llmos_onnx import grammar_check

if TYPE_CHECKING:
    import numpy.typing as npt
    from llguidance import LLMatcher, LLTokenizer

    Words = npt.NDArray[np.uint32]

_KEPT: Final = 32
_PATIENCE: Final = 30.0
"""Seconds by the clock after which a checking process that does not answer is given up; its own limit is tighter."""
_WHITESPACE: Final = r"( |\n[ \t]{0,32})"
"""Between the parts of a JSON text: a space, or a new line with its indentation; without a bound, models get lost."""


@attrs.frozen
class Constraint:
    """What the output must look like."""

    kind: str
    """``schema``, ``regex`` or ``grammar``: the parameter that said it."""
    source: str

    def compiled(self) -> str:
        """Return the form that the library compiles."""
        from llguidance import LLMatcher  # noqa: PLC0415 - 60 ms that only tasks with a grammar pay

        if self.kind == "regex":
            return LLMatcher.grammar_from_regex(self.source)
        if self.kind == "grammar":
            return LLMatcher.grammar_from_lark(self.source)
        options: Any = {"whitespace_pattern": _WHITESPACE}
        return LLMatcher.grammar_from_json_schema(self.source, defaults=options, overrides={"lenient": False})

    def refusal(self, why: str) -> InvalidArgument:
        """Return the error for this constraint."""
        what = {"schema": "a JSON schema", "regex": "a regular expression", "grammar": "a grammar in Lark notation"}
        field, expected = f"params.{self.kind}", f"{what[self.kind]} that can be followed"
        return InvalidArgument(
            f"{field} must be {expected}: {why}", field=field, value=self.source[:200], expected=expected
        )


class Matcher:
    """How far one sequence is in its grammar.  It lives with the sequence, not with its slot."""

    def __init__(self, constraint: Constraint, compiled: LLMatcher, words: int) -> None:
        self._constraint = constraint
        self._compiled = compiled
        self._matcher: LLMatcher | None = None
        self._words = np.zeros(words, np.uint32)

    def allowed(self, held_back: npt.NDArray[np.int64]) -> Words:
        """Return a bit per token, the lowest first: those that may come next, without *held_back* if any is left.

        No bit is set where the grammar could not be followed; `error` says why.
        """
        words, matcher = self._words, self._place()
        matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if matcher.is_error():
            words[:] = 0
        elif len(held_back):
            least = words.copy()
            np.bitwise_and.at(least, held_back // 32, ~(np.uint32(1) << (held_back % 32).astype(np.uint32)))
            return least if least.any() else words
        return words

    def advance(self, token: int) -> bool:
        """Take *token*; return whether the output is complete."""
        matcher = self._place()
        matcher.consume_token(token)
        return matcher.is_stopped() and not matcher.is_error()

    def error(self) -> InvalidArgument | None:
        """Return why `allowed` found no token, None if it did."""
        if self._words.any():
            return None
        matcher = self._place()
        why = grammar_check.problem(matcher) if matcher.is_error() else "this model has no token that may follow"
        return self._constraint.refusal(why)

    def _place(self) -> LLMatcher:
        """Return the library's matcher, copied when the first token is due: waiting tasks share the compiled one."""
        if self._matcher is None:
            self._matcher = self._compiled.deep_copy()
        return self._matcher


class Grammars:
    """Compiles constraints for one model.  Safe to use from several threads at once."""

    def __init__(self, marked_json: Callable[[], str], vocab: int, ends: tuple[int, ...]) -> None:
        """Keep what is needed; nothing is imported or started before a task has a constraint.

        *marked_json* returns the tokenizer's JSON, in which control tokens are marked as special.  *ends* are tokens
        that may come where the grammar may end; of a model without such, any control token does.
        """
        self._marked_json, self._vocab, self._ends = marked_json, vocab, list(ends)
        self._tokenizer: LLTokenizer | None = None
        self._checker = _Checker(self._setting)
        self._known: OrderedDict[Constraint, LLMatcher | str] = OrderedDict()
        self._lock = threading.Lock()
        self._compiling = threading.Lock()

    def matcher(self, constraint: Constraint) -> Matcher:
        """Return a matcher at its beginning; raise `InvalidArgument` for a constraint that cannot be followed."""
        found = self._recall(constraint)
        if found is None:
            with self._compiling:
                found = self._recall(constraint) or self._compile(constraint)
            self._remember(constraint, found)
        if isinstance(found, str):
            raise constraint.refusal(found)
        return Matcher(constraint, found, -(-self._read_tokenizer().vocab_size // 32))

    def _recall(self, constraint: Constraint) -> LLMatcher | str | None:
        with self._lock:
            if constraint in self._known:
                self._known.move_to_end(constraint)
            return self._known.get(constraint)

    def _remember(self, constraint: Constraint, found: LLMatcher | str) -> None:
        with self._lock:
            self._known[constraint] = found
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def close(self) -> None:
        """End the checking process; a later constraint starts another."""
        self._checker.close()

    def _compile(self, constraint: Constraint) -> LLMatcher | str:
        """Return the compiled constraint, or what is wrong with it."""
        try:
            grammar = constraint.compiled()
        except ValueError as error:
            return grammar_check.reason(str(error))
        wrong = self._checker.check(grammar)
        if wrong:
            return wrong
        matcher, wrong = grammar_check.compile_grammar(self._read_tokenizer(), grammar)
        return wrong or matcher

    def _setting(self) -> dict[str, Any]:
        return {"tokenizer_json": self._marked_json(), "vocab": self._vocab, "eos": self._ends}

    def _read_tokenizer(self) -> LLTokenizer:
        if self._tokenizer is None:
            self._tokenizer = grammar_check.make_tokenizer(**self._setting())
        return self._tokenizer


class _Checker:
    """The checking process, started when it is first needed and again after a grammar has ended it."""

    def __init__(self, setting: Callable[[], dict[str, Any]]) -> None:
        self._setting = setting
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[Any, Any] | None = None

    def check(self, grammar: str) -> str:
        """Return what is wrong with *grammar*, empty where nothing is.  One thread at a time."""
        if self._process is None:
            wrong = self._start()
            if wrong:
                return f"this model's tokenizer does not allow it: {wrong}"
        answer = self._ask(grammar)
        if answer is None:
            self.close()
            return f"it takes more than {grammar_check.SECONDS:g} s or too much memory to compile"
        return answer

    def close(self) -> None:
        """End the process."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def _start(self) -> str:
        import llguidance  # noqa: PLC0415 - only its place is wanted

        place = str(Path(llguidance.__file__).parent.parent)
        # Isolated and without site: nothing is imported but what it needs.  In its own session: Ctrl-C is not for it.
        command = [sys.executable, "-I", "-S", grammar_check.__file__, place]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._process, self._end = process, weakref.finalize(self, _end, process)
        answer = self._ask(json.dumps(self._setting()))
        if answer != "":
            self.close()
        return "the checking process did not start" if answer is None else answer

    def _ask(self, text: str) -> str | None:
        """Return the answer to *text*, or None if the process ended."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        timer = threading.Timer(_PATIENCE, process.kill)
        timer.start()
        try:
            grammar_check.send(process.stdin, text)
            return grammar_check.receive(process.stdout)
        except (OSError, ValueError):  # it ended, or was ended, before it had read everything
            return None
        finally:
            timer.cancel()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End *process* and close its pipes."""
    process.kill()
    with process:
        process.wait()
