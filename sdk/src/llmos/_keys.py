"""API keys: who may come from outside, as whom, and until when.

A key is 256 random bits behind its number: ``llmos-NUMBER-SECRET``.  It is shown once.  What is kept is its keyed hash,
HMAC-SHA-256 (RFC 2104) under a secret of the folder, so that neither the file of keys alone nor a guess at a key is of
any use; a plain hash would do as well for 256 random bits, but not for a file that somebody could write to.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from llmos._library import replace
from llmos_kernel.api import MAX_SECONDS, Credentials, check_number, check_type, listed, names, number, text
from llmos_kernel.errors import ConfigError, InvalidArgument, NotFound, PermissionDenied

FILE, SECRET = "keys.json", "keys.secret"
PREFIX = "llmos"
LOCAL = Credentials().tenant
"""The tenant of who comes without a key."""
_BITS = 256
_TIME = number(0, 1e12, whole=False)


@attrs.frozen(kw_only=True)
class Key:
    """What is known of a key; the key itself is not."""

    number: str = attrs.field(validator=text)
    name: str = attrs.field(validator=text)
    """Whose it is: what the kernel calls its holder."""
    tenant: str = attrs.field(validator=text)
    scopes: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    created: float = attrs.field(validator=_TIME)
    """Seconds since 1970."""
    expires: float | None = attrs.field(default=None, validator=attrs.validators.optional(_TIME))
    """The same, for the time from which it is worth nothing."""
    hash: str = attrs.field(default="", repr=False, validator=attrs.validators.matches_re(r"[0-9a-f]{64}"))

    def expired(self, now: float) -> bool:
        """Return whether its time is over."""
        return self.expires is not None and now >= self.expires

    @property
    def credentials(self) -> Credentials:
        """Who its holder is for the kernel."""
        return Credentials(self.name, self.tenant, self.scopes)


class KeyRing:
    """The keys that the folder *home* keeps.  Any thread.  A change by another process counts from the next call on."""

    def __init__(self, home: Path) -> None:
        self._file, self._secret_file = home / FILE, home / SECRET
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._secret = b""

    def create(
        self, name: str, *, tenant: str, scopes: tuple[str, ...] = (), now: float, lifetime: float | None = None
    ) -> tuple[str, Key]:
        """Make a key and return it, which nobody can do again, and what is kept of it.

        *now* is the time in seconds since 1970, *lifetime* is in seconds.  Raises `InvalidArgument`.
        """
        if tenant == LOCAL:
            message = f"tenant must not be {LOCAL!r}: that is who comes from this machine and needs no key"
            raise InvalidArgument(message, field="tenant", value=tenant, expected="another name")
        if lifetime is not None:
            check_number("lifetime", lifetime, 1, MAX_SECONDS, whole=False)
        with self._lock, self._alone():
            number, secret = secrets.token_hex(6), secrets.token_urlsafe(_BITS // 8)
            shown = f"{PREFIX}-{number}-{secret}"
            expires = None if lifetime is None else now + lifetime
            key = Key(
                number=number, name=name, tenant=tenant, scopes=scopes, created=now, expires=expires,
                hash=self._hash(shown),
            )  # fmt: skip
            self._write([*self._keys.values(), key])
        return shown, key

    def listed(self) -> tuple[Key, ...]:
        """Return what is kept of each key, in the order in which they were made."""
        with self._lock:
            self._read()
            return tuple(self._keys.values())

    def revoke(self, number: str) -> Key:
        """Take a key back, at once and for ever, and return what was kept of it; raise `NotFound`."""
        with self._lock, self._alone():
            key = self._keys.get(number)
            if key is None:
                known = list(self._keys)
                message = f"there is no key {number!r:.40} ({', '.join(known) or 'there are none'})"
                raise NotFound(message, field="number", value=number[:40], nearest=known)
            self._write([one for one in self._keys.values() if one is not key])
        return key

    def holder(self, shown: str, now: float) -> Key:
        """Return whose key *shown* is; raise `PermissionDenied`, always the same, for one that is worth nothing."""
        with self._lock:
            self._read()
            parts = shown.split("-", 2)
            key = self._keys.get(parts[1]) if len(parts) == 3 else None
            # A number that nobody has takes as long as a wrong secret.
            fits = hmac.compare_digest(self._hash(shown), key.hash if key is not None else "0" * 64)
        if key is None or not fits or key.expired(now):
            raise PermissionDenied("the key is wrong, expired or revoked", action="attach", right="key")
        return key

    def _hash(self, shown: str) -> str:
        return hmac.new(self._secret, shown.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def _read(self) -> None:
        """Read the files if they changed.  Under the lock."""
        try:
            status = self._file.stat()
        except (FileNotFoundError, NotADirectoryError):
            self._keys, self._stamp = {}, None
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        try:
            kept = json.loads(self._file.read_text("utf-8"))
            check_type("keys", kept, list, "a list of keys")
            found = [Key(**entry) for entry in kept]
            self._secret = self._secret_file.read_bytes()
        except (OSError, ValueError, TypeError, RecursionError) as error:
            why = error.message if isinstance(error, InvalidArgument) else type(error).__name__
            message = f"the keys in {self._file} cannot be read: {why}"
            raise ConfigError(
                message, field="keys", value=str(self._file), expected="what `llmos keys` wrote", source=str(self._file)
            ) from error
        self._keys, self._stamp = {key.number: key for key in found}, stamp

    def _write(self, keys: list[Key]) -> None:
        entries: list[dict[str, Any]] = [attrs.asdict(key) for key in keys]
        replace(self._file, entries)
        self._stamp = None
        self._read()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let nobody else change the keys meanwhile, here or in another process; makes the secret if there is none."""
        self._secret_file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._secret_file, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            _lock(file.fileno())
            self._secret = file.read()
            if not self._secret:
                self._secret = secrets.token_bytes(_BITS // 8)
                file.write(self._secret)
                file.flush()
                os.fsync(file.fileno())
            self._read()
            yield


def _lock(descriptor: int) -> None:
    """Wait until no other process holds the file; it is free again when it is closed."""
    try:
        import fcntl  # noqa: PLC0415 - not everywhere
    except ImportError:  # pragma: no cover - Windows, where the last of two writers wins
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
