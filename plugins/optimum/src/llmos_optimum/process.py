"""Running the export in its own process: progress while it runs, one typed error when it fails, nobody left behind."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from llmos_kernel.errors import DeadlineExceeded, InvalidArgument, ModelUnavailable, PluginFailed, PluginMissing

CHILD: Final = Path(__file__).with_name("child.py")
_LINES: Final = 40
_LINE: Final = 1 << 20
_GRACE: Final = 5.0
_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip


def run_export(
    python: str, request: Mapping[str, str], timeout: float, progress: Callable[[str, int, int], None], *, model: str
) -> dict[str, Any]:
    """Run `llmos_optimum.child` with the interpreter *python* and return the facts that it reports.

    *request* is what the child is asked; *progress* hears what it does.  The child never outlives this call.

    Raises `InvalidArgument` for an interpreter that cannot be started, `PluginMissing` where it lacks optimum,
    `ModelUnavailable` (of *model*) for a checkpoint that cannot be exported, `DeadlineExceeded` after *timeout*
    seconds, and `PluginFailed` with the end of what the child printed where it failed otherwise.
    """
    with _started(python, request) as process:
        printed: collections.deque[str] = collections.deque(maxlen=_LINES)
        reading = threading.Thread(target=_keep_end, args=(process, printed), daemon=True)
        reading.start()
        end = time.monotonic() + timeout
        for message in _messages(process, end, timeout):
            if "progress" in message:
                progress(message["progress"], message["done"], message["total"])
            elif "refused" in message:
                raise _refused(message["refused"], model)
            elif "missing" in message:
                raise _missing(python, message["missing"])
            elif "facts" in message:
                facts: dict[str, Any] = message["facts"]
                return facts
        with contextlib.suppress(subprocess.TimeoutExpired):  # it lives on with its output closed: not for long
            process.wait(_GRACE)
        reading.join(_GRACE)
    last = "\n".join(printed)[-4000:]
    summary = printed[-1].strip() if printed else "it printed nothing"
    why = f"optimum failed to export {model!r} (status {process.returncode}): {summary:.500}"
    raise PluginFailed(why, plugin="optimum", status=process.returncode, stderr=last)


@contextlib.contextmanager
def _started(python: str, request: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start the child in a session of its own, so that Ctrl-C reaches it through us, and see it dead at the end."""
    command = [python, "-I", "-X", "utf8", str(CHILD), json.dumps(dict(request))]
    try:
        process = subprocess.Popen(
            command, env={**os.environ, **_OFFLINE}, text=True, encoding="utf-8", errors="replace",
            start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        expected = "a Python interpreter that has optimum-onnx and torch"
        message = f"option python is {python!r}, which cannot be started ({error.strerror}); expected {expected}"
        raise InvalidArgument(message, field="python", value=python, expected=expected) from error
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the child and what it started, unless all has ended."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _keep_end(process: subprocess.Popen[str], printed: collections.deque[str]) -> None:
    """Keep the last lines of the standard error."""
    if process.stderr is not None:
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in process.stderr:
                if line.strip():
                    printed.append(line.rstrip()[:_LINE])


def _messages(process: subprocess.Popen[str], end: float, timeout: float) -> Iterator[dict[str, Any]]:
    """Yield the child's messages until it closes its output; raise `DeadlineExceeded` at *end*."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read_lines, args=(process, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            message = f"the export took longer than {timeout:g} seconds; give it more with the option timeout"
            raise DeadlineExceeded(message, field="timeout", value=timeout) from None
        if line is None:
            return
        with contextlib.suppress(ValueError):  # not a message: some library's own words
            message = json.loads(line)
            if isinstance(message, dict):
                yield message


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    if process.stdout is not None:
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in process.stdout:
                lines.put(line)
    lines.put(None)


def _refused(facts: Mapping[str, str], model: str) -> ModelUnavailable:
    message = f"{model!r}: {facts['field']} is {facts['value']}, expected {facts['expected']}"
    return ModelUnavailable(message, model=model, **facts)


def _missing(python: str, name: str) -> PluginMissing:
    message = (
        f"the interpreter {python} has no {name}, which the export needs: pip install 'llmos-optimum[export]', "
        "or name an interpreter that has optimum-onnx and torch with the option python"
    )
    return PluginMissing(message, plugin="optimum", missing=name, python=python)
