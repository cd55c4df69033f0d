"""Secrets from files, environment variables and systemd credentials; redacted everywhere.

A source holds one secret a line.  Several lines are several keys in force, as during a rotation;
the first is the one to sign or log in with where only one can be used.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from mailsvc.errors import ConfigError

#: Octets of a new Standard Webhooks secret (the specification asks for 24 to 64).
_SECRET_OCTETS = 32
#: How keys of Standard Webhooks begin.
_PREFIXES = ("whsec_", "whsk_", "whpk_")
#: A file of secrets has no reason to be longer; ``/dev/zero`` named by mistake is.
_FILE_LIMIT = 65_536


class Secret:
    """Text that shows itself to nobody but the caller of :meth:`reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret; never put it into an event, an error or a page."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(redacted)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where secrets are kept; exactly one of the three is named.

    :ivar file: a path.
    :ivar variable: the name of an environment variable.
    :ivar credential: the name of a systemd credential (``LoadCredential=`` in the unit).
    """

    file: str = ""
    variable: str = ""
    credential: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a source held.

    :ivar secrets: at least one.
    :ivar warnings: what the operator should mend, in words.
    """

    secrets: tuple[Secret, ...]
    warnings: tuple[str, ...] = ()


def load(source: SecretSource, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Return the secrets that ``source`` holds.  Blocking: reads a file.

    What a source is called is not shown where it may be the secret, written there by mistake.

    :raises mailsvc.errors.ConfigError: there is none, or it cannot be read.
    """
    if f"{source.file}{source.variable}{source.credential}".startswith(_PREFIXES):
        raise ConfigError("this is a secret itself; the key names the place where it is kept")
    if source.file:
        return _from_file(source.file, guarded=True)
    if source.variable:
        text = environment.get(source.variable)
        if text is None:
            raise ConfigError("the environment variable of this name is not set")
        return Loaded(_lines(text, f"the environment variable {source.variable}"))
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigError("systemd passed no credential of this name (LoadCredential= in the unit)")
    if source.credential in ("", ".", "..") or "/" in source.credential:
        raise ConfigError("this is no name of a credential")
    # systemd itself guards the directory, and may mount the files as 0440.
    return _from_file(os.path.join(directory, source.credential), guarded=False)


def _from_file(path: str, *, guarded: bool) -> Loaded:
    warnings: tuple[str, ...] = ()
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            octets = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"the secret in {path} cannot be read: {error.strerror}") from None
    if len(octets) > _FILE_LIMIT:
        raise ConfigError(f"{path} is too long for a file of secrets")
    if guarded and mode & 0o007:
        raise ConfigError(f"every user may use {path} (mode {mode:04o}): chmod 600 {path}")
    if guarded and mode & 0o070:
        warnings = (f"the group may use the secret in {path} (mode {mode:04o}): chmod 600 {path}",)
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8") from None
    return Loaded(_lines(text, path), warnings)


def _lines(text: str, where: str) -> tuple[Secret, ...]:
    """Return one secret for each line; empty lines and ``#`` comments are none."""
    lines = [line.strip() for line in text.splitlines()]
    found = tuple(Secret(line) for line in lines if line and not line.startswith("#"))
    if not found:
        raise ConfigError(f"{where} holds no secret")
    return found


def make_secret(path: str) -> Secret:
    """Write a new Standard Webhooks secret to ``path``, mode 0600, and return it.

    The file appears whole or not at all, and is on stable storage when this returns.  If there is
    one already, it stays, and its first secret is returned.  Blocking.

    :raises mailsvc.errors.ConfigError: it cannot be written, or the one there cannot be used.
    """
    text = "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_OCTETS)).decode("ascii")
    directory = os.path.dirname(path) or "."
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(text.encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: two processes that start at once agree on the first one's.
            os.link(temporary, path)
        except FileExistsError:
            return load(SecretSource(file=path)).secrets[0]
        finally:
            os.unlink(temporary)
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        raise ConfigError(f"no secret can be written to {path}: {error.strerror}") from None
    return Secret(text)
