"""What `sdk/tests/test_streams.py` says of streams holds for those of a client that is elsewhere."""

from __future__ import annotations

from sdk.tests import test_streams as same
from tests.elsewhere.same import same_as

globals().update(same_as(same, {}))
