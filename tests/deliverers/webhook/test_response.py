"""Answers, octet by octet, and what is refused as one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.response import (
    ANSWER_LIMIT,
    FIELDS_LIMIT,
    AnswerTooLong,
    BadAnswer,
    ResponseReader,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

#: Octets, and what they say: status, body, whether the connection is kept.
WHOLE: dict[bytes, tuple[int, bytes, bool]] = {
    b"HTTP/1.1 204 No Content\r\n\r\n": (204, b"", True),
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n": (304, b"", True),
    b"HTTP/1.1 204\r\nConnection: close\r\n\r\n": (204, b"", False),
    b"HTTP/1.1 204 \r\nConnection: x, Close\r\n\r\n": (204, b"", False),
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok": (200, b"ok", False),
    OK + b"content-length:2\r\n\r\nok": (200, b"ok", True),
    OK + b"Content-Length: \t2 \r\n\r\nok": (200, b"ok", True),
    OK + b"Content-Length: 0\r\n\r\n": (200, b"", True),
    OK + b"Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n": (200, b"ok", False),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 204 x\r\n\r\n": (
        204,
        b"",
        True,
    ),
    CHUNKED + b"2\r\nok\r\n0\r\n\r\n": (200, b"ok", True),
    CHUNKED + b"1\r\no\r\n0001;a=b\r\nk\r\n0\r\nX-Sum: 1\r\n\r\n": (200, b"ok", True),
    CHUNKED + b"0\r\n\r\n": (200, b"", True),
}

#: Octets that are refused, and a part of why.
BAD: dict[bytes, str] = {
    b"220 mx.example.com ESMTP\r\n": "does not begin",
    b"HTTP/2 200\r\n\r\n": "does not begin",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n": "does not begin",
    b"HTTP/1.1 99 No\r\n\r\n": "header is malformed",
    b"HTTP/1.1 600 No\r\n\r\n": "header is malformed",
    b"HTTP/1.1  200 OK\r\n\r\n": "header is malformed",
    b"HTTP/1.1 101 Switching\r\n\r\n": "changes the protocol",
    OK + b"No colon\r\n\r\n": "header is malformed",
    OK + b"Content-Length : 2\r\n\r\nok": "header is malformed",
    OK + b" Content-Length: 2\r\n\r\nok": "header is malformed",
    OK + b"X: a\r\n folded\r\n\r\n": "header is malformed",
    OK + b"X: a\nContent-Length: 2\r\n\r\nok": "header is malformed",
    OK + b"X: a\rb\r\n\r\n": "header is malformed",
    OK + b"X: a\0b\r\n\r\n": "header is malformed",
    OK + b": a\r\n\r\n": "header is malformed",
    OK + b"X: y\r\n" * (FIELDS_LIMIT + 1) + b"\r\n": "fields",
    OK + b"Content-Length: -1\r\n\r\n": "Content-Length",
    OK + b"Content-Length: +2\r\n\r\nok": "Content-Length",
    OK + b"Content-Length: 0x2\r\n\r\nok": "Content-Length",
    OK + b"Content-Length: 2, 2\r\n\r\nok": "Content-Length",
    OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok": "Content-Length",
    OK + b"Content-Length:\r\n\r\nok": "Content-Length",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n": "Transfer-Encoding",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n": "Transfer-Encoding",
    OK + b"Transfer-Encoding: identity\r\n\r\n": "Transfer-Encoding",
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n": "Transfer-Encoding",
    OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n": "both",
    CHUNKED + b"zz\r\n": "chunk's size",
    CHUNKED + b"\r\n": "chunk's size",
    CHUNKED + b"-1\r\n": "chunk's size",
    CHUNKED + b"0x1\r\n": "chunk's size",
    CHUNKED + b"123456789\r\n": "chunk's size",
    CHUNKED + b"1\nx\r\n": "chunk's size",
    CHUNKED + b"1;" + b"x" * 2_000: "chunk's size",
    CHUNKED + b"1;" + b"x" * 2_000 + b"\r\n": "chunk's size",
    CHUNKED + b"2\r\nokay\r\n": "longer than it says",
    CHUNKED + b"0\r\nno colon\r\n": "trailer",
    CHUNKED + b"0\r\n" + b"X: y\r\n" * (FIELDS_LIMIT + 1): "trailer",
}


class ResponseReaderTests(SynchronousTestCase):
    def test_whole_answers(self) -> None:
        for octets, (status, body, keep) in WHOLE.items():
            reader = ResponseReader()
            self.assertTrue(reader.receive(octets), octets)
            self.assertEqual((reader.status, reader.body, reader.keep), (status, body, keep))
            self.assertEqual(reader.received, len(octets))

    def test_an_answer_begun_is_not_whole(self) -> None:
        for octets in WHOLE:
            if not octets.endswith(b"OK\r\n\r\n"):
                reader = ResponseReader()
                self.assertFalse(reader.receive(octets[:-1]), octets)
                self.assertFalse(reader.end())

    def test_bad_answers(self) -> None:
        for octets, why in BAD.items():
            error = self.assertRaises(BadAnswer, ResponseReader().receive, octets)
            self.assertIn(why, str(error), octets)

    def test_until_the_end(self) -> None:
        reader = ResponseReader()
        self.assertFalse(reader.receive(OK + b"\r\nun"))
        self.assertFalse(reader.receive(b"framed"))
        self.assertTrue(reader.end())
        self.assertEqual((reader.body, reader.keep), (b"unframed", False))

    def test_no_body_follows_head(self) -> None:
        reader = ResponseReader(bodiless=True)
        self.assertTrue(reader.receive(OK + b"Content-Length: 9\r\n\r\n"))
        self.assertTrue(reader.keep)

    def test_fields(self) -> None:
        reader = ResponseReader()
        reader.receive(OK + b"A: 1\r\na:\t2 \r\nB: \xe4\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(reader.values(b"a"), [b"1", b"2"])
        self.assertEqual(reader.values(b"b"), [b"\xe4"])
        self.assertEqual(reader.values(b"c"), [])

    def test_the_limit_counts_all_that_comes(self) -> None:
        """Requirement 51: 64 KiB, the header and what precedes it included."""
        head = OK + b"Content-Length: %d\r\n\r\n"
        room = ANSWER_LIMIT - len(head % 65_000)
        self.assertTrue(ResponseReader().receive(head % room + b"x" * room))
        reader = ResponseReader()
        reader.receive(head % (room + 1))
        self.assertRaises(AnswerTooLong, reader.receive, b"x" * (room + 1))
        self.assertRaises(AnswerTooLong, ResponseReader().receive, head % (ANSWER_LIMIT + 1))
        for endless in (b"HTTP/1.1 100 x\r\n\r\n", OK, b"HTTP/1.1 200 " + b"x" * 100):
            self.assertRaises(AnswerTooLong, self.feed, endless)

    def feed(self, octets: bytes) -> None:
        reader = ResponseReader()
        reader.receive(octets)
        for _ in range(ANSWER_LIMIT):
            reader.receive(octets if octets.endswith(b"\r\n\r\n") else b"X: y\r\n")

    @given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(1, 9), min_size=1, max_size=9))
    def test_any_chunking(self, octets: bytes, sizes: list[int]) -> None:
        if octets.endswith(b"OK\r\n\r\n"):
            return  # what follows the answer is no part of it
        reader = ResponseReader()
        at = turn = 0
        while at < len(octets):
            size = sizes[turn % len(sizes)]
            complete = reader.receive(octets[at : at + size])
            at += size
            turn += 1
            self.assertEqual(complete, at >= len(octets))
        self.assertEqual((reader.status, reader.body, reader.keep), WHOLE[octets])

    @given(st.sampled_from(sorted(BAD)), st.integers(1, 9))
    def test_bad_in_any_chunking(self, octets: bytes, size: int) -> None:
        reader = ResponseReader()
        with self.assertRaises(BadAnswer):
            for at in range(0, len(octets), size):
                reader.receive(octets[at : at + size])

    @given(st.binary(max_size=300))
    def test_garbage(self, octets: bytes) -> None:
        for prefix in (b"", b"HTTP/1.1 ", OK, OK + b"\r\n", CHUNKED):
            try:
                ResponseReader().receive(prefix + octets)
            except BadAnswer:
                pass
