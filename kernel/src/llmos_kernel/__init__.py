"""llmos_kernel: the microkernel of llmos.

Four system calls (`Process.alloc`, `Process.schedule`, `Process.send`, `Process.recv`), and nothing about models: what
knows something is a plugin.
"""

from llmos_kernel._handles import Handle, MemoryHandle, ReplyHandle, TaskHandle
from llmos_kernel._version import __version__
from llmos_kernel.api import (
    Auto, Budget, Chunk, Context, Credentials, Done, Failed, Memory, Message, Model, Port, Principal, Receipt, Reply,
    Right, Task, TaskEvent, Usage,
)  # fmt: skip
from llmos_kernel.clock import Clock, SystemClock
from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import (
    API, Admitted, Backend, Emit, Executor, Footprint, Limits, ModelSpec, NotNow, Plan, Preemption, Prepared, Result,
    RunExecutor, Scheduler, StepExecutor, TaskState, TaskView,
)  # fmt: skip
from llmos_kernel.services import (
    Action, Candidate, Decision, Event, Exporter, Policy, Processor, Progress, Router, Store, TextFilter,
)  # fmt: skip
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.kernel import Kernel
from llmos_kernel.process import Process

__all__ = [
    "API", "Action", "Admitted", "Auto", "Backend", "Budget", "Candidate", "Chunk", "Clock", "Context", "Credentials",
    "Decision", "Done", "Emit", "Event", "Executor", "Exporter", "Failed", "Footprint", "Handle", "Kernel",
    "KernelConfig", "Limits", "Memory", "MemoryHandle", "Message", "Model", "ModelSpec", "NotNow", "Plan", "Policy",
    "Port", "Preemption", "Prepared", "Principal", "Process", "Processor", "Progress", "Receipt", "Reply",
    "ReplyHandle", "Result", "Right", "Router", "RunExecutor", "Scheduler", "StepExecutor", "Store", "SystemClock",
    "Task", "TaskEvent", "TaskHandle", "TaskState", "TaskView", "TextFilter", "Usage", "__version__", "hookimpl",
]  # fmt: skip
