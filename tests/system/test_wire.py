"""Raw octets on real connections, as no well-behaved client would send them."""

from __future__ import annotations

import re
import socket
import ssl
import struct

from tests.system import configurations, mails
from tests.system.harness import DEADLINE, Server, SystemTestCase, maildir_files
from tests.system.secure import SecureTestCase

ENVELOPE = b"MAIL FROM:<ann@sender.example>\r\nRCPT TO:<bob@example.com>\r\n"
SMUGGLED = (
    b"MAIL FROM:<evil@sender.example>\r\nRCPT TO:<eve@example.com>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nyes\r\n.\r\n"
)
_ID = re.compile(rb"OK \w+")


class Wire:
    """A plain socket and what it reads.

    :param source: the address that it comes from.
    """

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, octets: bytes, size: int = 0) -> None:
        """Send, in segments of ``size`` octets; 0: in one."""
        step = size or len(octets) or 1
        for start in range(0, len(octets), step):
            self.socket.sendall(octets[start : start + step])

    def until(self, end: bytes) -> bytes:
        """Return what comes up to and with ``end``."""
        got = b""
        while not got.endswith(end):
            octet = self.socket.recv(1)
            if not octet:
                raise AssertionError(f"closed after {got!r}")
            got += octet
        return got

    def rest(self) -> bytes:
        """Return what comes until the server closes."""
        got = b""
        while octets := self.socket.recv(65_536):
            got += octets
        return got


class PlainTests(SystemTestCase):
    """Without TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.running: Server = self.configured(
            configurations.maildir(self.directory, limits="bad_commands = 100")
        )

    def wire(self) -> Wire:
        wire = Wire(self.running.port)
        self.addCleanup(wire.socket.close)
        return wire

    def test_segments(self) -> None:
        """Requirements 1 and 2: pipelined in one segment, or each octet in one of its own."""
        conversation = (
            b"EHLO client.example\r\nVRFY bob\r\n"
            b"%bDATA\r\nSubject: one\r\n\r\n..\r\n.\r\n"
            b"%bBDAT 14\r\nSubject: two\r\nBDAT 5 LAST\r\n\r\nb\r\n"
            b"what\r\nMAIL FROM:<>\r\nRSET\r\nHELP AUTH\r\nQUIT\r\nNOOP\r\n"
        ) % (ENVELOPE, ENVELOPE)
        answers = []
        for size in (0, 1, 7):
            wire = self.wire()
            wire.send(conversation, size)
            answers.append(_ID.sub(b"OK id", wire.rest()))
        self.assertEqual(answers[1], answers[0])
        self.assertEqual(answers[2], answers[0])
        codes = [line[:3] for line in answers[0].splitlines() if line[3:4] == b" "]
        self.assertEqual(
            b" ".join(codes).decode(),
            "220 250 252 250 250 354 250 250 250 250 250 500 250 250 214 221",
        )
        filed = [mails.without_trace(each) for each in self.in_maildir(6)]
        self.assertEqual(sorted(filed), [b"Subject: one\n\n.\n"] * 3 + [b"Subject: two\n\nb\n"] * 3)

    def test_nothing_is_smuggled(self) -> None:
        """Requirement 4: what looks like an end is none, and the mail that has it is refused."""
        ends = (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n")
        for end in ends:
            for size in (0, 1):
                wire = self.wire()
                wire.send(b"EHLO client.example\r\n" + ENVELOPE + b"DATA\r\n")
                wire.until(b"<CRLF>.<CRLF>\r\n")
                wire.send(b"Subject: x\r\n\r\nbody" + end + SMUGGLED + b"QUIT\r\n", size)
                refused, bye, nothing = wire.rest().split(b"\r\n")
                self.assertTrue(refused.startswith(b"554 5.6.0 "), (end, refused))
                self.assertTrue(bye.startswith(b"221 "), (end, bye))
                self.assertEqual(nothing, b"")
        self.running.stop()
        self.assertEqual(list(maildir_files(self.directory / "maildir")), [])

    def test_a_bare_newline_in_a_command(self) -> None:
        """Requirement 3: one 500, and nothing behind it is read."""
        for line in (b"NOOP\n", b"NO\rOP\r\n", b"NOOP\r\r\n", b"\n"):
            wire = self.wire()
            wire.send(b"EHLO client.example\r\n" + line + ENVELOPE)
            last = wire.rest().split(b"\r\n")[-2]
            self.assertTrue(last.startswith(b"500 5.5.2 "), last)

    def test_ends_within_content(self) -> None:
        """Requirement 37: FIN, half-close and RST before the end deliver nothing."""

        def close(sock: socket.socket) -> None:
            sock.close()

        def half(sock: socket.socket) -> None:
            sock.shutdown(socket.SHUT_WR)
            self.assertNotIn(b"250", sock.recv(1000))

        def reset(sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

        for end in (close, half, reset):
            for command, answer in (
                (b"DATA\r\n", b"<CRLF>.<CRLF>\r\n"),
                (b"BDAT 3\r\nA: ", b"3 octets received\r\n"),
            ):
                wire = self.wire()
                wire.send(b"EHLO client.example\r\n" + ENVELOPE + command)
                wire.until(answer)
                wire.send(b"BDAT 9 LAST\r\nA: b\r\n" if b"BDAT" in command else b"A: b\r\n\r\n.\r")
                end(wire.socket)
        self.running.stop()
        self.assertEqual(list(maildir_files(self.directory / "maildir")), [])


class StartTlsTests(SecureTestCase):
    """The border between clear and TLS."""

    def wire(self) -> Wire:
        wire = Wire(self.mx)
        self.addCleanup(wire.socket.close)
        wire.until(b"\r\n")
        return wire

    def test_residue(self) -> None:
        """Requirement 26: what stands behind STARTTLS is never taken as said under TLS."""
        for size in (0, 1):
            wire = self.wire()
            wire.send(b"EHLO client.example\r\n")
            wire.until(b"250 HELP\r\n")
            if size:
                # The first octet of the residue alone, so that it is in the same segment.
                wire.send(b"STARTTLS\r\nR")
            else:
                wire.send(b"STARTTLS\r\nRSET\r\n" + ENVELOPE)
            self.assertTrue(wire.rest().startswith(b"554 5.5.1 "))

    def test_clear_text_after_the_220(self) -> None:
        """Requirements 26 and 28: it is no handshake, and the connection ends."""
        wire = self.wire()
        wire.send(b"EHLO client.example\r\nSTARTTLS\r\n")
        wire.until(b"Ready to start TLS\r\n")
        wire.send(b"EHLO client.example\r\n" + ENVELOPE)
        try:
            answer = wire.rest()
        except ConnectionResetError:
            answer = b""
        # At the most an alert of TLS.
        self.assertNotIn(b"250", answer)

    def test_nothing_is_remembered(self) -> None:
        """Requirement 27: greeting and envelope are forgotten; STARTTLS again is 503."""
        wire = self.wire()
        wire.send(b"EHLO client.example\r\n" + ENVELOPE + b"STARTTLS\r\n")
        wire.until(b"Ready to start TLS\r\n")
        context = ssl.create_default_context(cafile=self.trust)
        wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost")
        self.addCleanup(wire.socket.close)
        wire.send(
            b"MAIL FROM:<ann@sender.example>\r\nDATA\r\nEHLO client.example\r\nDATA\r\nSTARTTLS\r\n"
            b"QUIT\r\n"
        )
        answer = wire.rest()
        self.assertNotIn(b"STARTTLS\r\n", answer)
        codes = [line[:3] for line in answer.splitlines() if line[3:4] == b" "]
        self.assertEqual(b" ".join(codes).decode(), "503 503 250 503 503 221")
