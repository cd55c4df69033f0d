"""Signed links to parts of contents: made for a webhook's payload, checked when one is followed.

A link holds all that is needed to serve the part: where it lies in the content, what undoes its
encoding, what it is, and until when.  Nothing is kept beside the content itself.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256

import msgspec
from msgspec import Struct

from mailsvc.errors import MailsvcError
from mailsvc.parsed import Attachment
from mailsvc.secretfile import Secret

#: Seconds that a content is kept beyond the last link to it, for those who fetch it just then.
_GRACE = 3600
_PATH = "/attachments/"
#: What a key is derived for, so that the same secret can do other work.
_PURPOSE = b"mailsvc attachment link 1"


class LinkRefused(MailsvcError):
    """A link is not one of ours: changed, or signed with a key that is no longer in force."""


class LinkExpired(MailsvcError):
    """A link's time is over."""


class Linked(Struct, frozen=True, array_like=True):
    """What one link leads to.

    :ivar start: where the part's encoded octets begin in the content; ``end`` where they end.
    :ivar size: octets when decoded; ``digest`` their SHA-256.
    :ivar type: ``type/subtype``.
    :ivar until: seconds since the epoch.
    """

    message_id: str
    start: int
    end: int
    encoding: str
    size: int
    digest: bytes
    type: str
    charset: str
    name: str
    until: int


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(Linked)


class Links:
    """Makes links and checks them; for any thread.

    :param base_url: the URL by which receivers reach the endpoint.
    :param secrets: the first signs; all of them verify.
    :param ttl: seconds that a link works.
    :param now: returns the time, in seconds since the epoch.
    :param retain: keeps a content until a time; false if it is gone.
    """

    def __init__(
        self,
        base_url: str,
        secrets: Sequence[Secret],
        ttl: float,
        now: Callable[[], float],
        retain: Callable[[str, float], Awaitable[bool]],
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._keys = tuple(
            hmac.digest(secret.reveal().encode(), _PURPOSE, "sha256") for secret in secrets
        )
        self._ttl = ttl
        self._now = now
        self._retain = retain

    def url(self, message_id: str, attachment: Attachment) -> str:
        """Return a URL of one attachment that works from now on, if its content is kept."""
        linked = Linked(
            message_id,
            attachment.start,
            attachment.end,
            attachment.encoding,
            len(attachment.content),
            sha256(attachment.content).digest(),
            attachment.content_type,
            attachment.charset,
            attachment.filename,
            math.ceil(self._now() + self._ttl),
        )
        octets = _ENCODE(linked)
        signature = hmac.digest(self._keys[0], octets, "sha256")
        return f"{self._base_url}{_PATH}{_text(octets)}.{_text(signature)}"

    async def keep(self, message_id: str) -> None:
        """Keep a content, durably, for as long as the links to it that are made by now work."""
        await self._retain(message_id, self._now() + self._ttl + _GRACE)

    def follow(self, path: str) -> Linked | None:
        """Return what a URL's path leads to, or None if it is not a link's path.

        :raises LinkRefused: the signature is wrong.
        :raises LinkExpired: it was right.
        """
        _, found, token = path.rpartition(_PATH)
        if not found:
            return None
        text, _, signature = token.partition(".")
        try:
            octets, signed = _octets(text), _octets(signature)
        except (ValueError, binascii.Error):
            raise LinkRefused("the link is damaged") from None
        # Every key is tried, so that the time does not tell which one is near.
        matches = [
            hmac.compare_digest(hmac.digest(key, octets, "sha256"), signed) for key in self._keys
        ]
        if not any(matches):
            raise LinkRefused("the link's signature is wrong")
        linked = _DECODER.decode(octets)
        if self._now() >= linked.until:
            raise LinkExpired("the link's time is over")
        return linked


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _octets(text: str) -> bytes:
    octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(octets) != text:
        # One link has one spelling.
        raise ValueError(text)
    return octets
