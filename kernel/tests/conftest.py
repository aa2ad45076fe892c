"""Fixtures of the kit, and asserts of the helpers that say what differs."""

from __future__ import annotations

import pytest

from llmos.testing.fixtures import clock, echo, kernel, process

pytest.register_assert_rewrite("kernel.tests.rig")

__all__ = ["clock", "echo", "kernel", "process"]
