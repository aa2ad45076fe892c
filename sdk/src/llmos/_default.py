"""The kernel that clients without an address or a kernel share: one per operating-system process, counted.

It starts with its first client and stops with its last, or when the interpreter exits.  A child made by fork has the
parent's memory but none of its threads, so there the default kernel is an error instead of a hang.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from llmos._serving import Serving
from llmos_kernel.errors import InvalidArgument, KernelStopped, PluginMissing

if TYPE_CHECKING:
    from llmos._elastic import Fleet
    from llmos._remote import Remote
    from llmos._settings import Settings
    from llmos._supervisor import Supervisor
    from llmos_kernel import Kernel, KernelConfig

DRAIN = 5.0
"""Seconds that running tasks get to end when the last client of the default kernel is closed."""
AT_EXIT = 1.0
"""Seconds that the kernel's threads get when the interpreter exits; then it exits without them."""


@attrs.define(eq=False)
class Lease:
    """A client's share of a kernel.  Releasing it twice is not an error."""

    kernel: Kernel | Remote
    end: Callable[[], object] | None = None
    """Gives the share back: of the default kernel, which ends with its last lease, or of one elsewhere."""
    serving: Serving = attrs.field(factory=Serving)
    fleet: Fleet | None = None
    """What is known of replicas, where they are supervised."""

    def release(self) -> None:
        """Give the share back; the last one stops the default kernel."""
        end, self.end = self.end, None
        if end is not None:
            end()

    @property
    def timeout(self) -> float:
        """Seconds after which a call without a timeout gives up."""
        from llmos_kernel import Kernel  # noqa: PLC0415 - only who asks needs it

        return self.kernel.config.timeout if isinstance(self.kernel, Kernel) else self.kernel.timeout


@attrs.define(eq=False)
class _Default:
    """The default kernel, how it was made, and how many lease it."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    kernel: Kernel | None = None
    config: KernelConfig | Settings | None = None
    plugins: tuple[object, ...] = ()
    leases: int = 0
    serving: Serving = attrs.field(factory=Serving)
    supervisor: Supervisor | None = None

    def lease(self, config: KernelConfig | Settings | None, plugins: tuple[object, ...]) -> Lease:
        with self.lock:
            kernel = self.kernel
            if kernel is None:
                kernel = self._start(config, plugins)
            elif kernel.state == "forked":
                message = (
                    "this process was forked from one with a kernel, whose threads do not exist here; "
                    "start processes with spawn, or use a kernel made here: Client(kernel=Kernel(...))"
                )
                raise KernelStopped(message, state=kernel.state)
            elif (config is not None and config != self.config) or (plugins and plugins != self.plugins):
                message = (
                    "the default kernel runs with other settings; close its clients first, or use "
                    "Client(kernel=Kernel(...)) for a kernel of your own"
                )
                raise InvalidArgument(message, field="config", value="other settings", expected="the same settings")
            self.leases += 1
            fleet = None if self.supervisor is None else self.supervisor.fleet
            return Lease(kernel, self.release, serving=self.serving, fleet=fleet)

    def _start(self, config: KernelConfig | Settings | None, plugins: tuple[object, ...]) -> Kernel:
        from llmos._settings import Settings, load_settings, routed  # noqa: PLC0415 - the same
        from llmos_kernel import Kernel  # noqa: PLC0415 - only who starts a kernel needs all of it

        config = load_settings() if config is None else config
        if isinstance(config, Settings):
            pipelines = (attrs.evolve(one, plugins=plugins) for one in config.pipelines)
            given, self.serving = (*plugins, *pipelines), config.serving
            kernel = self._supervised(routed(config.kernel), given)
        else:
            kernel, self.serving, self.supervisor = Kernel(config, plugins=plugins), Serving(), None
            kernel.start()
        self.kernel, self.config, self.plugins = kernel, config, plugins
        atexit.register(self.stop, drain=0.0, timeout=AT_EXIT)
        return kernel

    def _supervised(self, config: KernelConfig, plugins: tuple[object, ...]) -> Kernel:
        """Return a kernel that runs, and is supervised where the settings ask for it."""
        from llmos_kernel import Kernel  # noqa: PLC0415 - the same

        self.supervisor = None
        if self.serving.supervised:
            from llmos._supervisor import Supervisor  # noqa: PLC0415 - only who has rules for it

            self.supervisor = Supervisor(self.serving)
            plugins = (*plugins, self.supervisor)
        kernel = Kernel(config, plugins=plugins)
        kernel.start()
        try:
            if self.supervisor is not None:
                self.supervisor.watching(kernel)
        except BaseException:
            kernel.stop()
            raise
        return kernel

    def release(self) -> None:
        with self.lock:
            self.leases -= 1
            last = self.leases == 0
        if last:
            self.stop(DRAIN)

    def stop(self, drain: float, timeout: float = 10.0) -> None:
        """Stop the kernel, unless somebody leased it again meanwhile; without *drain*, whatever happens.

        Waits *timeout* seconds for its threads to end.
        """
        with self.lock:
            kernel = self.kernel
            if kernel is None or (drain and self.leases):
                return
            supervisor = self.supervisor
            self.kernel = self.config = self.supervisor = None
            self.plugins, self.leases = (), 0
        atexit.unregister(self.stop)
        if supervisor is not None:
            supervisor.stop(timeout)
        kernel.stop(drain=drain, timeout=timeout)

    def forked(self) -> None:
        """Forget who held the lock when the parent forked: it does not exist here."""
        self.lock = threading.Lock()


_default = _Default()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_default.forked)


def lease_kernel(
    address: str | None,
    kernel: Kernel | None,
    config: KernelConfig | Settings | None,
    plugins: Iterable[object] = (),
    token: str | None = None,
    supervisor: Supervisor | None = None,
) -> Lease:
    """Return a lease of *kernel*, of the one behind the server at *address*, or of the default kernel."""
    if address is not None:
        for name, value in (("kernel", kernel), ("config", config), ("plugins", plugins), ("supervisor", supervisor)):
            if value:
                message = f"{name} is for a kernel in this process, and an address is given"
                raise InvalidArgument(message, field=name, value="given", expected="an address alone")
        return _lease_remote(address, token)
    if token is not None:
        message = "token is for a remote kernel, and no address is given"
        raise InvalidArgument(message, field="token", value="given", expected="an address")
    plugins = tuple(plugins)
    if kernel is None:
        if supervisor is not None:
            message = "supervisor is for a kernel of your own; the default one has its own if its settings ask for it"
            raise InvalidArgument(message, field="supervisor", value="given", expected="kernel as well")
        return _default.lease(config, plugins)
    if config is not None or plugins:
        message = "config and plugins are for the default kernel; a kernel of your own has its own"
        raise InvalidArgument(message, field="config", value="given", expected="kernel alone")
    if supervisor is None:
        return Lease(kernel)
    return Lease(kernel, serving=supervisor.serving, fleet=supervisor.fleet)


def _lease_remote(address: str, token: str | None) -> Lease:
    try:
        from llmos._remote import Remote  # noqa: PLC0415 - only who names an address needs it
    except ImportError as error:
        why = f"clients of a server need {error.name}, which is not installed: pip install 'llmos-sdk[remote]'"
        message = f"{why}; leave the address {address!r} out to use a kernel in this process"
        raise PluginMissing(message, plugin="llmos-sdk[remote]", field="address") from error
    remote = Remote(address, token)
    return Lease(remote, remote.release)
