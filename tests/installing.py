"""Install what pip would, by uv, which takes a tenth of the time: the command with which tox installs.

Where packages come from is said to pip, in its files and in ``PIP_*``, and uv reads none of that; so it is said to uv
in uv's words.  Where pip is told something that has no word here, where there is no uv and where uv fails, pip
installs, and a line says so.

    python -I tests/installing.py [OPTION ...] PACKAGE ...    # into the virtual environment that is active
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

WORDS = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "constraint": "UV_CONSTRAINT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "index-url": "UV_DEFAULT_INDEX",
    "retries": "UV_HTTP_RETRIES",
    "timeout": "UV_HTTP_TIMEOUT",
    "trusted-host": "UV_INSECURE_HOST",
}
"""What decides where packages come from: pip's options, and uv's variables."""
BESIDE_THE_POINT = frozenset(
    "break-system-packages cache-dir compile config-file debug disable-pip-version-check exists-action log "
    "no-cache-dir no-color no-compile no-input no-python-version-warning no-warn-conflicts no-warn-script-location "
    "progress-bar quiet require-virtualenv root-user-action user verbose".split()
)
"""pip's options that change nothing of what is installed in a virtual environment."""


def main(arguments: list[str]) -> int:
    """Install *arguments*, which are those of ``pip install``, and return the exit code."""
    python = shutil.which("python") or sys.executable
    return install(python, shutil.which("uv", path=str(Path(sys.executable).parent)), arguments)


def install(python: str, uv: str | None, arguments: list[str]) -> int:
    """Install *arguments* for *python* by *uv*, or by its pip after a line that says why, and return the exit code."""
    pip = [python, "-I", "-m", "pip"]
    told = settings(subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=True).stdout)
    if (reason := hindrance(uv, told)) is None:
        command = [str(uv), "pip", "install", "--no-config", "--python", python, *arguments]
        code = subprocess.run(command, env=variables(told, os.environ), check=False).returncode
        if code == 0:
            return 0
        reason = f"uv ended with {code}"
    print(f"pip installs, because {reason}", flush=True)
    return subprocess.run([*pip, "install", "--no-compile", *arguments], check=False).returncode


def settings(listing: str) -> dict[str, str]:
    """Return what ``pip config list`` printed as ``pip install`` takes it: the last of these sections counts."""
    found: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        lines = (line.removeprefix(section) for line in listing.splitlines() if line.startswith(section))
        pairs = (line.partition("=")[::2] for line in lines)
        found |= {option: value for option, text in pairs if (value := ast.literal_eval(text))}
    return found


def hindrance(uv: str | None, told: Mapping[str, str]) -> str | None:
    """Return why uv cannot install what pip would: None if it can."""
    if uv is None:
        return "there is no uv"
    unknown = sorted(told.keys() - WORDS.keys() - BESIDE_THE_POINT)
    return f"uv is not told of {', '.join(unknown)}" if unknown else None


def variables(told: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return *environment* with what pip is told, in uv's words, and with pip's ways where uv's own are others."""
    ways = {
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # the newest of all indexes, not of the first that has any
        "UV_SYSTEM_CERTS": "true",  # whom the machine trusts, instead of a list that uv brings
    }
    if bundle := environment.get("REQUESTS_CA_BUNDLE"):
        ways["SSL_CERT_FILE"] = bundle
    words = {WORDS[option]: _parted(option, value) for option, value in told.items() if option in WORDS}
    return {**environment, **ways, **words}


def _parted(option: str, value: str) -> str:
    """Return a value that may be a list, which pip parts by white space, and uv by spaces or, here, by commas."""
    return ("," if option == "find-links" else " ").join(value.split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
