"""``python -m tests.plugin_failures`` writes the matrix into the page that explains failures."""

from __future__ import annotations

from tests.plugin_failures.outcomes import PAGE, written

PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
