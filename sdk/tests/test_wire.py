"""What clients and servers say to each other: values, frames, and the line that carries them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos import wire
from llmos_kernel import Auto, Chunk, Done, Failed, Message, Principal, Task, Usage, control, errors
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import InvalidArgument, KernelError, NotFound, PortBroken

CLIENT = msgspec.msgpack.Decoder(wire.FromClient)
SERVER = msgspec.msgpack.Decoder(wire.FromServer)


def over(value: object) -> Any:
    """Return what arrives of *value*: packed, encoded, decoded and unpacked."""
    reply = wire.Reply(id=1, value=wire.pack(value, no_handle))
    frame = wire.decode(wire.encode(reply), SERVER)
    assert isinstance(frame, wire.Reply)
    return wire.unpack(frame.value, lambda facts: facts)


def no_handle(value: object) -> wire.HandleFacts | None:
    """Say that nothing is a handle."""
    return None


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary(max_size=20)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
)  # fmt: skip
KEYS = st.integers(-5, 5) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=3)
        | st.frozensets(SCALARS, max_size=1)
    ),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_values_arrive_as_they_were(value: object) -> None:
    """Equal, and of the same types: tuples stay tuples, and whole numbers that are keys stay numbers."""
    arrived = over(value)

    assert repr(value) == repr(arrived)


@pytest.mark.parametrize(
    "record",
    [
        Task("chat", Auto(languages=["de"]), [{"role": "user", "content": "hi"}], params={"logit_bias": {7: -1.5}}),
        Task("embed", "m", ("a", "b"), deadline=2.5, pre=["x"], stream=True),
        Message(Principal(3, "ann", "acme", frozenset({"operator"})), Chunk(7, "text", (1, 2), (None, -0.5))),
        Done(7, "all", (1,), (), [0.5], "length", Usage(1, 2, 3, 0.1, 0.2, 0.3)),
        control.ListTasks(), control.CancelTask(7), control.AddModel(ModelSpec(name="m", backend="b", aliases=["n"])),
    ],
)  # fmt: skip
def test_records_arrive_as_they_were(record: object) -> None:
    """Those of the system calls, and of the control port."""
    assert record == over(record)


def test_older_peers_need_not_know_new_fields() -> None:
    """A field that holds its default is left out, and means the same: a peer without such a field is not told of it."""
    plain, traced = Task("generate", "echo", "a"), Task("generate", "echo", "a", trace="00-1-2-01")
    known = {"kind": "generate", "target": "echo", "input": "a", "params": {}}

    assert [{"": ["Task", known]}, {"": ["Task", {**known, "trace": "00-1-2-01"}]}] == [
        wire.pack(task, no_handle) for task in (plain, traced)
    ]
    assert [plain, traced] == [over(plain), over(traced)]


def every_error(kind: type[KernelError] = KernelError) -> list[type[KernelError]]:
    """Return the classes of the kernel's tree."""
    kinds = [kind for kind in (kind, *kind.__subclasses__()) if kind.__module__ == errors.__name__]
    return list(dict.fromkeys([*kinds, *(found for sub in kinds[1:] for found in every_error(sub))]))


@pytest.mark.parametrize("kind", every_error())
def test_every_error_survives(kind: type[KernelError]) -> None:
    """With its class, its message and its fields."""
    error = kind("it went wrong", field="x", value=[1, {"a": None}], seconds=0.5)
    arrived = over(Failed(3, error, "so far")).error

    assert (type(error), error.message, error.fields) == (type(arrived), arrived.message, arrived.fields)


def test_unknown_error_becomes_the_nearest_base() -> None:
    """A class of a newer version is the base of it that is known here."""
    plain = {"": ["error", [["NotFoundAnywhere", "NotFound", "CallerError", "KernelError"], "gone", {"value": 7}]]}
    arrived = wire.unpack(plain, lambda facts: facts)

    assert (NotFound, "gone", {"value": 7}) == (type(arrived), arrived.message, arrived.fields)


def test_numbers_that_are_none_arrive_too() -> None:
    """Whether a parameter may be NaN is for the one who reads it to say, as in one process."""
    assert math.isnan(over({"temperature": math.nan})["temperature"])


@pytest.mark.parametrize("value", [object(), lambda: 0, 2**64, -(2**63) - 1, {"a": object()}, 1j, attrs, "\ud800"])
def test_what_cannot_travel(value: object) -> None:
    """Is refused where it is sent, and nothing is pickled."""
    with pytest.raises(InvalidArgument):
        over(value)


def test_nested_too_deep() -> None:
    """Neither written nor read."""
    value: Any = []
    for _ in range(wire.MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(InvalidArgument, match="nested"):
        wire.pack(value, no_handle)
    with pytest.raises(InvalidArgument, match="nested"):
        wire.unpack(value, lambda facts: facts)


@pytest.mark.parametrize(
    "plain",
    [
        {"": 7}, {"": ["os.system", ["ls"]]}, {"": ["Task", {"kind": 7}]}, {"": ["Task", {"knd": "x"}]},
        {"": ["tuple", 7]}, {"": ["handle", 7]}, {"": ["mapping", [7]]}, {"": ["error", []]},
        {"": ["tuple", []], "a": 1},
        {"": ["Task", []]}, {"": ["error", [["Exception"], "x", {}]]}, {1: 2}, {"": ["set", [[]]]},
        {"": ["mapping", [[[], 1]]]}, {"": ["handle", [[]]]}, {"": ["error", [["NotFound"], "x", {"": 7}]]},
        {"": ["error", [[[]], "x", {}]]}, {"": [[], []]},
    ],
)  # fmt: skip
def test_tags_that_lie(plain: object) -> None:
    """One typed error, whatever is wrong."""
    with pytest.raises(InvalidArgument):
        wire.unpack(plain, lambda facts: facts.id + 0)


@given(st.binary(max_size=200) | VALUES.map(lambda value: msgspec.msgpack.encode(wire.pack(value, no_handle))))
def test_bytes_that_are_no_frame(data: bytes) -> None:
    """Are a typed error for either side, or a frame."""
    for decoder in (CLIENT, SERVER):
        try:
            assert isinstance(wire.decode(data, decoder), wire.Frame)
        except InvalidArgument as error:
            assert "frame" == error.fields["field"]  # noqa: PT017 - most are none, some are


FIELDS = st.sampled_from(["t", "n", "a", "id", "name", "body", "timeout", "handle", "count", "how", "value", "x"])
WORDS = st.sampled_from(["call", "credit", "close", "hello", "cancel", "alloc", "schedule", "send", "closed"])


@given(st.dictionaries(FIELDS, VALUES | WORDS, max_size=6))
def test_maps_that_are_hardly_frames(fields: dict[str, Any]) -> None:
    """The fields have to be those of the frame, and in range."""
    try:
        data = msgspec.msgpack.encode(fields)
    except TypeError:
        return
    try:
        frame = wire.decode(data, CLIENT)
    except InvalidArgument:
        return
    assert 0 <= frame.n < 2**53
    assert 0 <= frame.a < 2**53


@pytest.mark.parametrize("depth", [10**3, 10**6])
def test_frame_of_brackets(depth: int) -> None:
    """A frame that is nothing but nested lists is refused."""
    with pytest.raises(InvalidArgument):
        wire.decode(b"\x91" * depth + b"\xc0", CLIENT)


def test_references() -> None:
    """A function travels as its name, if it is there under that name."""
    assert "asyncio.locks:Lock.acquire" == wire.reference(asyncio.Lock.acquire)
    assert "os:getcwd" == wire.reference("os:getcwd")
    with pytest.raises(InvalidArgument, match="cannot travel"):
        wire.reference(lambda: 0)


# --- the line ----------------------------------------------------------------------------------------------------


class Half:
    """One end of a connection in memory, which breaks when *left* frames were given to it."""

    def __init__(self, left: int) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.left = left
        self.other: Half

    async def send(self, frame: bytes) -> None:
        """Pass it on, or break."""
        if self.left <= 0:
            await self.close()
            raise PortBroken("cut")
        self.left -= 1
        self.other.queue.put_nowait(frame)

    async def recv(self) -> bytes:
        """Return the next frame."""
        frame = await self.queue.get()
        if frame is None:
            raise PortBroken("cut")
        return frame

    async def close(self) -> None:
        """End both sides."""
        self.hang_up()

    def hang_up(self) -> None:
        """End both sides."""
        self.queue.put_nowait(None)
        self.other.queue.put_nowait(None)


def halves(left: int) -> tuple[Half, Half]:
    """Return the ends of a connection that carries so many frames from each."""
    one, two = Half(left), Half(left)
    one.other, two.other = two, one
    return one, two


def noting(numbers: list[int], end: Half, heard: list[list[int]], count: int) -> Callable[[Any], None]:
    """Return what hears frames, notes their ids, and hangs up when both sides have heard everything."""

    def note(frame: Any) -> None:
        numbers.append(frame.id)
        if all(len(one) == count for one in heard):
            end.hang_up()

    return note


@pytest.mark.parametrize("left", range(1, 9))
async def test_line_that_breaks_again_and_again(left: int) -> None:
    """Over connections that each carry *left* frames, everything arrives once and in order, in both directions."""
    count = 100
    lines = [wire.Line(CLIENT), wire.Line(CLIENT)]
    heard: list[list[int]] = [[], []]
    for line in lines:
        for number in range(count):
            line.put(wire.Cancel(id=number))
    connections = 0
    while any(len(numbers) < count for numbers in heard):
        connections += 1
        ends = halves(left)
        for line, other in zip(lines, reversed(lines), strict=True):
            line.rewind(other.seen)
        jobs = [
            asyncio.ensure_future(line.carry(end, noting(numbers, end, heard, count)))
            for line, end, numbers in zip(lines, ends, heard, strict=True)
        ]
        done = await asyncio.gather(*jobs, return_exceptions=True)
        assert [PortBroken, PortBroken] == [type(one) for one in done]

    assert [list(range(count))] * 2 == heard
    assert connections >= count // left


async def test_line_keeps_what_is_not_acknowledged() -> None:
    """And no more than that: what the other side has is let go."""
    line: wire.Line[Any] = wire.Line(CLIENT)
    for number in range(100):
        line.put(wire.Cancel(id=number))
    line.rewind(70)

    assert 30 == len(line._kept)
    with pytest.raises(InvalidArgument, match="a must be"):
        line.rewind(101)


async def test_line_refuses_gaps_and_what_is_too_large() -> None:
    """A number that was skipped, and a frame that the other side would not take."""
    line: wire.Line[Any] = wire.Line(CLIENT)
    near, far = halves(9)
    await far.send(wire.encode(wire.Cancel(n=2, id=1)))
    with pytest.raises(InvalidArgument, match="n must be"):
        await line.carry(near, lambda frame: None)
    line.limit = 100
    with pytest.raises(InvalidArgument, match="at most 100 bytes"):
        line.put(wire.Call(id=1, name="send", body="x" * 100))
    line.put(wire.Cancel(id=1))

    assert 1 == len(line._kept)


async def test_room_waits_for_the_other_side() -> None:
    """While more than four MiB are on their way."""
    line: wire.Line[Any] = wire.Line(CLIENT)
    await line.room()
    line.put(wire.Call(id=1, name="send", body=b"x" * 2**22))
    waiting = asyncio.ensure_future(line.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    line.rewind(1)
    await waiting
