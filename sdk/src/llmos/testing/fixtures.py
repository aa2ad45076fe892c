"""pytest fixtures, which pytest has wherever llmos-sdk is installed.  Nothing of llmos is imported before one is used.

echo      the `EchoBackend` behind the kernel, with its faults, gate and executors
clock     a `VirtualClock`, which the kernel does not use unless a test builds one with it
kernel    a running kernel with an echo model and nothing that is installed: discovery is blocked
process   a process at that kernel
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llmos.testing import EchoBackend, VirtualClock
    from llmos_kernel import Kernel, Process


def make_kernel(echo: EchoBackend, clock: VirtualClock | None = None, **config: object) -> Kernel:
    """Return a kernel, not started, that knows only *echo* (as models ``echo`` and ``echo-2``) and `FirstCome`."""
    from llmos.testing import FirstComePlugin, echo_spec  # noqa: PLC0415 - 150 ms that only who uses a kernel pays
    from llmos_kernel import Kernel, KernelConfig  # noqa: PLC0415 - the same

    models = (echo_spec("echo", aliases=("parrot",)), echo_spec("echo-2"))
    settings = KernelConfig(**{"models": models, "plugins": (), "timeout": 30.0, **config})  # type: ignore[arg-type]
    return Kernel(settings, plugins=(echo, FirstComePlugin()), clock=clock)


@pytest.fixture
def echo() -> EchoBackend:
    """The backend of the `kernel` fixture."""
    from llmos.testing import EchoBackend  # noqa: PLC0415 - as above

    return EchoBackend()


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that stands still until `VirtualClock.advance`."""
    from llmos.testing import VirtualClock  # noqa: PLC0415 - as above

    return VirtualClock()


@pytest.fixture
def kernel(echo: EchoBackend) -> Iterator[Kernel]:
    """A running kernel with the model ``echo``."""
    with make_kernel(echo) as running:
        yield running
    left = [id for executor in echo.executors for id in executor.known]
    if left:
        pytest.fail(f"the kernel stopped without releasing the tasks {left}")


@pytest.fixture
def process(kernel: Kernel) -> Iterator[Process]:
    """A process at the `kernel` fixture."""
    seat = kernel.attach()
    yield seat
    seat.close()
