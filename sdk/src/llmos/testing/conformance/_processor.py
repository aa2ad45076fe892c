"""What a processor owes."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from llmos.testing.conformance._base import (
    NAME, Conformance, expect, expect_end, expect_typed, in_threads, kernel_with, plugin_of, take,
)  # fmt: skip
from llmos_kernel.api import Task
from llmos_kernel.errors import InvalidArgument, KernelError
from llmos_kernel.services import Processor

MakeProcessor = Callable[[], Processor]

_ODD: tuple[object, ...] = (
    None, 7, 1.5, True, b"bytes", [], {}, ["a", None], [{"role": "user"}], {"template": 3}, object(),
)  # fmt: skip
"""What no text is."""


class ProcessorConformance(Conformance):
    """What every processor owes.  Subclass it, and give it a fixture ``make_processor``.

    The fixture returns a function without arguments that makes a new processor, as ``llmos_processor`` does.  `texts`
    are inputs that it takes, and `params` the task's; a subclass whose processor wants others sets them.
    """

    texts: ClassVar[Iterable[str]] = (
        "hello", "", " ", "The quick  brown fox\r\n jumps over\tthe lazy dog.\n\n\n", "Grüße, 你好! e\u0301 \U0001f44d",
        '<p>one</p> **two** {{ three }} {"four": [5]}',
    )  # fmt: skip
    params: ClassVar[dict[str, Any]] = {}

    def test_is_taken(self, make_processor: MakeProcessor) -> None:
        """`llmos_processor`: "return a processor": tasks name it before and after a model, and each has one end."""
        take("processor", make_processor)
        with kernel_with(plugin_of("processor", make_processor)) as kernel:
            process = kernel.attach()
            for pre, post in (((NAME,), ()), ((), (NAME,))):
                expect_end(process, Task("generate", "echo", "one two three", pre=pre, post=post))

    def test_same_from_any_thread(self, make_processor: MakeProcessor) -> None:
        """`Processor.process`: "any thread, concurrently": what it returns does not depend on who else asks."""
        processor = make_processor()
        alone = [self._process(processor, text) for text in self.texts]
        found = in_threads(lambda: [self._process(processor, text) for text in self.texts])
        expect([alone] * len(found), found, "what it returns in other threads")

    def test_says_what_is_wrong(self, make_processor: MakeProcessor) -> None:
        """`InvalidArgument`: "A value is out of range or of the wrong kind": what it cannot take is a typed error."""
        processor = make_processor()
        for value in _ODD:
            with expect_typed(f"processing {value!r:.80}"):
                processor.process(value, self.params)

    def test_leaves_its_arguments_alone(self, make_processor: MakeProcessor) -> None:
        """`Processor.process`: "*params* are the task's", and so is the value: it returns it changed, and keeps it."""
        processor = make_processor()
        for text in self.texts:
            for value in (text, [text, text], [{"role": "user", "content": text}]):
                given, params = copy.deepcopy(value), {"max_tokens": 3, "stop": ["a"], **self.params}
                before = copy.deepcopy(params)
                with contextlib.suppress(Exception):  # what it cannot take is another check's question
                    processor.process(given, params)
                expect((value, before), (given, params), "its arguments afterwards")

    def test_pieces(self, make_processor: MakeProcessor) -> None:
        """`TextFilter.feed`: "Take a piece of output and return what is ready": cut anywhere, it is the same."""
        processor = make_processor()
        for text in self.texts:
            whole = self._filtered(processor, [text])
            for size in (1, 2, 3, 7):
                pieces = [text[at : at + size] for at in range(0, len(text), size)]
                expect(whole, self._filtered(processor, pieces), f"{text!r} in pieces of {size}")
                expect(whole, self._filtered(processor, ["", *pieces, ""]), f"{text!r} with empty pieces")

    def test_filter_is_the_processor(self, make_processor: MakeProcessor) -> None:
        """`Processor.filter`: "by default one that waits for the end": a quicker one gives what `process` gives.

        What makes something else of a text, a list of its pieces for instance, cannot be an output, and says so.
        """
        processor = make_processor()
        for text in self.texts:
            made = self._process(processor, text)
            expected = made if isinstance(made, str | type) else InvalidArgument
            expect(expected, self._filtered(processor, [text]), f"{text!r} through its filter")

    def test_filters_are_apart(self, make_processor: MakeProcessor) -> None:
        """`Processor.filter`: "Return a filter for one task's output": another task's output is nobody else's."""
        processor = make_processor()
        for first, second in itertools.pairwise(self.texts):
            alone = self._filtered(processor, first), self._filtered(processor, second)
            if not {first, second} & self._refused(processor):
                expect(alone, self._interleaved(processor, first, second), f"{first!r} and {second!r} at the same time")

    def _process(self, processor: Processor, text: str) -> object:
        try:
            found: object = processor.process(text, dict(self.params))
        except KernelError as error:
            return type(error)
        return found

    def _refused(self, processor: Processor) -> set[str]:
        """Return the texts that it refuses: their filters have nothing to mix."""
        return {text for text in self.texts if isinstance(self._filtered(processor, [text]), type)}

    def _filtered(self, processor: Processor, pieces: Iterable[str]) -> object:
        try:
            passage = processor.filter(dict(self.params))
            return "".join([*(passage.feed(piece) for piece in pieces), passage.end()])
        except KernelError as error:
            return type(error)

    def _interleaved(self, processor: Processor, first: str, second: str) -> tuple[object, object]:
        """Return what two filters give whose texts come in turn, letter by letter."""
        passages = processor.filter(dict(self.params)), processor.filter(dict(self.params))
        found: tuple[list[str], list[str]] = ([], [])
        for at in range(max(len(first), len(second))):
            for passage, text, parts in zip(passages, (first, second), found, strict=True):
                parts.append(passage.feed(text[at : at + 1]))
        for passage, parts in zip(passages, found, strict=True):
            parts.append(passage.end())
        return "".join(found[0]), "".join(found[1])
