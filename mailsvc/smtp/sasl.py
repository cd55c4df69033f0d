"""SASL mechanisms for SMTP AUTH, server side (RFC 4422, RFC 4954), sans-IO.

An exchange is fed the client's decoded responses and says what comes next: a challenge, a salt that
somebody has to look up, or the credentials that somebody has to check.  It knows no users and no
clock.  Here is what all mechanisms share; :data:`mailsvc.smtp.mechanisms.MECHANISMS` makes an
exchange by the mechanism's name.

User names are prepared with SASLprep (RFC 4013); passwords are passed on as the client sent them,
since only the checker knows how its own were stored.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scramp import ScramException
from scramp.utils import saslprep

from mailsvc.errors import MailsvcError

#: Octets of a user name or password that are looked at; RFC 4616 section 2 asks for 255.
LONGEST = 1024


class SaslError(MailsvcError):
    """The exchange is over without credentials; the text is for the log, never for the peer."""


class Malformed(SaslError):
    """The response breaks the mechanism's grammar: 501 5.5.2."""


class Denied(SaslError):
    """The response is well-formed but cannot log anybody in: 535 5.7.8, a failed login.

    :ivar user: whom it named, if it got that far.
    """

    def __init__(self, cause: str, user: str = "") -> None:
        super().__init__(cause)
        self.user = user


@dataclass(frozen=True, slots=True)
class Channel:
    """What a mechanism may need to know of the connection.

    :ivar hostname: the name that the server goes by.
    :ivar bindings: the channel bindings that can be had (RFC 5056), by their registered names;
        empty without TLS.
    :ivar certificate: the client's certificate as DER, if it presented one that was verified.
    """

    hostname: str = "localhost"
    bindings: Mapping[str, bytes] = field(default_factory=dict)
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """A user and a password in plain text: PLAIN and LOGIN."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DigestLogin:
    """A keyed digest of a challenge, which takes the plain password to check: CRAM-MD5."""

    user: str
    challenge: bytes
    digest: bytes = field(repr=False)

    def matches(self, password: bytes) -> bool:
        """Say whether the client knew ``password`` (RFC 2195 section 2), in constant time."""
        wanted = hmac.new(password, self.challenge, hashlib.md5).hexdigest().encode("ascii")
        return hmac.compare_digest(wanted, self.digest)


@dataclass(frozen=True, slots=True)
class BearerLogin:
    """An OAuth 2.0 bearer token: OAUTHBEARER and XOAUTH2.

    :ivar user: whom the client claims to be; may be empty with OAUTHBEARER.
    """

    user: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateLogin:
    """The certificate of the TLS layer: EXTERNAL.

    :ivar user: whom the client asks to be; empty for whom the certificate names.
    """

    user: str
    certificate: bytes = field(repr=False)


class Proof(Protocol):
    """What SCRAM hands over: see :class:`mailsvc.smtp.scram.ScramLogin`."""

    @property
    def user(self) -> str:
        """Return the user's name."""
        ...


Credentials = PasswordLogin | DigestLogin | BearerLogin | CertificateLogin | Proof


@dataclass(frozen=True, slots=True)
class SaltAsked:
    """SCRAM's question between two responses: answered with :meth:`Exchange.salted`."""

    user: str


class Exchange(Protocol):
    """One run of one mechanism."""

    def respond(self, response: bytes | None) -> bytes | SaltAsked | Credentials:
        """Take the client's next response; None: AUTH came without an initial one.

        :return: the next challenge, a question, or the credentials to check.
        :raises Malformed: the response breaks the mechanism's grammar.
        :raises Denied: it cannot lead to a login.
        """
        ...

    def salted(self, salt: bytes, iterations: int) -> bytes:
        """Answer :class:`SaltAsked`; return the next challenge."""
        ...

    def succeeded(self) -> bytes | None:
        """Return the challenge that tells the client of success (it answers with an empty one)."""
        ...

    def failed(self) -> bytes | None:
        """Return the challenge that tells the client of failure (whatever it answers)."""
        ...


def prepare(name: str) -> str:
    """Return a user name after SASLprep (RFC 4013), or as it is where that forbids it.

    A forbidden name is none that a password file holds, so it is an unknown user like any other.
    """
    try:
        prepared: str = saslprep(name)
    except ScramException:
        return name
    return prepared


def check_user(name: str, authzid: str = "") -> str:
    """Return the prepared user name.

    :raises Denied: it is empty or too long, or ``authzid``, whom the client wants to act as, is
        somebody else (requirement 32).
    """
    user = prepare(name) if len(name) <= LONGEST else ""
    if not user:
        raise Denied("no user name, or one that is too long")
    if authzid and (len(authzid) > LONGEST or prepare(authzid) != user):
        raise Denied("the authorization identity is not the user", user)
    return user


def text(octets: bytes) -> str:
    """Return UTF-8 text.

    :raises Malformed: it is not UTF-8.
    """
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("the response is not UTF-8") from None


class Terse:
    """The base of a mechanism that has neither a salt nor last words."""

    def salted(self, salt: bytes, iterations: int) -> bytes:
        """Raise an error: nobody asked."""
        raise Malformed("this mechanism has no salt")

    def succeeded(self) -> bytes | None:
        """Return None: the reply says it."""
        return None

    def failed(self) -> bytes | None:
        """Return None: the reply says it."""
        return None
