"""Serves attachments by HTTP to whoever has a signed link; nothing else is there to be had.

An attachment is read and decoded in a thread, a chunk at a time.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.http import CACHED
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from typing_extensions import override

from mailsvc.errors import SpoolError
from mailsvc.events import Broke, Emit
from mailsvc.interfaces import IContent, ISpool
from mailsvc.links import Linked, LinkExpired, LinkRefused, Links
from mailsvc.mime.decoding import decoder
from mailsvc.threads import InThread
from mailsvc.web import Flow, cut_off

_CHUNK = 65_536

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CHARSET = re.compile(r"[A-Za-z0-9_.:+-]{1,40}")
_UNSAFE = re.compile(r"[^A-Za-z0-9 ._()+-]")
#: What RFC 8187 section 3.2.1 lets stand unescaped.
_PLAIN = "!#$&+-.^_`|~"

#: Of every answer (requirement 55).
_FIELDS = {
    "Connection": "close",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "mailsvc",
    "X-Content-Type-Options": "nosniff",
}


class Part:
    """Reads the octets of one part, decoded; what it does blocks.

    :raises mailsvc.errors.SpoolError: the content cannot be read.
    """

    def __init__(self, content: IContent, linked: Linked) -> None:
        self._decoder = decoder(linked.encoding)
        self._left = linked.end - linked.start
        self._ready = b""
        self._reader: BinaryIO = content.open()
        try:
            before = linked.start
            while before and (chunk := self._reader.read(min(before, _CHUNK))):
                before -= len(chunk)
        except BaseException:
            self._reader.close()
            raise

    def skip(self, octets: int) -> None:
        """Read octets and forget them."""
        while octets and (chunk := self.read(min(octets, _CHUNK))):
            octets -= len(chunk)

    def read(self, most: int) -> bytes:
        """Return octets, none at the end."""
        while not self._ready and self._left > 0:
            chunk = self._reader.read(min(self._left, _CHUNK))
            self._left = self._left - len(chunk) if chunk else 0
            self._ready = self._decoder.feed(chunk)
            if self._left == 0:
                self._ready += self._decoder.end()
        octets, self._ready = self._ready[:most], self._ready[most:]
        return octets

    def close(self) -> None:
        """Close the content."""
        self._reader.close()


class AttachmentPage(Resource):
    """Every path there is.

    :ivar links: checks the links; a reload replaces it.
    """

    def __init__(
        self,
        links: Links,
        spool: ISpool,
        in_thread: InThread,
        clock: Any,  # noqa: ANN401
        emit: Emit,
    ) -> None:
        Resource.__init__(self)
        self.isLeaf = True
        self.links = links
        self._spool = spool
        self._in_thread = in_thread
        self._clock = clock
        self._emit = emit

    @override
    def render(self, request: Request) -> bytes | int:
        """Answer a request."""
        for name, value in _FIELDS.items():
            request.setHeader(name, value)
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", "GET, HEAD")
            return _plain(request, 405, "only GET and HEAD are answered here")
        try:
            linked = self.links.follow(request.path.decode("ascii", "replace"))
        except LinkRefused as error:
            return _plain(request, 403, str(error))
        except LinkExpired as error:
            return _plain(request, 410, str(error))
        if linked is None:
            return _plain(request, 404, "there is nothing here")
        sending = Deferred.fromCoroutine(self._send(request, linked))
        request.notifyFinish().addErrback(lambda _: sending.cancel())
        sending.addErrback(self._failed, request)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError, ConnectionLost):
            return
        if not failure.check(SpoolError, OSError):
            self._emit(Broke("an attachment's link", failure.getTraceback()))
        if request.channel is None:
            return
        if request.startedWriting:
            # The length is promised: that it is not kept shows that something is missing.
            cut_off(request)
            return
        request.write(_plain(request, 503, "the attachment cannot be read now"))
        request.finish()

    async def _send(self, request: Request, linked: Linked) -> None:
        try:
            content = await self._spool.open(linked.message_id)
        except SpoolError:
            request.write(_plain(request, 404, "the mail is no longer here"))
            request.finish()
            return
        tag = f'"{linked.digest.hex()}"'
        if request.setETag(tag.encode("ascii")) is CACHED:
            request.finish()
            return
        first, last = 0, linked.size - 1
        request.setHeader("Accept-Ranges", "bytes")
        asked = request.getHeader("range")
        if asked is not None and request.getHeader("if-range") in (None, tag):
            span = _span(asked, linked.size)
            if span == ():
                request.setHeader("Content-Range", f"bytes */{linked.size}")
                request.write(_plain(request, 416, "the attachment has no such range"))
                request.finish()
                return
            if span:
                first, last = span
                request.setResponseCode(206)
                request.setHeader("Content-Range", f"bytes {first}-{last}/{linked.size}")
        _describe(request, linked)
        request.setHeader("Content-Length", str(last + 1 - first))
        if request.method == b"HEAD":
            request.write(b"")
            request.finish()
            return
        await self._stream(request, content, linked, first, last + 1 - first)

    async def _stream(
        self, request: Request, content: IContent, linked: Linked, first: int, left: int
    ) -> None:
        part = await self._in_thread(Part, content, linked)
        try:
            await self._in_thread(part.skip, first)
            flow = Flow(self._clock, partial(cut_off, request))
            request.registerProducer(flow, True)
            try:
                while left:
                    octets = await self._in_thread(part.read, min(left, _CHUNK))
                    if not octets:
                        raise SpoolError("the content is shorter than the link says")
                    request.write(octets)
                    left -= len(octets)
                    await flow.ready()
            finally:
                if request.channel is not None:
                    request.unregisterProducer()
        finally:
            await self._in_thread(part.close)
        request.finish()


def _plain(request: Request, code: int, text: str) -> bytes:
    """Set a request's status; return a body in plain text."""
    octets = f"{text}\n".encode()
    request.setResponseCode(code)
    request.setHeader("Content-Type", "text/plain; charset=utf-8")
    request.setHeader("Content-Length", str(len(octets)))
    request.setHeader("Cache-Control", "no-store")
    return octets


def _describe(request: Request, linked: Linked) -> None:
    kind = linked.type
    if kind.startswith("text/") and _CHARSET.fullmatch(linked.charset):
        kind += f"; charset={linked.charset}"
    request.setHeader("Content-Type", kind)
    request.setHeader("Content-Disposition", disposition(linked.name))
    request.setHeader("Cache-Control", "private")
    request.setHeader("Expires", formatdate(linked.until, usegmt=True))


def disposition(name: str) -> str:
    """Return a Content-Disposition value (RFC 6266): the name is kept, never shown in place."""
    if not name:
        return "attachment"
    plain = _UNSAFE.sub("_", name)
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_PLAIN)}"


def _span(text: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """Return the octets asked for (RFC 9110 section 14.1.2), first and last.

    :return: none if there are no such; None if everything is to be sent: several ranges, or what
        is no range at all.
    """
    found = _RANGE.fullmatch(text.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < first:
            return None
    return (first, last) if first <= last else ()
