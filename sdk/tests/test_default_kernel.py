"""The kernel that clients share: its life, seen from programs of their own."""

from __future__ import annotations

import os
import sys

import pytest

from sdk.tests.conftest import Script


def test_a_script_that_closes_nothing_ends(script: Script) -> None:
    """Promptly and with status 0, with a client, a model and a half-read stream left behind."""
    done = script("""
client = llmos.Client(config=config, plugins=plugins)
model = client.load_model("echo")
stream = model.stream("a b c")
print(next(stream))
""")

    assert (0, "a\n", "") == (done.returncode, done.stdout, done.stderr)


def test_a_task_that_never_ends_does_not_keep_the_script(script: Script) -> None:
    """A generation that hangs is abandoned with the process."""
    done = script("""
backend = plugins[0]
client = llmos.Client(config=config, plugins=plugins)
model = client.load_model("echo")
backend.gate.shut()
stream = model.stream("a b c")
backend.gate.wait_for_visitor()
print("end")
""")

    assert (0, "end\n") == (done.returncode, done.stdout)


def test_an_error_keeps_its_status(script: Script) -> None:
    """The exit handler does not hide the program's own failure."""
    done = script("client = llmos.Client(config=config, plugins=plugins)\nraise SystemExit(7)")

    assert 7 == done.returncode


def test_clients_share_it_and_the_last_one_stops_it(script: Script) -> None:
    """It is counted; after its last client nothing of it is left, and the next client starts another."""
    done = script("""
import threading
first = llmos.Client(config=config, plugins=plugins)
second = llmos.Client()
assert first._lease.kernel is second._lease.kernel
kernel = first._lease.kernel
first.load_model("echo").generate_text("a")
first.close()
first.close()
assert kernel.state == "running"
assert second.load_model("echo").generate_text("b") == "b"
second.close()
assert kernel.state == "stopped"
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
with llmos.Client(config=config, plugins=plugins) as third:
    assert third._lease.kernel is not kernel
""")

    assert (0, "") == (done.returncode, done.stderr)


def test_other_settings_are_refused(script: Script) -> None:
    """Nobody gets a kernel with settings that they did not ask for; the same settings are fine."""
    done = script("""
from llmos_kernel.errors import InvalidArgument
first = llmos.Client(config=config, plugins=plugins)
llmos.Client(config=config).close()
for other in ({"config": KernelConfig()}, {"plugins": [EchoBackend()]}):
    try:
        llmos.Client(**other)
    except InvalidArgument as error:
        assert "other settings" in str(error)
    else:
        raise SystemExit("not refused")
""")

    assert (0, "") == (done.returncode, done.stderr)


def test_a_refused_client_leaves_no_kernel(script: Script) -> None:
    """When the seat is refused, the kernel that was started for it stops again."""
    done = script("""
import threading
from llmos_kernel import Credentials, Policy, Decision
class No(Policy):
    name = "no"
    def check(self, action):
        return Decision.DENY
try:
    llmos.Client(config=config, plugins=[*plugins, No()])
except PermissionError:
    print(len(threading.enumerate()))
""")

    assert (0, "1\n") == (done.returncode, done.stdout)


def test_functions_and_models_share_it(script: Script) -> None:
    """`LLMOS` and `load_model` meet at the same kernel; the note about an alias goes nowhere that breaks a program."""
    done = script("""
os = llmos.LLMOS(config=config, plugins=plugins)
model = llmos.load_model("gpt-3")
def summarize_text(text):
    return model.generate_text(text, max_length=3)
os.submit_task(summarize_text, "This is a long article about LLMs.")
print(os.get_result())
""")

    assert (0, "This is a\n") == (done.returncode, done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="the platform has no safe fork")
def test_a_forked_child_gets_an_error(script: Script) -> None:
    """The parent's threads are not there, so old and new clients of its kernel say so instead of hanging."""
    done = script("""
import os, warnings
from llmos_kernel.errors import KernelStopped
client = llmos.Client(config=config, plugins=plugins)
model = client.load_model("echo")
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if child == 0:
    status = 0
    for attempt in (lambda: model.generate_text("a"), llmos.Client):
        try:
            attempt()
            status = 1
        except KernelStopped:
            pass
    client.close()
    raise SystemExit(status)
_, status = os.waitpid(child, 0)
assert status == 0, status
print(model.generate_text("still here"))
""")

    assert (0, "still here\n", "") == (done.returncode, done.stdout, done.stderr)
