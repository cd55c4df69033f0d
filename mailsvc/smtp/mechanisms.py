"""The SASL mechanisms that mailsvc speaks, and the table that makes an exchange of each."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable

from mailsvc.smtp.sasl import (
    LONGEST,
    BearerLogin,
    CertificateLogin,
    Channel,
    Credentials,
    Denied,
    DigestLogin,
    Exchange,
    Malformed,
    PasswordLogin,
    Terse,
    check_user,
    text,
)
from mailsvc.smtp.scram import Scram


def _password_login(user: str, password: str, authzid: str = "") -> PasswordLogin:
    name = check_user(user, authzid)
    # A directory server takes an empty password for an anonymous bind and says yes.
    if not password or len(password) > LONGEST:
        raise Denied("an empty password, or one that is too long", name)
    return PasswordLogin(name, password)


class Plain(Terse):
    """PLAIN (RFC 4616): ``[authzid] NUL authcid NUL passwd``."""

    def respond(self, response: bytes | None) -> bytes | Credentials:
        """Ask for the message or take it."""
        if response is None:
            return b""
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise Malformed("PLAIN is authzid, NUL, authcid, NUL, passwd")
        authzid, user, password = map(text, parts)
        return _password_login(user, password, authzid)


class Login(Terse):
    """LOGIN: user name and password, each on a challenge (draft-murchison-sasl-login).

    Clients compare the challenges with the words that the first servers used.
    """

    def __init__(self) -> None:
        self._user: str | None = None

    def respond(self, response: bytes | None) -> bytes | Credentials:
        """Ask for the user name, then for the password."""
        if response is None:
            return b"Username:"
        given = text(response)
        if "\0" in given:
            raise Malformed("NUL in a user name or password")
        if self._user is None:
            self._user = given
            return b"Password:"
        return _password_login(self._user, given)


class CramMd5(Terse):
    """CRAM-MD5 (RFC 2195)."""

    _RESPONSE = re.compile(rb"(.+) ([0-9a-f]{32})", re.DOTALL)

    def __init__(self, channel: Channel, nonce: Callable[[], str] = secrets.token_hex) -> None:
        self._challenge = f"<{nonce()}@{channel.hostname}>".encode()
        self._asked = False

    def respond(self, response: bytes | None) -> bytes | Credentials:
        """Send the challenge, take ``user SP digest``."""
        if not self._asked:
            # RFC 4954 section 4: the server speaks first, so there is no initial response.
            if response is not None:
                raise Malformed("CRAM-MD5 has no initial response")
            self._asked = True
            return self._challenge
        match = self._RESPONSE.fullmatch(response or b"")
        if match is None:
            raise Malformed("CRAM-MD5 is user, space, 32 hexadecimal digits")
        user = check_user(text(match[1]))
        return DigestLogin(user, self._challenge, match[2])


#: A token as RFC 6750 section 2.1 writes it, behind ``Bearer`` in any case.
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*) *")


class _Bearer(Terse):
    """What OAUTHBEARER and XOAUTH2 share: one message, and a JSON challenge on failure."""

    _STATUS = "invalid_token"

    def respond(self, response: bytes | None) -> bytes | Credentials:
        """Ask for the message or take it."""
        if response is None:
            return b""
        user, authorization = self._read(text(response))
        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise Malformed("no bearer token")
        return BearerLogin(user, match[1])

    def failed(self) -> bytes:
        """Return the error status (RFC 7628 section 3.2.2)."""
        return json.dumps({"status": self._STATUS, "schemes": "bearer"}).encode("ascii")

    def _read(self, message: str) -> tuple[str, str]:
        raise NotImplementedError

    @staticmethod
    def _pairs(message: str) -> dict[str, str]:
        """Return the pairs of ``key=value ^A … ^A`` with the closing ^A."""
        if not message.endswith("\x01\x01"):
            raise Malformed("the message does not end in two control-A")
        pairs: dict[str, str] = {}
        for pair in message[:-2].split("\x01"):
            key, equals, value = pair.partition("=")
            if not equals or not key.isalpha() or key in pairs:
                raise Malformed("not a list of key=value")
            pairs[key] = value
        return pairs


class OAuthBearer(_Bearer):
    """OAUTHBEARER (RFC 7628): ``n,a=user,^Ahost=…^Aport=…^Aauth=Bearer …^A^A``."""

    def _read(self, message: str) -> tuple[str, str]:
        header, _, rest = message.partition("\x01")
        match = re.fullmatch(r"[ny],(?:a=((?:[^=,\0]|=2C|=3D)+))?,", header)
        if match is None:
            raise Malformed("not a GS2 header without channel binding")
        name = (match[1] or "").replace("=2C", ",").replace("=3D", "=")
        pairs = self._pairs(rest)
        return check_user(name) if name else "", pairs.get("auth", "")


class XOAuth2(_Bearer):
    """XOAUTH2, as Google and Microsoft document it: ``user=…^Aauth=Bearer …^A^A``."""

    _STATUS = "401"

    def _read(self, message: str) -> tuple[str, str]:
        pairs = self._pairs(message)
        return check_user(pairs.get("user", "")), pairs.get("auth", "")


class External(Terse):
    """EXTERNAL (RFC 4422 appendix A): TLS has done it; the message is the authzid, often empty."""

    def __init__(self, channel: Channel) -> None:
        self._certificate = channel.certificate

    def respond(self, response: bytes | None) -> bytes | Credentials:
        """Ask for the message or take it."""
        if response is None:
            return b""
        authzid = text(response)
        if "\0" in authzid:
            raise Malformed("NUL in an authorization identity")
        if self._certificate is None:
            raise Denied("no verified client certificate", authzid)
        return CertificateLogin(check_user(authzid) if authzid else "", self._certificate)


#: A new exchange for each mechanism, strongest first: the order in which EHLO names them.
MECHANISMS: dict[str, Callable[[Channel], Exchange]] = {
    "EXTERNAL": External,
    "SCRAM-SHA-256-PLUS": lambda channel: Scram(channel, plus=True),
    "SCRAM-SHA-256": lambda channel: Scram(channel, plus=False),
    "OAUTHBEARER": lambda channel: OAuthBearer(),
    "XOAUTH2": lambda channel: XOAuth2(),
    "CRAM-MD5": CramMd5,
    "PLAIN": lambda channel: Plain(),
    "LOGIN": lambda channel: Login(),
}
