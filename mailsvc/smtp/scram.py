"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), server side, and its verifiers.

A verifier is what is stored instead of a password: it lets a server check SCRAM and, by doing the
client's work itself, a plain password.  ``scramp`` makes the verifiers.  The exchange is here
because a TLS 1.3 client binds it with ``tls-exporter`` (RFC 9266), which ``scramp`` does not take.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from scramp import ScramException, ScramMechanism

from mailsvc.smtp.sasl import (
    Channel,
    Credentials,
    Denied,
    Malformed,
    SaltAsked,
    check_user,
    text,
)

#: OWASP's advice for PBKDF2-HMAC-SHA256 (Password Storage Cheat Sheet, 2023).
ITERATIONS = 600_000
#: Bounds of a verifier: RFC 7677 section 4 asks for 4096; the upper one keeps a check finite.
FEWEST_ITERATIONS, MOST_ITERATIONS = 4096, 10_000_000
SALT_OCTETS = 16

_SHA256 = ScramMechanism("SCRAM-SHA-256")
_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$([1-9][0-9]{0,8}):([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)"
)
_SASLNAME = re.compile(r"(?:[^=,\0]|=2C|=3D)+")
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_EXTENSION = re.compile(r"[A-Za-z]=[^\0,]+")


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a password file keeps of a password (RFC 5803, RFC 5802 section 3)."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def make(cls, password: str, iterations: int = ITERATIONS, salt: bytes = b"") -> Verifier:
        """Hash a password; slow on purpose.

        :param salt: a fresh random one if empty.
        :raises ValueError: SASLprep forbids a character of it, or it is empty.
        """
        salt = salt or secrets.token_bytes(SALT_OCTETS)
        if not password:
            raise ValueError("the password is empty")
        try:
            _, stored, server, _ = _SHA256.make_auth_info(password, iterations, salt)
        except ScramException:
            raise ValueError("the password holds a character that SASLprep forbids") from None
        return cls(iterations, salt, stored, server)

    def check(self, password: str) -> bool:
        """Say whether it is the password; slow on purpose, and as slow for a wrong one."""
        try:
            key = self.make(password, self.iterations, self.salt).stored_key
        except ValueError:
            hashlib.pbkdf2_hmac("sha256", password.encode(), self.salt, self.iterations)
            key = b""
        return hmac.compare_digest(key, self.stored_key)

    def encode(self) -> str:
        """Return the verifier in the syntax of RFC 5803 section 3."""
        salt, stored, server = map(_b64, (self.salt, self.stored_key, self.server_key))
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"

    @classmethod
    def decode(cls, line: str) -> Verifier:
        """Return the verifier that :meth:`encode` wrote.

        :raises ValueError: it is none.
        """
        match = _VERIFIER.fullmatch(line)
        if match is None:
            raise ValueError("not SCRAM-SHA-256$ITERATIONS:SALT$STORED-KEY:SERVER-KEY")
        iterations = int(match[1])
        if not FEWEST_ITERATIONS <= iterations <= MOST_ITERATIONS:
            raise ValueError(f"iterations are not {FEWEST_ITERATIONS} to {MOST_ITERATIONS}")
        try:
            salt, stored, server = (base64.b64decode(match[n], validate=True) for n in (2, 3, 4))
        except binascii.Error:
            raise ValueError("salt and keys are not base64") from None
        if len(salt) < 12 or len(stored) != 32 or len(server) != 32:
            raise ValueError("salt or keys are too short or too long")
        return cls(iterations, salt, stored, server)


@dataclass(slots=True)
class ScramLogin:
    """The client's proof that it knows the password, to be checked against a verifier.

    :ivar server_final: the last challenge, once :meth:`proves` said yes.
    """

    user: str
    message: bytes
    proof: bytes = field(repr=False)
    server_final: bytes = b""

    def proves(self, verifier: Verifier) -> bool:
        """Say whether the client knew the password (RFC 5802 section 3), in constant time."""
        signature = hmac.digest(verifier.stored_key, self.message, "sha256")
        client_key = bytes(a ^ b for a, b in zip(self.proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key):
            return False
        final = hmac.digest(verifier.server_key, self.message, "sha256")
        self.server_final = b"v=" + base64.b64encode(final)
        return True


class Scram:
    """One run of SCRAM-SHA-256, or of SCRAM-SHA-256-PLUS if ``plus``."""

    def __init__(
        self, channel: Channel, *, plus: bool, nonce: Callable[[], str] = secrets.token_urlsafe
    ) -> None:
        self._bindings = channel.bindings
        self._plus = plus
        self._nonce = nonce()
        self._user = ""
        self._expected_binding = b""
        self._first_bare = ""
        self._server_first = ""
        self._login: ScramLogin | None = None

    def respond(self, response: bytes | None) -> bytes | SaltAsked | Credentials:
        """Take client-first-message, then client-final-message."""
        if response is None:
            return b""
        if not self._server_first:
            return self._client_first(text(response))
        return self._client_final(text(response))

    def salted(self, salt: bytes, iterations: int) -> bytes:
        """Return server-first-message."""
        self._server_first = f"r={self._nonce},s={_b64(salt)},i={iterations}"
        return self._server_first.encode("ascii")

    def succeeded(self) -> bytes | None:
        """Return server-final-message: it proves the server to the client."""
        return self._login.server_final if self._login is not None else None

    def failed(self) -> bytes | None:
        """Return None: RFC 5802 section 7 leaves it to the reply, which tells less."""
        return None

    def _client_first(self, message: str) -> SaltAsked:
        # gs2-cbind-flag "," [ authzid ] "," client-first-message-bare (RFC 5802 section 7)
        parts = message.split(",")
        if len(parts) < 4:
            raise Malformed("client-first-message is too short")
        flag, authzid, name, nonce, *extensions = parts
        if name[:2] != "n=" or not _SASLNAME.fullmatch(name[2:]):
            # "m=" is an extension that a server must understand, and there is none.
            raise Malformed("no user name where it should be")
        if nonce[:2] != "r=" or not _NONCE.fullmatch(nonce[2:]):
            raise Malformed("no nonce where it should be")
        if authzid and (authzid[:2] != "a=" or not _SASLNAME.fullmatch(authzid[2:])):
            raise Malformed("not an authorization identity")
        if not all(map(_EXTENSION.fullmatch, extensions)):
            raise Malformed("not an extension")
        self._user = check_user(_unescaped(name[2:]), _unescaped(authzid[2:]))
        header = f"{flag},{authzid},"
        self._expected_binding = header.encode("utf-8") + self._binding(flag)
        self._first_bare = message[len(header) :]
        self._nonce = nonce[2:] + self._nonce
        return SaltAsked(self._user)

    def _binding(self, flag: str) -> bytes:
        """Return the channel binding data that the client's flag asks for (RFC 5802 section 6)."""
        if flag.startswith("p="):
            binding = self._bindings.get(flag[2:])
            if not self._plus or binding is None:
                raise Denied("a channel binding that is not to be had", self._user)
            return binding
        if flag not in ("n", "y"):
            raise Malformed("not a channel binding flag")
        if self._plus:
            raise Denied("SCRAM-SHA-256-PLUS without channel binding", self._user)
        if flag == "y" and self._bindings:
            # The client believes that we do not offer -PLUS, but we do: somebody took it out.
            raise Denied("the list of mechanisms was tampered with", self._user)
        return b""

    def _client_final(self, message: str) -> ScramLogin:
        # channel-binding "," nonce ["," extensions] "," proof
        without_proof, mark, proof = message.rpartition(",p=")
        binding, _, rest = without_proof.partition(",")
        nonce, *extensions = rest.split(",")
        if not mark or binding[:2] != "c=" or nonce[:2] != "r=":
            raise Malformed("client-final-message is not c=, r=, p=")
        if not all(map(_EXTENSION.fullmatch, extensions)):
            raise Malformed("not an extension")
        given, proven = _unb64(binding[2:]), _unb64(proof)
        if len(proven) != 32:
            raise Malformed("the proof is not 32 octets")
        if not hmac.compare_digest(given, self._expected_binding):
            raise Denied("the channel binding does not match", self._user)
        if not hmac.compare_digest(nonce[2:].encode(), self._nonce.encode()):
            raise Denied("the nonce does not match", self._user)
        signed = f"{self._first_bare},{self._server_first},{without_proof}"
        self._login = ScramLogin(self._user, signed.encode("utf-8"), proven)
        return self._login


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _unb64(given: str) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except ValueError:
        raise Malformed("not base64") from None


def _unescaped(name: str) -> str:
    return name.replace("=2C", ",").replace("=3D", "=")
