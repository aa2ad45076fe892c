"""What happened when, in constant memory: amounts that were spread evenly over times, summed in windows of time.

The windows are as many from begin to end and become longer with the time: when it runs out of the last one, each two
become one.  An amount over many windows is not added to each of them.  It begins in one window and ends in another, in
part; between the two its rate changes at two places only, and a running sum of the changes tells the rest.  Joining
windows keeps all sums as they are: a change in the middle of a new window counts there for its second half.
"""

from __future__ import annotations

from array import array

import attrs

WINDOWS = 512
"""How many windows there are at most; at least half of them are used."""
Key = tuple[str, str]
SHORTEST = 2.0**-10
"""The length of the first windows, in seconds."""


@attrs.define(eq=False)
class _Row:
    inside: array[float] = attrs.field(factory=lambda: array("d", bytes(8 * WINDOWS)))
    """What begins or ends in a window, as far as it lies in it."""
    changes: array[float] = attrs.field(factory=lambda: array("d", bytes(8 * WINDOWS)))
    """By how much the rate of what passes through whole windows changes at the begin of a window."""


@attrs.define(eq=False)
class Timeline:
    """Rows of windows of equal length, one row per key."""

    width: float = SHORTEST
    """Seconds in a window."""
    _rows: dict[Key, _Row] = attrs.field(factory=dict)

    def spread(self, key: Key, begin: float, end: float, amount: float) -> None:
        """Add *amount* to the row *key*, evenly from *begin* to *end*."""
        while end >= self.width * WINDOWS:
            self._join()
        row = self._rows.setdefault(key, _Row())
        first, last = int(begin / self.width), int(end / self.width)
        if first == last:
            row.inside[first] += amount
            return
        rate = amount / (end - begin)
        row.inside[first] += rate * ((first + 1) * self.width - begin)
        row.inside[last] += rate * (end - last * self.width)
        row.changes[first + 1] += rate
        row.changes[last] -= rate

    def amounts(self, key: Key) -> list[float]:
        """Return the amount in each window of the row *key*; nothing where there is no such row."""
        row, rate, found = self._rows.get(key) or _Row(), 0.0, []
        for inside, change in zip(row.inside, row.changes, strict=True):
            rate += change
            found.append(max(inside + rate * self.width, 0.0))
        return found

    def _join(self) -> None:
        for row in self._rows.values():
            inside, changes = row.inside, row.changes
            row.inside, row.changes = _Row().inside, _Row().changes
            for at in range(WINDOWS):
                row.inside[at // 2] += inside[at]
                if at % 2:
                    row.inside[at // 2] += changes[at] * self.width
                row.changes[(at + 1) // 2] += changes[at]
        self.width *= 2
