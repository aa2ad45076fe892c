"""A process that tries grammars out, so that the one that serves does not meet them first.

Compiling a grammar is the work of a native library.  Its own limits stop most that grow, but not all: a few hundred
characters can take minutes, and definitions that lead to each other thousands deep overflow the stack, which kills the
process.  Neither can be caught inside.  So a grammar is compiled here first, on a small stack, with limited memory and
processor time; what this process survives, the serving one does as well.

Run by `llmos_onnx.grammar`, as a script with nothing but the standard library and `llguidance` on its path.  Messages
in both directions are UTF-8 with their length in four bytes before them.  The first one is JSON: what the tokenizer
is made of; then each is a grammar.  The answer is empty for one that may be used, or says what is wrong with it.  A
grammar that takes too long gets no answer: the process ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

SECONDS: Final = 0.5
"""Processor time that one grammar may take."""
LIMITS: Final[dict[str, Any]] = {
    "max_items_in_row": 1_000, "initial_lexer_fuel": 500_000, "step_lexer_fuel": 100_000, "step_max_items": 10_000,
    "max_lexer_states": 20_000, "max_grammar_size": 200_000, "verbose_errors": False,
}  # fmt: skip
"""What the library is told; a step at these limits takes a few tens of milliseconds."""
_MEMORY: Final = 2 << 30
_STACK: Final = 2 << 20
_LOOK: Final = 0.01
_LONGEST_REASON: Final = 300


def send(stream: IO[bytes], text: str) -> None:
    """Write one message."""
    data = text.encode()
    stream.write(len(data).to_bytes(4, "little") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> str | None:
    """Read one message; None when the other side has gone."""
    head = stream.read(4)
    data = stream.read(int.from_bytes(head, "little")) if len(head) == 4 else b""
    return data.decode() if len(head) == 4 and len(data) == int.from_bytes(head, "little") else None


def make_tokenizer(tokenizer_json: str, vocab: int, eos: list[int]) -> LLTokenizer:
    """Return the library's own form of a tokenizer; raises its `ValueError` for one that it cannot read."""
    from llguidance import LLTokenizer  # noqa: PLC0415 - a script that does without the package's imports

    return LLTokenizer(tokenizer_json, n_vocab=vocab, eos_token=eos)


def compile_grammar(tokenizer: LLTokenizer, grammar: str) -> tuple[LLMatcher, str]:
    """Return the matcher of *grammar* and what is wrong with it, which is empty where nothing is."""
    from llguidance import LLMatcher, LLParserLimits  # noqa: PLC0415 - the same

    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LLParserLimits(**LIMITS))
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher, problem(matcher) if matcher.is_error() else ""


def problem(matcher: LLMatcher) -> str:
    """Return why *matcher*, which is in its error state, is there."""
    error = matcher.get_error()
    return "no text satisfies it" if error.startswith("NoExtension") else reason(error)


def reason(error: str) -> str:
    """Return the library's *error* in one line of bounded length."""
    lines = [line.strip() for line in error.splitlines() if line.strip() and not line.startswith("<")]
    return " ".join(lines)[:_LONGEST_REASON] or "it cannot be followed any further"


def main() -> None:
    """Answer until the other side goes."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(ImportError):  # Windows has no such limit; time and stack are limited there too
        import resource  # noqa: PLC0415 - not on every platform

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    threading.stack_size(_STACK)
    setting = receive(requests)
    if setting is None:
        return
    try:
        tokenizer = make_tokenizer(**json.loads(setting))
    except ValueError as error:
        send(answers, reason(str(error)))
        return
    send(answers, "")
    while (grammar := receive(requests)) is not None:
        send(answers, _timed(tokenizer, grammar))


def _timed(tokenizer: LLTokenizer, grammar: str) -> str:
    """Return what is wrong with *grammar*; end the process when its time is over."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(compile_grammar(tokenizer, grammar)[1]), daemon=True)
    end = time.process_time() + SECONDS
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK)
        if time.process_time() > end:
            os._exit(1)
    return found[0] if found else "it cannot be compiled"


if __name__ == "__main__":
    sys.path.append(sys.argv[1])
    main()
