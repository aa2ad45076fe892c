"""An echo model that takes prompts of tokens, as engines do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from llmos.testing import EchoBackend, EchoExecutor
from llmos_kernel.api import Task
from llmos_kernel.contracts import ModelSpec, Prepared


class TokenExecutor(EchoExecutor):
    """Takes prompts of tokens, and counts its steps as an engine does: half of each is the runtime's."""

    def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
        """Take each token for a word."""
        if task.kind == "generate":
            params = {key: value for key, value in task.params.items() if key != "ignore_eos"}
            task = attrs.evolve(task, input=" ".join(map(str, task.input)), params=params)
        return super().prepare(id, task, tenant)

    def describe(self) -> Mapping[str, Any]:
        """Add the count."""
        steps = {"step_seconds": 2.0 * len(self.plans), "run_seconds": 1.0 * len(self.plans)}
        return {**super().describe(), "steps": steps}


class TokenBackend(EchoBackend):
    """Serves it."""

    def load(self, spec: ModelSpec) -> EchoExecutor:
        """Return a new executor."""
        executor = TokenExecutor(**{"rows": 16, **spec.options})
        self.executors.append(executor)
        return executor
