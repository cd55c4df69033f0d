"""Checkers of credentials: several in a row, off the reactor's thread, and the built-in ones."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID
from twisted.cred.checkers import (
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import ICredentials, IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import LoginFailed, Unauthorized, UnauthorizedLogin
from twisted.cred.strcred import InvalidAuthType, findCheckerFactories, makeChecker
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from mailsvc.credentials import (
    IBearerToken,
    IClientCertificate,
    INonBlockingChecker,
    IScramChecker,
    IScramProof,
)
from mailsvc.errors import ConfigError, MailsvcError
from mailsvc.events import Alert, Emit
from mailsvc.passwords import PasswordFile
from mailsvc.smtp.scram import Verifier
from mailsvc.threads import InThread

P = ParamSpec("P")
T = TypeVar("T")

#: The credentials that a mechanism of mailsvc can bring.
SERVED: tuple[type[Interface], ...] = (
    IUsernamePassword,
    IUsernameHashedPassword,
    IScramProof,
    IBearerToken,
    IClientCertificate,
)


class Busy(MailsvcError):
    """More checks wait for a thread than are let wait."""


class CheckFailed(MailsvcError):
    """A checker could not tell; the cause was logged."""


class CheckQueue:
    """The threads that passwords are checked in, with a bound on what waits for them."""

    def __init__(self, in_thread: InThread, limit: int) -> None:
        self._in_thread = in_thread
        self._places = threading.Semaphore(limit)

    async def run(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returns, called in a thread.

        :raises Busy: the queue is full; ``function`` was not called.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("too many checks are waiting for a thread")
        return await self._in_thread(self._called, function)

    def _called(self, function: Callable[[], T]) -> T:
        # The thread gives the place back: a client that leaves ends the wait, not the work.
        try:
            return function()
        finally:
            self._places.release()


@implementer(ICredentialsChecker)
class ChainedChecker:
    """Asks several checkers of the same credentials, in order, until one knows the user.

    A portal keeps one checker for each credentials interface.

    :param interface: the credentials that all of ``checkers`` serve.
    """

    def __init__(
        self,
        interface: type[Interface],
        checkers: Sequence[ICredentialsChecker],
        queue: CheckQueue,
        emit: Emit,
    ) -> None:
        self.credentialInterfaces = (interface,)
        self._checkers = tuple(checkers)
        self._queue = queue
        self._emit = emit

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[bytes | tuple[()]]:
        """Return the user's name, UTF-8.

        The Deferred fails with ``UnauthorizedLogin`` if no checker knows the user, with
        :class:`Busy` if there is no thread to ask in, and with :class:`CheckFailed` if nobody said
        yes and one could not tell.
        """
        return Deferred.fromCoroutine(self._ask(credentials))

    async def _ask(self, credentials: ICredentials) -> bytes | tuple[()]:
        failed = False
        for checker in self._checkers:
            try:
                name: object
                if INonBlockingChecker.providedBy(checker):
                    name = await maybeDeferred(checker.requestAvatarId, credentials)
                else:
                    name = await self._queue.run(partial(_answer, checker, credentials))
                if isinstance(name, str):
                    # `unix` returns text.
                    return name.encode("utf-8")
                if isinstance(name, bytes):
                    return name
            except (Unauthorized, LoginFailed):
                continue
            except (Busy, CancelledError):
                raise
            except Exception as error:
                failed = True
                self._emit(Alert(f"checker {type(checker).__name__} failed: {where(error)}"))
        if failed:
            raise CheckFailed("a checker could not tell")
        raise UnauthorizedLogin


def _answer(checker: ICredentialsChecker, credentials: ICredentials) -> object:
    """Return what a checker says, called in a thread."""
    answer: object = checker.requestAvatarId(credentials)
    if not isinstance(answer, Deferred):
        return answer
    fired: list[object] = []
    answer.addBoth(fired.append)
    if not fired:
        raise TypeError("its Deferred has not fired; such a checker is an INonBlockingChecker")
    if isinstance(fired[0], Failure):
        fired[0].raiseException()
    return fired[0]


def where(error: BaseException) -> str:
    """Return what failed and where, but not the error's text: it may quote a password."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


@implementer(IScramChecker)
class PasswordChecker:
    """Checks passwords and SCRAM proofs against a password file.

    An unknown user costs what a known one does.

    :param report: told, in whatever thread, that the file has changed but cannot be used.
    """

    credentialInterfaces = (IUsernamePassword, IScramProof)

    def __init__(self, file: PasswordFile, report: Callable[[str], None]) -> None:
        self._file = file
        self._report = report

    def salt(self, user: str) -> tuple[bytes, int]:
        """Return salt and iteration count of a user, who need not exist."""
        verifier, _ = self._verifier(user)
        return verifier.salt, verifier.iterations

    def requestAvatarId(
        self, credentials: IUsernamePassword | IScramProof
    ) -> Deferred[bytes | tuple[()]]:
        """Return the user's name; blocking."""
        user = credentials.username
        verifier, known = self._verifier(user.decode("utf-8"))
        if IScramProof.providedBy(credentials):
            right = IScramProof(credentials).proves(verifier)
        else:
            right = verifier.check(IUsernamePassword(credentials).password.decode("utf-8"))
        return succeed(user) if right and known else fail(UnauthorizedLogin())

    def _verifier(self, user: str) -> tuple[Verifier, bool]:
        problem = self._file.refresh()
        if problem:
            self._report(problem)
        return self._file.verifier(user)


@implementer(INonBlockingChecker)
class CertificateNames:
    """Takes a verified client certificate for whom it names.

    The names are the e-mail addresses of its subject alternative name (RFC 5280 section 4.2.1.6),
    then its common name; the client may ask for any of them and is the first if it asks for none.
    """

    credentialInterfaces = (IClientCertificate,)

    def requestAvatarId(self, credentials: IClientCertificate) -> Deferred[bytes | tuple[()]]:
        """Return the name that the client is known by."""
        names = [name.encode("utf-8") for name in certificate_names(credentials.certificate)]
        wanted = credentials.username or (names[0] if names else b"")
        return succeed(wanted) if wanted in names else fail(UnauthorizedLogin())


def certificate_names(der: bytes) -> list[str]:
    """Return whom a certificate names, as :class:`CertificateNames` has it."""
    certificate = x509.load_der_x509_certificate(der)
    names: list[str] = []
    with suppress(x509.ExtensionNotFound):
        subject = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names += subject.value.get_values_for_type(x509.RFC822Name)
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        names.append(str(attribute.value))
    return [name for name in names if name]


def make_checker(description: str) -> ICredentialsChecker:
    """Return the checker that a strcred string names: ``unix``, ``file:/path``.

    :raises ConfigError: there is no such checker, or not with these arguments, or SMTP has no
        mechanism for it.  The arguments are not quoted: they may be passwords.
    """
    kind, _, argument = description.partition(":")
    if kind == "file":
        try:
            with open(argument, "rb"):
                pass
        except OSError as error:
            raise ConfigError(
                f"checker 'file': {argument} cannot be read: {error.strerror}"
            ) from None
    try:
        checker: ICredentialsChecker = makeChecker(description)
    except InvalidAuthType:
        known = sorted({factory.authType for factory in findCheckerFactories()})
        raise ConfigError(f"no checker {kind!r}; installed are {', '.join(known)}") from None
    except Exception as error:
        raise ConfigError(f"checker {kind!r} cannot be made: {where(error)}") from None
    if not any(interface in SERVED for interface in checker.credentialInterfaces):
        raise ConfigError(f"checker {kind!r} checks nothing that SMTP AUTH can bring")
    if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        # `memory:` is made of text, but credentials are octets.
        checker.users = {_octets(user): _octets(word) for user, word in checker.users.items()}
    return checker


def _octets(value: str | bytes) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else value
