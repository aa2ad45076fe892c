"""What a store owes."""

from __future__ import annotations

from collections.abc import Callable

from llmos.testing.conformance._base import Conformance, expect, in_threads, take
from llmos_kernel.services import Store

MakeStore = Callable[[], Store]

_KEYS = (
    "a", "A", "a/b", "a/b/c", "ab", "b", "../up", "/rooted", "with space", "dots..", "schlüssel", "键", "*?[a]",
    "x" * 200,
)  # fmt: skip
"""Keys as people make them, some of which file systems take for something else."""
_VALUES = (b"", b"text", b"\x00\xff\r\n\x1a" * 3, bytes(range(256)) * 1024)


class StoreConformance(Conformance):
    """What every store owes.  Subclass it, and give it a fixture ``make_store``.

    The fixture returns a function without arguments that opens the store, as ``llmos_store`` does: every time the same
    store, which is empty when the test begins.
    """

    def test_is_taken(self, make_store: MakeStore) -> None:
        """`llmos_store`: "return a store"."""
        take("store", make_store)

    def test_returns_what_was_put(self, make_store: MakeStore) -> None:
        """`Store.get`: "Return what is under *key*", byte by byte, whatever bytes they are."""
        store = make_store()
        for number, value in enumerate(_VALUES):
            store.put(f"value-{number}", value)
            expect(value, store.get(f"value-{number}"), f"value {number}")

    def test_nothing_is_none(self, make_store: MakeStore) -> None:
        """`Store.get`: what is there, "or None"."""
        expect(None, make_store().get("nothing"), "what is under a key that nobody put")

    def test_put_replaces(self, make_store: MakeStore) -> None:
        """`Store.put`: "Keep *value*": the latest one is kept, a shorter one too."""
        store = make_store()
        for value in (b"first", b"second", b"3"):
            store.put("key", value)
            expect(value, store.get("key"), "what is under a key that was put again")

    def test_any_key(self, make_store: MakeStore) -> None:
        """`Store`: "Keeps bytes by key": keys that differ are different, and none reaches out of the store."""
        store = make_store()
        for key in _KEYS:
            store.put(key, key.encode())
        expect({key: key.encode() for key in _KEYS}, {key: store.get(key) for key in _KEYS}, "what is under each key")

    def test_delete_forgets(self, make_store: MakeStore) -> None:
        """`Store.delete`: "Forget *key*", and nothing else."""
        store = make_store()
        for key in ("a", "a/b", "b"):
            store.put(key, b"value")
        store.delete("a")
        expect(["a/b", "b"], sorted(store.keys()), "the keys that are left")
        expect((b"value", b"value"), (store.get("a/b"), store.get("b")), "what is under them")

    def test_delete_of_nothing(self, make_store: MakeStore) -> None:
        """`Store.delete`: forget it "if it is there"; that it is not is no error."""
        make_store().delete("nothing")

    def test_keys_sorted(self, make_store: MakeStore) -> None:
        """`Store.keys`: "Return the keys", each once, "sorted"."""
        store = make_store()
        for key in ("b", "a/2", "c", "a/10", "a"):
            store.put(key, b"value")
        store.put("c", b"again")
        expect(["a", "a/10", "a/2", "b", "c"], list(store.keys()), "the keys")

    def test_keys_by_prefix(self, make_store: MakeStore) -> None:
        """`Store.keys`: those "that begin with *prefix*", letter by letter: a prefix is no pattern and no folder."""
        store = make_store()
        for key in ("a.b", "a.bc", "aXb", "b", "ba.b"):
            store.put(key, b"value")
        expect([["a.b", "a.bc"], []], [sorted(store.keys(prefix)) for prefix in ("a.b", "nothing")], "keys by prefix")

    def test_lasts(self, make_store: MakeStore) -> None:
        """`Store.put`: "it is on stable storage when this returns": who opens the store next finds it there."""
        make_store().put("key", b"value")
        expect(b"value", make_store().get("key"), "what another one finds")

    def test_any_thread(self, make_store: MakeStore) -> None:
        """`Store`: "Any thread, concurrently": values are never mixed, and nobody gets a piece of one."""
        store, whole = make_store(), {bytes([letter]) * 5000 for letter in b"abcd"}
        store.put("key", min(whole))

        def use() -> bool:
            for value in whole:
                store.put("key", value)
                if store.get("key") not in whole:
                    return False
            return True

        found = in_threads(use, times=5)
        expect([True] * len(found), found, "values that were put whole")
