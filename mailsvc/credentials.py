"""Credentials as ``twisted.cred`` takes them: the interfaces that checkers serve.

A checker (:class:`twisted.cred.checkers.ICredentialsChecker`) that names one of these in its
``credentialInterfaces`` turns on the mechanisms that bring it; ``docs/authentication.md`` has the
table.  Besides those here, mailsvc brings Twisted's ``IUsernamePassword`` (PLAIN, LOGIN) and
``IUsernameHashedPassword`` (CRAM-MD5).
"""

from __future__ import annotations

import hmac

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import (
    ICredentials,
    IUsernameHashedPassword,
    IUsernamePassword,
)
from zope.interface import Attribute, implementer

from mailsvc.smtp.sasl import (
    BearerLogin,
    CertificateLogin,
    Credentials,
    DigestLogin,
    PasswordLogin,
)
from mailsvc.smtp.scram import ScramLogin, Verifier


class IScramProof(ICredentials):
    """A client's proof that it knows the password behind a verifier: SCRAM-SHA-256, -PLUS.

    A checker that serves it provides :class:`IScramChecker`.
    """

    username: bytes = Attribute("The user's name, UTF-8, after SASLprep.")

    def proves(verifier: Verifier) -> bool:
        """Say whether the client knows the password that ``verifier`` was made of."""


class IBearerToken(ICredentials):
    """An OAuth 2.0 access token: OAUTHBEARER (RFC 7628) and XOAUTH2.

    The checker returns the user whom the token was issued to; if ``username`` is not empty and is
    somebody else, the login fails.
    """

    username: bytes = Attribute("Whom the client claims to be, UTF-8; may be empty.")
    token: str = Attribute("The token (RFC 6750 section 2.1).")


class IClientCertificate(ICredentials):
    """A certificate that TLS verified against ``client_ca``: EXTERNAL.

    The checker returns the user whom it names; if ``username`` is not empty and is somebody else,
    the login fails.
    """

    username: bytes = Attribute("Whom the client asks to be, UTF-8; may be empty.")
    certificate: bytes = Attribute("The certificate as DER.")


class IScramChecker(ICredentialsChecker):
    """A checker that also knows salts."""

    def salt(user: str) -> tuple[bytes, int]:
        """Return the salt and the iteration count of a user, blocking.

        An unknown user has some, too, the same every time.
        """


class INonBlockingChecker(ICredentialsChecker):
    """A checker whose ``requestAvatarId`` is to be called in the reactor's thread.

    It does not block there, and may return a Deferred that fires later.  Every other checker is
    called in a thread, and what it returns is to have fired by then.
    """


@implementer(ICredentials, IUsernamePassword)
class Password:
    """A user and a password in plain text."""

    def __init__(self, login: PasswordLogin) -> None:
        self.username = login.user.encode("utf-8")
        self.password = login.password.encode("utf-8")

    def checkPassword(self, password: bytes) -> bool:
        """Say whether ``password`` is it, in constant time."""
        return hmac.compare_digest(self.password, password)


@implementer(ICredentials, IUsernameHashedPassword)
class Digest:
    """A keyed digest of a challenge."""

    def __init__(self, login: DigestLogin) -> None:
        self.username = login.user.encode("utf-8")
        self._login = login

    def checkPassword(self, password: bytes) -> bool:
        """Say whether the digest was made with ``password``, in constant time."""
        return self._login.matches(password)


@implementer(IScramProof)
class ScramProof:
    """A proof of SCRAM."""

    def __init__(self, login: ScramLogin) -> None:
        self.username = login.user.encode("utf-8")
        self._login = login

    def proves(self, verifier: Verifier) -> bool:
        """Say whether the client knows the password; see :class:`IScramProof`."""
        return self._login.proves(verifier)


@implementer(IBearerToken)
class BearerToken:
    """An OAuth 2.0 access token."""

    def __init__(self, login: BearerLogin) -> None:
        self.username = login.user.encode("utf-8")
        self.token = login.token


@implementer(IClientCertificate)
class ClientCertificate:
    """A verified certificate."""

    def __init__(self, login: CertificateLogin) -> None:
        self.username = login.user.encode("utf-8")
        self.certificate = login.certificate


def credentials_of(login: Credentials) -> ICredentials:
    """Return what a portal takes for what a mechanism gave."""
    match login:
        case PasswordLogin():
            return Password(login)
        case DigestLogin():
            return Digest(login)
        case BearerLogin():
            return BearerToken(login)
        case CertificateLogin():
            return ClientCertificate(login)
        case ScramLogin():
            return ScramProof(login)
    raise TypeError(f"no credentials for {type(login).__name__}")
