"""Signatures per Standard Webhooks 1.0, over the exact octets that are sent.

Symmetric secrets (``whsec_``) give ``v1`` entries, HMAC-SHA256; asymmetric ones (``whsk_``) give
``v1a`` entries, Ed25519.  Every key in force signs, so that a receiver may hold the old one or the
new one while keys are rotated.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import mmap
import tempfile
from collections.abc import Sequence
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailsvc.deliverers.webhook.payload import Stream
from mailsvc.errors import ConfigError
from mailsvc.secretfile import Secret

_CHUNK = 262_144
_HMAC_PREFIX = "whsec_"
_ED25519_PREFIX = "whsk_"


class Key(Protocol):
    """One key in force."""

    def sign(self, head: bytes, body: bytes | Stream) -> str:
        """Return the signature's entry for ``head`` and ``body``.  Blocking if it is a stream."""


class HmacKey:
    """A ``whsec_`` secret.

    :param octets: 24 to 64.
    """

    def __init__(self, octets: bytes) -> None:
        self._keyed = hmac.new(octets, digestmod=hashlib.sha256)

    def sign(self, head: bytes, body: bytes | Stream) -> str:
        """Return the ``v1`` entry."""
        digest = self._keyed.copy()
        digest.update(head)
        if isinstance(body, bytes):
            digest.update(body)
        else:
            digest.update(body.prefix)
            with body.content.open() as reader:
                while chunk := reader.read(_CHUNK):
                    digest.update(chunk)
        return "v1," + base64.b64encode(digest.digest()).decode("ascii")


class Ed25519Key:
    """A ``whsk_`` secret.

    :param seed: the private key's 32 octets.
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public(self) -> bytes:
        """Return the public key's 32 octets."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, head: bytes, body: bytes | Stream) -> str:
        """Return the ``v1a`` entry."""
        if isinstance(body, bytes):
            signature = self._key.sign(head + body)
        else:
            signature = self._sign_stream(head, body)
        return "v1a," + base64.b64encode(signature).decode("ascii")

    def _sign_stream(self, head: bytes, body: Stream) -> bytes:
        # Ed25519 passes over the message twice (RFC 8032 section 5.1.6) and the library wants it in
        # one piece: a mapped temporary file is that without being memory.
        with tempfile.TemporaryFile() as file:
            file.write(head)
            file.write(body.prefix)
            with body.content.open() as reader:
                while chunk := reader.read(_CHUNK):
                    file.write(chunk)
            file.flush()
            with (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
                memoryview(mapped) as view,
            ):
                return self._key.sign(view)


def keys(secrets: Sequence[Secret]) -> tuple[Key, ...]:
    """Return the keys among ``secrets``; those of another form sign nothing here.

    :raises mailsvc.errors.ConfigError: a secret has the prefix of a key and is none.
    """
    found: list[Key] = []
    for secret in secrets:
        text = secret.reveal()
        if text.startswith(_HMAC_PREFIX):
            octets = _decoded(text.removeprefix(_HMAC_PREFIX), _HMAC_PREFIX)
            if not 24 <= len(octets) <= 64:
                raise ConfigError(
                    f"a {_HMAC_PREFIX} secret holds 24 to 64 octets, this one {len(octets)}"
                )
            found.append(HmacKey(octets))
        elif text.startswith(_ED25519_PREFIX):
            octets = _decoded(text.removeprefix(_ED25519_PREFIX), _ED25519_PREFIX)
            if len(octets) not in (32, 64):
                raise ConfigError(
                    f"a {_ED25519_PREFIX} secret holds 32 octets, or 64 with the public key,"
                    f" this one {len(octets)}"
                )
            key = Ed25519Key(octets[:32])
            if len(octets) == 64 and octets[32:] != key.public:
                raise ConfigError(f"the two halves of a {_ED25519_PREFIX} secret do not match")
            found.append(key)
    return tuple(found)


def _decoded(text: str, prefix: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ConfigError(f"what follows {prefix} in a secret is not base64") from None


def signature_headers(
    keys: Sequence[Key], id: str, timestamp: int, body: bytes | Stream
) -> tuple[tuple[str, str], ...]:
    """Return the three header fields of Standard Webhooks; without keys the id alone.

    Receivers tell a repeat by the id, signed or not.

    Blocking if ``body`` is a stream.

    :param id: the delivery's, the same on every attempt; it holds no dot.
    :param timestamp: seconds since the epoch, of this attempt.
    """
    if not keys:
        return (("webhook-id", id),)
    head = f"{id}.{timestamp}.".encode("ascii")
    return (
        ("webhook-id", id),
        ("webhook-timestamp", str(timestamp)),
        ("webhook-signature", " ".join(key.sign(head, body) for key in keys)),
    )
