"""The notifications that are written, read again by the standard library."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import Message

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.dsn import FULL, Report, one_line, write
from mailsvc.message import Address, Delivery, Envelope, Recipient, Route

ORIGINAL = (
    b"From: ann@sender.example\r\nSubject: x\r\nMessage-ID:\r\n <1@sender.example>\r\n"
    b"\r\nThe body.\r\n"
)


def report() -> Report:
    """Return a failure with a reply."""
    recipient = Recipient(
        Address("bob", "example.com"), Route("*", ("app",)), ("FAILURE",), "rfc822;Bob@example.com"
    )
    envelope = Envelope(
        "m1", 1_000_000.0, Address("ann", "sender.example"), (recipient,), envid="QQ314159"
    )
    return Report(
        "failed",
        Delivery("m1-1", envelope, recipient, "app", 1, len(ORIGINAL)),
        "5.0.0",
        1_000_060.0,
        "550 5.1.1 No such user",
    )


def sent(ret: str) -> Report:
    """Return the report of a message whose envelope differs."""
    base = report()
    envelope = structs.replace(base.delivery.envelope, ret=ret)
    return replace(base, delivery=structs.replace(base.delivery, envelope=envelope))


def written(of: Report, original: bytes = ORIGINAL) -> Message:
    """Return a notification as the standard library reads it."""
    octets = write(of, original, "n1", "b0undary", "mx.example.com")
    return message_from_bytes(octets, policy=policy.compat32)


def parts(mail: Message) -> list[Message]:
    """Return the three parts."""
    payload = mail.get_payload()
    assert isinstance(payload, list)
    return [each for each in payload if isinstance(each, Message)]


def blocks(part: Message) -> list[Message]:
    """Return the groups of fields of the part for programs."""
    return parts(part)


class WriterTests(SynchronousTestCase):
    """Requirement 39: notifications as RFC 3464 has them."""

    def test_header(self) -> None:
        mail = written(report())
        self.assertEqual(mail.get_content_type(), "multipart/report")
        self.assertEqual(mail.get_param("report-type"), "delivery-status")
        self.assertEqual(mail["To"], "<ann@sender.example>")
        self.assertEqual(mail["From"], "Mail delivery <postmaster@mx.example.com>")
        self.assertEqual(mail["Message-ID"], "<n1@mx.example.com>")
        self.assertEqual(mail["References"], "<1@sender.example>")
        self.assertEqual(mail["Auto-Submitted"], "auto-replied")
        self.assertEqual(mail["Date"], "Mon, 12 Jan 1970 13:47:40 +0000")

    def test_fields_of_a_failure(self) -> None:
        message, recipient = blocks(parts(written(report()))[1])
        self.assertEqual(
            message.items(),
            [
                ("Original-Envelope-Id", "QQ314159"),
                ("Reporting-MTA", "dns; mx.example.com"),
                ("Arrival-Date", "Mon, 12 Jan 1970 13:46:40 +0000"),
            ],
        )
        self.assertEqual(
            recipient.items(),
            [
                ("Original-Recipient", "rfc822; Bob@example.com"),
                ("Final-Recipient", "rfc822; bob@example.com"),
                ("Action", "failed"),
                ("Status", "5.1.1"),
                ("Diagnostic-Code", "smtp; 550 5.1.1 No such user"),
                ("Last-Attempt-Date", "Mon, 12 Jan 1970 13:47:40 +0000"),
            ],
        )

    def test_a_delay_says_until_when(self) -> None:
        late = replace(
            report(), action="delayed", status="4.0.0", reply="", retry_until=1_003_600.0
        )
        fields = blocks(parts(written(late))[1])[1]
        self.assertEqual(fields["Action"], "delayed")
        self.assertEqual(fields["Status"], "4.0.0")
        self.assertEqual(fields["Will-Retry-Until"], "Mon, 12 Jan 1970 14:46:40 +0000")
        self.assertNotIn("Diagnostic-Code", fields)

    def test_an_answer_that_is_no_smtp_reply_is_of_another_type(self) -> None:
        fields = blocks(parts(written(replace(report(), reply="Bob left in May")))[1])[1]
        self.assertEqual(fields["Diagnostic-Code"], "x-mailsvc; Bob left in May")
        self.assertEqual(fields["Status"], "5.0.0")

    def test_the_header_comes_back(self) -> None:
        part = parts(written(report()))[2]
        self.assertEqual(part.get_content_type(), "text/rfc822-headers")
        self.assertNotIn("The body", part.as_string())
        self.assertIn("Subject: x", part.as_string())

    def test_ret_full_brings_the_message_back(self) -> None:
        part = parts(written(sent("FULL")))[2]
        self.assertEqual(part.get_content_type(), "message/rfc822")
        self.assertIn("The body.", part.as_string())

    def test_ret_full_is_about_failures_and_small_messages_of_lines(self) -> None:
        full = sent("FULL")
        self.assertTrue(full.wants_all)
        self.assertFalse(replace(full, action="delivered").wants_all)
        large = replace(full, delivery=structs.replace(full.delivery, size=FULL + 1))
        self.assertFalse(large.wants_all)
        for content in (b"\r\n\r\na\nb\r\n", b"\r\n\r\n" + b"x" * 999 + b"\r\n"):
            part = parts(written(full, b"Subject: x" + content))[2]
            self.assertEqual(part.get_content_type(), "text/rfc822-headers")

    def test_no_line_of_a_returned_header_is_too_long(self) -> None:
        octets = write(
            report(), b"X: " + b"\xe9" * 80_000 + b"\r\n\r\n", "n", "b", "mx.example.com"
        )
        self.assertLessEqual(max(len(line) for line in octets.split(b"\r\n")), 998)

    def test_an_international_address_makes_it_global(self) -> None:
        base = report()
        address = Address("jürgen", "example.com")
        recipient = structs.replace(
            base.delivery.recipient, address=address, orcpt="utf-8;jürgen@x"
        )
        mail = written(replace(base, delivery=structs.replace(base.delivery, recipient=recipient)))
        kinds = [part.get_content_type() for part in parts(mail)]
        self.assertEqual(
            kinds, ["text/plain", "message/global-delivery-status", "message/global-headers"]
        )
        octets = write(
            replace(base, delivery=structs.replace(base.delivery, recipient=recipient)),
            ORIGINAL,
            "n1",
            "b",
            "mx.example.com",
        )
        self.assertIn("Final-Recipient: utf-8; jürgen@example.com\r\n".encode(), octets)
        self.assertIn("Original-Recipient: utf-8; jürgen@x\r\n".encode(), octets)

    def test_an_international_original_recipient_is_xtext_elsewhere(self) -> None:
        base = report()
        recipient = structs.replace(base.delivery.recipient, orcpt="utf-8;jürgen@x")
        mail = written(replace(base, delivery=structs.replace(base.delivery, recipient=recipient)))
        fields = blocks(parts(mail)[1])[1]
        self.assertEqual(fields["Original-Recipient"], "utf-8; j\\x{FC}rgen@x")

    def test_a_bare_postmaster_gets_the_hostname(self) -> None:
        base = report()
        recipient = structs.replace(
            base.delivery.recipient, address=Address("postmaster", ""), orcpt=""
        )
        mail = written(replace(base, delivery=structs.replace(base.delivery, recipient=recipient)))
        fields = blocks(parts(mail)[1])[1]
        self.assertEqual(fields["Final-Recipient"], "rfc822; postmaster@mx.example.com")
        self.assertNotIn("Original-Recipient", fields)


class InjectionTests(SynchronousTestCase):
    """Requirements 39 and 45: what peers say stays within its field."""

    @given(
        st.text(max_size=80),
        st.text(max_size=80),
        st.text(max_size=80),
        st.text(max_size=80),
        st.booleans(),
    )
    def test_nothing_adds_a_line(
        self, local: str, orcpt: str, envid: str, reply: str, utf8: bool
    ) -> None:
        plain = report()
        recipient = structs.replace(
            plain.delivery.recipient, address=Address(local, "x.example"), orcpt=f"rfc822;{orcpt}"
        )
        envelope = structs.replace(
            plain.delivery.envelope,
            reverse_path=Address(local, "y.example"),
            envid=f"e{envid}",
            smtputf8=utf8,
        )
        delivery = structs.replace(plain.delivery, envelope=envelope, recipient=recipient)
        hostile = replace(plain, delivery=delivery, reply=f"550 5.1.1 {reply}")
        expected = write(plain, ORIGINAL, "n1", "b", "mx.example.com").split(b"\r\n")
        found = write(hostile, ORIGINAL, "n1", "b", "mx.example.com").split(b"\r\n")
        names = [line.partition(b":")[0] for line in found if b": " in line[:30]]
        before = [line.partition(b":")[0] for line in expected if b": " in line[:30]]
        extra = hostile.international  # the status part says how it is encoded
        self.assertEqual(len(found), len(expected) + extra)
        self.assertEqual(names.count(b"To"), before.count(b"To"))
        self.assertNotIn(b"\n", b"".join(found))
        self.assertNotIn(b"\r", b"".join(found))

    def test_one_line(self) -> None:
        self.assertEqual(one_line("a\r\nBcc: b\u2028é", utf8=False), "a??Bcc: b??")
        self.assertEqual(one_line("a\x00é", utf8=True), "a?é")
