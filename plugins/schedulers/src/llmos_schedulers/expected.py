"""How long a task's output will be: a running mean per tenant and kind of task.

Nobody knows how long an answer will be, but tenants ask alike: the mean of what a tenant's tasks of a kind produced,
recent ones weighing more, orders tasks well enough (Jin et al., "S3: Increasing GPU Utilization during Generative
Inference for Higher Throughput", NeurIPS 2023, predict by a model what is estimated here by a mean).
"""

from __future__ import annotations

from collections import OrderedDict

import attrs

from llmos_kernel.contracts import TaskView

REMEMBERED = 4096
"""Tenants and kinds that are remembered, those heard of last; more could grow without end."""
RECENT = 0.1
"""What the newest task weighs in the mean."""


@attrs.define
class Expected:
    """The mean length of outputs, by tenant and kind."""

    _means: OrderedDict[tuple[str, str], float] = attrs.field(factory=OrderedDict, init=False)

    def tokens(self, task: TaskView) -> float:
        """Return the output tokens to expect of *task*: the tenant's mean, at most what is predicted of the task.

        Without a mean it is `TaskView.predicted`, or `TaskView.max_tokens` where that is 0.
        """
        most = task.predicted or task.max_tokens
        return min(self._means.get((task.tenant, task.kind), most), most)

    def learn(self, task: TaskView, tokens: int) -> None:
        """Take in that *task* ended after so many *tokens*; one that produced none says nothing."""
        if tokens < 1:
            return
        key = (task.tenant, task.kind)
        mean = self._means.pop(key, None)
        self._means[key] = tokens if mean is None else mean + RECENT * (tokens - mean)
        if len(self._means) > REMEMBERED:
            self._means.popitem(last=False)
