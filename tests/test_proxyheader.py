"""The PROXY header: what is one, where it ends, and whom it names."""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.proxyheader import ProxyHeader, read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = socket.inet_aton("198.51.100.7") + socket.inet_aton("192.0.2.1") + b"\x30\x39\x00\x19"
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + b"\x30\x39\x00\x19"
)


def binary(command: int, family: int, block: bytes, version: int = 2) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + struct.pack("!BBH", version << 4 | command, family, len(block)) + block


#: Headers, and the host that each names.
GOOD: dict[bytes, str | None] = {
    b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 25\r\n": "198.51.100.7",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": "255.255.255.255",
    b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 12345 25\r\n": "2001:db8::7",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n": None,
    b"PROXY UNKNOWN whatever it is\r\n": None,
    b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n": None,
    binary(1, 0x11, V4): "198.51.100.7",
    binary(1, 0x21, V6): "2001:db8::7",
    # Extensions behind the addresses.
    binary(1, 0x11, V4 + b"\x04\x00\x03abc"): "198.51.100.7",
    binary(1, 0x11, V4.ljust(4080, b"\x04")): "198.51.100.7",
    # LOCAL, whatever follows, and what names no address.
    binary(0, 0x00, b""): None,
    binary(0, 0x11, V4): None,
    binary(0, 0xFF, b"anything"): None,
    binary(1, 0x00, b""): None,
    binary(1, 0x31, b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")): None,
}

#: What is no header, and why.
BAD: dict[bytes, str] = {
    b"EHLO client.example\r\n": "is missing",
    b"\x16\x03\x01\x02\x00\x01": "is missing",
    b"proxy TCP4 198.51.100.7 192.0.2.1 12345 25\r\n": "is missing",
    b"PROXY\tTCP4": "is missing",
    b"\r\n\r\n\x00\r\nQUIX": "is missing",
    b"PROXY \r\n": "is malformed",
    b"PROXY TCP4\r\n": "is malformed",
    b"PROXY UNKNOWNS\r\n": "is malformed",
    b"PROXY UDP4 198.51.100.7 192.0.2.1 12345 25\r\n": "is malformed",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 12345\r\n": "is malformed",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 25 more\r\n": "is malformed",
    b"PROXY TCP4  198.51.100.7 192.0.2.1 12345 25\r\n": "is malformed",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 25\n\r\n": "is malformed",
    b"PROXY TCP4 198.51.100.777 192.0.2.1 12345 25\r\n": "is malformed",
    b"PROXY TCP4 198.51.100.7 192.0.2 12345 25\r\n": "is malformed",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 12345 25\r\n": "is malformed",
    b"PROXY TCP6 198.51.100.7 192.0.2.1 12345 25\r\n": "is malformed",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::1 12345 25\r\n": "is malformed",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 65536 25\r\n": "is malformed",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 12345 99999\r\n": "is malformed",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 -1 25\r\n": "is malformed",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n": "is too long",
    b"PROXY UNKNOWN " + b"x" * 93: "is too long",
    binary(1, 0x11, V4, version=1): "is malformed",
    binary(1, 0x11, V4, version=3): "is malformed",
    binary(2, 0x11, V4): "is malformed",
    binary(1, 0x41, V4): "is malformed",
    binary(1, 0x13, V4): "is malformed",
    binary(1, 0x11, V4[:-1]): "is malformed",
    binary(1, 0x21, V4): "is malformed",
    binary(1, 0x31, V4): "is malformed",
    binary(1, 0x12, V4): "is not about TCP",
    # Refused by its announced length, before it has come.
    SIGNATURE + b"\x21\x11\xff\xff": "is too long",
    binary(1, 0x11, V4.ljust(4081, b"\x04")): "is too long",
}


class HeaderTests(SynchronousTestCase):
    """Both versions, by table."""

    def test_good(self) -> None:
        """A whole header names the client, and the octets behind it are kept."""
        for header, host in GOOD.items():
            for rest in (b"", b"EHLO x\r\n", b"\r\n\r\n", b"PROXY UNKNOWN\r\n", b"\x16\x03\x01"):
                self.assertEqual(read_header(header + rest), ProxyHeader(host, rest), header)

    def test_cut_at_every_octet(self) -> None:
        """A beginning is no header yet, and no fault."""
        for header in GOOD:
            for length in range(len(header)):
                self.assertIsNone(read_header(header[:length]), header[:length])

    def test_bad(self) -> None:
        """What is no header is said to be none, with whatever follows."""
        for octets, reason in BAD.items():
            for rest in (b"", b"EHLO x\r\n"):
                error = self.assertRaises(ValueError, read_header, octets + rest)
                self.assertEqual(str(error), reason, octets)

    def test_bounded(self) -> None:
        """No beginning is read on for ever."""
        for start in (b"PROXY TCP4 ", b"PROXY UNKNOWN "):
            self.assertIsNone(read_header(start.ljust(106, b"1")))
            self.assertRaises(ValueError, read_header, start.ljust(107, b"1"))
