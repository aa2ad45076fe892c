"""The invariants of the handle table, checked on the table itself."""

from __future__ import annotations

from llmos_kernel._handles import Table
from llmos_kernel.api import Right
from llmos_kernel.errors import KernelBug


def check_integrity(table: Table) -> None:
    """Raise `KernelBug` if an invariant does not hold.  Under the core's lock."""
    free = {entry.index for entry in table._free}
    for entry in table._entries:
        live = entry.resource is not None
        if live == (entry.index in free):
            raise KernelBug("a place of the handle table is both free and taken", index=entry.index)
        parent = entry.parent
        if parent and (parent.resource is not entry.resource or entry not in (parent.children or ())):
            raise KernelBug("a handle outlived its parent", index=entry.index)
        inherited = Right.SEND_ONCE if parent and parent.rights & Right.SEND else 0
        if parent and entry.rights & ~(parent.rights | inherited):
            raise KernelBug("a handle has more rights than its parent", index=entry.index)
