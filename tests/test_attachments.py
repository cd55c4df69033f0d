"""What is served by HTTP to whoever has a link, and to whoever has none."""

from __future__ import annotations

import base64
from collections.abc import Callable
from hashlib import sha256
from typing import Any, ParamSpec, TypeVar

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mailsvc import web
from mailsvc.attachments import AttachmentPage, disposition
from mailsvc.errors import SpoolError
from mailsvc.events import Event
from mailsvc.interfaces import IContent
from mailsvc.links import Links
from mailsvc.parsed import Attachment
from mailsvc.secretfile import Secret
from mailsvc.testing import DamagedContent, MemoryContent
from mailsvc.web import BoundedSite

P = ParamSpec("P")
T = TypeVar("T")

HTML = b"<script>alert(1)</script>" * 20_000
ENCODED = base64.encodebytes(HTML)
MAIL = b"Subject: x\r\n\r\n" + ENCODED + b"\r\n--b--\r\n"


class Wire(StringTransport):
    """A connection that says when it was broken off."""

    aborted = False
    full = False

    def write(self, data: bytes) -> None:
        """Ask for no more, if it is full."""
        transport: Any = super()
        transport.write(data)
        producer: Any = self.producer
        if self.full and producer is not None:
            producer.pauseProducing()

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True
        self.loseConnection()


class Spool:
    """Has one message."""

    def __init__(self) -> None:
        self.content: IContent = MemoryContent(MAIL)

    async def open(self, message_id: str) -> IContent:
        """Return the content."""
        if message_id != "01HK":
            raise SpoolError("there is none such")
        return self.content


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.spool = Spool()
        self.events: list[Event] = []
        self.links = Links(
            "https://mx.example.com", [Secret("whsec_eA")], 600, self.clock.seconds, self.retain
        )
        spool: Any = self.spool
        page = AttachmentPage(self.links, spool, self.in_thread, self.clock, self.events.append)
        self.site = BoundedSite(page, self.clock)
        self.site.doStart()

    def readers(self) -> list[Any]:
        content: Any = self.spool.content
        return list(content.readers)

    async def retain(self, message_id: str, until: float) -> bool:
        return True

    async def in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    def path(self, name: str = "a.html", message_id: str = "01HK", **other: Any) -> str:  # noqa: ANN401
        values: dict[str, Any] = {"end": 14 + len(ENCODED), "kind": "text/html", **other}
        attachment = Attachment(
            name, values["kind"], "utf-8", "inline", "", HTML, 14, values["end"], "base64"
        )
        url = self.links.url(message_id, attachment)
        return url.removeprefix("https://mx.example.com")

    def connect(self) -> tuple[Any, Wire]:
        channel = self.site.buildProtocol(None)
        wire = Wire()
        channel.makeConnection(wire)
        return channel, wire

    def ask(
        self, path: str, *fields: str, method: str = "GET"
    ) -> tuple[str, dict[str, str], bytes]:
        """Return status, header fields by lower-case name, and body."""
        channel, wire = self.connect()
        lines = [f"{method} {path} HTTP/1.1", "Host: mx.example.com", *fields, "", ""]
        channel.dataReceived("\r\n".join(lines).encode())
        for _ in range(100):
            # As a transport does whose buffer is empty again.
            producer: Any = wire.producer
            if wire.producerState == "paused":
                producer.resumeProducing()
        self.assertTrue(wire.disconnecting)
        head, _, body = wire.value().partition(b"\r\n\r\n")
        status, *rest = head.decode().split("\r\n")
        return status[9:], {k.lower(): v for k, v in (r.split(": ", 1) for r in rest)}, body


class PageTests(Case):
    def test_the_attachment_and_nothing_but_a_download(self) -> None:
        """Requirement 55: no attachment is ever shown in place."""
        status, fields, body = self.ask(self.path())
        self.assertEqual((status, body), ("200 OK", HTML))
        self.assertEqual(fields["content-type"], "text/html; charset=utf-8")
        self.assertEqual(fields["content-disposition"], 'attachment; filename="a.html"')
        self.assertEqual(fields["x-content-type-options"], "nosniff")
        self.assertEqual(fields["content-security-policy"], "sandbox; default-src 'none'")
        self.assertEqual(fields["referrer-policy"], "no-referrer")
        self.assertEqual(fields["content-length"], str(len(HTML)))
        self.assertEqual(fields["etag"], f'"{sha256(HTML).hexdigest()}"')
        self.assertEqual(fields["server"], "mailsvc")
        self.assertEqual(fields["connection"], "close")
        self.assertTrue(all(reader.closed for reader in self.readers()))

    def test_head_reads_nothing(self) -> None:
        status, fields, body = self.ask(self.path(), method="HEAD")
        self.assertEqual((status, body), ("200 OK", b""))
        self.assertEqual(fields["content-length"], str(len(HTML)))
        self.assertEqual(self.readers(), [])

    def test_what_is_refused(self) -> None:
        path = self.path()
        for method, asked, status in (
            ("GET", "/", "404"),
            ("GET", "/attachments/", "403"),
            ("GET", path[:-1], "403"),
            ("GET", path.replace("/attachments/", "/attachments/A"), "403"),
            ("GET", self.path(message_id="gone"), "404"),
            ("POST", path, "405"),
            ("DELETE", path, "405"),
        ):
            answer, fields, body = self.ask(asked, method=method)
            self.assertEqual(answer[:3], status, asked)
            self.assertEqual(fields["content-type"], "text/plain; charset=utf-8")
            self.assertEqual(fields["x-content-type-options"], "nosniff")
            self.assertNotIn(b"<", body)
        self.clock.advance(601)
        self.assertEqual(self.ask(path)[0][:3], "410")
        self.assertEqual(self.events, [])

    def test_ranges(self) -> None:
        path, size = self.path(), len(HTML)
        for asked, first, last in (
            ("bytes=0-0", 0, 0),
            ("bytes=100000-", 100_000, size - 1),
            ("bytes=-7", size - 7, size - 1),
            ("bytes=70000-70010", 70_000, 70_010),
            (f"bytes=5-{size + 9}", 5, size - 1),
        ):
            status, fields, body = self.ask(path, f"Range: {asked}")
            self.assertEqual(status[:3], "206")
            self.assertEqual(fields["content-range"], f"bytes {first}-{last}/{size}")
            self.assertEqual(body, HTML[first : last + 1])
        for asked in (f"bytes={size}-", "bytes=-0"):
            status, fields, _ = self.ask(path, f"Range: {asked}")
            self.assertEqual((status[:3], fields["content-range"]), ("416", f"bytes */{size}"))
        for asked in ("bytes=9-5", "bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=x-"):
            self.assertEqual(self.ask(path, f"Range: {asked}")[0][:3], "200")
        self.assertEqual(self.ask(path, "Range: bytes=0-0", 'If-Range: "other"')[0][:3], "200")

    def test_what_the_reader_has_already(self) -> None:
        tag = sha256(HTML).hexdigest()
        status, _, body = self.ask(self.path(), f'If-None-Match: "{tag}"')
        self.assertEqual((status[:3], body), ("304", b""))

    def test_content_that_cannot_be_read(self) -> None:
        self.spool.content = DamagedContent()
        self.assertEqual(self.ask(self.path())[0][:3], "503")

    def test_content_that_is_too_short(self) -> None:
        """The length was promised: the connection is broken off."""
        channel, wire = self.connect()
        path = self.path(end=9000)
        channel.dataReceived(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.assertTrue(wire.aborted)

    def test_names(self) -> None:
        """RFC 6266 and RFC 8187: nothing that a name holds gets out of its parameter."""
        for name, value in (
            ("", "attachment"),
            ("a b-(1).pdf", 'attachment; filename="a b-(1).pdf"'),
            ("Ü.pdf", "attachment; filename=\"_.pdf\"; filename*=UTF-8''%C3%9C.pdf"),
            (
                'a"; x="\r\nSet-Cookie: b',
                "attachment; filename=\"a__ x____Set-Cookie_ b\"; filename*=UTF-8''"
                "a%22%3B%20x%3D%22%0D%0ASet-Cookie%3A%20b",
            ),
            (
                "100%'*.txt",
                "attachment; filename=\"100___.txt\"; filename*=UTF-8''100%25%27%2A.txt",
            ),
        ):
            self.assertEqual(disposition(name), value)


class BoundsTests(Case):
    """Requirement 41's bounds, for HTTP."""

    def test_a_request_that_does_not_come(self) -> None:
        channel, wire = self.connect()
        for _ in range(4):
            self.assertFalse(wire.aborted)
            channel.dataReceived(b"GET /")
            self.clock.advance(web.REQUEST_SECONDS / 4)
        self.assertTrue(wire.aborted)

    def test_a_body_is_not_kept(self) -> None:
        channel, wire = self.connect()
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            self.assertFalse(wire.aborted)
            channel.dataReceived(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        self.assertTrue(wire.aborted)

    def test_a_reader_that_does_not_read(self) -> None:
        channel, wire = self.connect()
        channel.dataReceived(f"GET {self.path()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        # It has what the transport could take; more waits.
        channel.pauseProducing()
        self.clock.advance(web.READ_SECONDS + 1)
        self.assertTrue(wire.aborted)
        channel.connectionLost(self.lost())
        self.assertTrue(all(reader.closed for reader in self.readers()))

    def test_a_slow_reader_is_given_what_it_takes(self) -> None:
        channel, wire = self.connect()
        wire.full = True
        channel.dataReceived(f"GET {self.path()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for times in (1, 2):
            self.assertLess(len(wire.value()), (times + 1) * 65_536)
            self.clock.advance(web.READ_SECONDS - 1)
            self.assertFalse(wire.aborted)
            channel.resumeProducing()
        self.clock.advance(web.READ_SECONDS + 1)
        self.assertTrue(wire.aborted)
        channel.connectionLost(self.lost())
        self.assertTrue(all(reader.closed for reader in self.readers()))
        self.assertEqual(self.events, [])

    def lost(self) -> Any:  # noqa: ANN401
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        return Failure(ConnectionLost())

    def test_connections_are_counted(self) -> None:
        made = [self.connect()[0] for _ in range(web.CONNECTIONS)]
        self.assertIsNone(self.site.buildProtocol(None))
        made.pop().connectionLost(self.lost())
        self.assertIsNotNone(self.site.buildProtocol(None))
        self.site.abort()
        self.assertTrue(all(each.transport.aborted for each in made))
