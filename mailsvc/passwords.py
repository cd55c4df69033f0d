"""The password file: one SCRAM-SHA-256 verifier per user.

Each line is ``NAME:VERIFIER`` (RFC 5803); empty lines and those that start with ``#`` are kept.
The functions here block: the server calls them in a thread.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scramp import ScramException
from scramp.utils import saslprep

from mailsvc.errors import ConfigError
from mailsvc.smtp.scram import ITERATIONS, SALT_OCTETS, Verifier


def check_name(name: str) -> str:
    """Return a user name as the file holds it.

    :raises ConfigError: it cannot be one.
    """
    try:
        prepared: str = saslprep(name)
    except ScramException:
        raise ConfigError("a user name holds a character that SASLprep forbids") from None
    if not prepared or ":" in prepared or prepared[0] == "#" or prepared != prepared.strip():
        raise ConfigError(
            "a user name is not empty, holds no colon and does not start with # or a space"
        )
    if len(prepared) > 255:
        raise ConfigError("a user name has at most 255 characters")
    return prepared


def parse(text: str, path: str) -> dict[str, Verifier]:
    """Return the users of a password file, in its order.

    :raises ConfigError: with every line that is wrong.
    """
    users: dict[str, Verifier] = {}
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, verifier = line.rstrip().partition(":")
        try:
            if not colon or check_name(name) != name:
                raise ValueError("not NAME:VERIFIER")
            if name in users:
                raise ValueError("this user was named before")
            users[name] = Verifier.decode(verifier)
        except (ValueError, ConfigError) as wrong:
            problems.append(f"{path}:{number}: {wrong}")
    if problems:
        raise ConfigError(*problems)
    return users


def read(path: str) -> dict[str, Verifier]:
    """Return the users of the password file at ``path``.

    :raises ConfigError: it cannot be read, or a line is wrong.
    """
    return parse(_text(path), path)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8") from None


def users(path: str) -> tuple[str, ...]:
    """Return the names in the file, sorted.

    :raises ConfigError: as :func:`read`.
    """
    return tuple(sorted(read(path)))


def add(path: str, name: str, password: str, iterations: int = ITERATIONS) -> bool:
    """Store a user, or a user's new password; make the file if there is none.

    :return: whether the user is new.
    :raises ConfigError: name, password or file cannot be used.
    """
    name = check_name(name)
    try:
        verifier = Verifier.make(password, iterations)
    except ValueError as wrong:
        raise ConfigError(str(wrong)) from None
    line = f"{name}:{verifier.encode()}\n"
    with _locked(path):
        lines = _lines(path) if os.path.lexists(path) else []
        place = _place(lines, name)
        if place is None:
            lines.append(line)
        else:
            lines[place] = line
        _write(path, "".join(lines))
    return place is None


def remove(path: str, name: str) -> bool:
    """Remove a user; say whether there was one.

    :raises ConfigError: the file cannot be used.
    """
    with _locked(path):
        lines = _lines(path)
        place = _place(lines, check_name(name))
        if place is None:
            return False
        del lines[place]
        _write(path, "".join(lines))
    return True


def _lines(path: str) -> list[str]:
    text = _text(path)
    parse(text, path)
    lines = text.removesuffix("\n").split("\n") if text else []
    return [f"{line}\n" for line in lines]


def _place(lines: list[str], name: str) -> int | None:
    return next((n for n, line in enumerate(lines) if line.startswith(f"{name}:")), None)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Let one process at a time change the file: the lock is on its directory, so nothing is left.

    :raises ConfigError: there is no such directory.
    """
    directory = os.path.dirname(os.path.realpath(path))
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: str, text: str) -> None:
    """Replace the file at once and durably: 0600, or its old owner and mode without write for all.

    :raises ConfigError: it cannot be written; the old one is as it was.
    """
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    temporary = os.path.join(directory, f".{os.path.basename(path)}.{secrets.token_hex(8)}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                _adopt(handle, path, directory)
                os.fsync(handle)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        entry = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _adopt(handle: int, path: str, directory: str) -> None:
    """Give the new file the old one's owner and group, else the directory's, when root writes it.

    The service, which is not root, is to be able to read it.
    """
    try:
        old = os.stat(path)
        mode = stat.S_IMODE(old.st_mode) & 0o640 | 0o600
    except FileNotFoundError:
        old, mode = os.stat(directory), 0o600
    if os.geteuid() == 0:
        os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, mode)


class PasswordFile:
    """The users of a password file, read again when it has changed.

    :param secret: keys the salts of users that do not exist, so that they are the same every time
        and after every restart.
    :param iterations: of users that do not exist while the file holds nobody.
    :raises ConfigError: the file cannot be used.
    """

    def __init__(self, path: str, secret: bytes, iterations: int = ITERATIONS) -> None:
        self.path = path
        self._secret = secret
        self._iterations = iterations
        self._signature = self._sign()
        self._users: Mapping[str, Verifier] = read(path)

    def refresh(self) -> str:
        """Read the file if it has changed; blocking.

        :return: what is wrong with the new one (once; the old users stay), or nothing.
        """
        signature = self._sign()
        if signature == self._signature:
            return ""
        self._signature = signature
        try:
            self._users = read(self.path)
        except ConfigError as wrong:
            return f"the users stay as they were: {wrong}"
        return ""

    def verifier(self, user: str) -> tuple[Verifier, bool]:
        """Return a user's verifier and True, or one that nothing matches and False."""
        known = self._users.get(user)
        # Both are made for either, so that the time is the same.
        unknown = self._unknown(user)
        return (unknown, False) if known is None else (known, True)

    def _unknown(self, user: str) -> Verifier:
        def derived(what: bytes) -> bytes:
            return hmac.digest(self._secret, what + b"\0" + user.encode("utf-8"), "sha256")

        counts = [verifier.iterations for verifier in self._users.values()] or [self._iterations]
        # As if drawn from the users that there are: a count of its own would tell.
        iterations = counts[int.from_bytes(derived(b"iterations")) % len(counts)]
        return Verifier(
            iterations, derived(b"salt")[:SALT_OCTETS], derived(b"stored"), derived(b"server")
        )

    def _sign(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
