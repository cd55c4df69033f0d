"""What an HTTP answer means: every row of the table in ``docs/deliverers.md``."""

from __future__ import annotations

from email.utils import formatdate

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.answers import (
    ANSWERS,
    Answer,
    cloudmailin,
    seconds_to_wait,
    standard,
)
from mailsvc.errors import DestinationPaused, PermanentFailure, TransientFailure

NOW = 1_700_000_000.0


class StandardTests(SynchronousTestCase):
    def test_success(self) -> None:
        for status in (200, 201, 202, 204, 299):
            for body in (
                b"",
                b"ok",
                b"{}",
                b'{"action": "accept"}',
                b'{"action": 1}',
                b'["reject"]',
            ):
                standard(Answer(status, "application/json", body=body), NOW)

    def test_json_that_is_none_is_a_success(self) -> None:
        for body in (
            b'{"action": "reject"',
            b'{"x":' + b"[" * 60_000,
            b'{"action": "reject"}, {',
            b"{\xff}",
        ):
            standard(Answer(200, "application/json", body=body), NOW)

    def test_reject(self) -> None:
        body = b' \r\n{"action": "reject", "reply": "No  such\\r\\nproject", "more": [{}]}'
        error = self.assertRaises(PermanentFailure, standard, Answer(200, body=body), NOW)
        self.assertEqual(error.reply, "No such project")
        self.assertEqual(str(error), "the application refused the mail (answer 200, reject)")

    def test_reject_without_usable_reply(self) -> None:
        for body in (b'{"action": "reject"}', b'{"action": "reject", "reply": 5}'):
            error = self.assertRaises(PermanentFailure, standard, Answer(202, body=body), NOW)
            self.assertEqual(error.reply, "")

    def test_refusals(self) -> None:
        for status in (406, 422):
            for content_type, body, reply in (
                ("", b"", ""),
                ("text/html", b"<h1>No</h1>", ""),
                ("Text/Plain; charset=utf-8", "Nein,\n danke ü\xff ".encode(), "Nein, danke üÿ"),
                ("text/plain", b"\xff", "\ufffd"),
                ("application/json", b'{"reply": "Full"}', "Full"),
                ("application/json", b'{"error": "x"}', ""),
                ("application/json", b"[]", ""),
                ("text/plain", b"x" * 60_000, "x" * 480),
            ):
                answer = Answer(status, content_type, body=body)
                error = self.assertRaises(PermanentFailure, standard, answer, NOW)
                self.assertEqual(error.reply, reply)
                self.assertIn(str(status), str(error))

    def test_gone(self) -> None:
        self.assertRaises(DestinationPaused, standard, Answer(410), NOW)

    def test_retry_after(self) -> None:
        """Requirement 53: honoured for 429 and 503."""
        for status, expected in ((429, 120.0), (503, 120.0), (500, None), (404, None)):
            answer = Answer(status, retry_after="120")
            error = self.assertRaises(TransientFailure, standard, answer, NOW)
            self.assertEqual(error.retry_after, expected)

    def test_all_else_is_tried_again(self) -> None:
        """401, 403 and 404 are what a deploy or a wrong secret looks like."""
        for status in (
            100,
            199,
            300,
            301,
            302,
            307,
            308,
            400,
            401,
            403,
            404,
            405,
            408,
            413,
            429,
            500,
            503,
            599,
            999,
        ):
            error = self.assertRaises(
                TransientFailure, standard, Answer(status, "text/plain", body=b"x"), NOW
            )
            self.assertIsNone(error.retry_after)
            self.assertEqual(str(error), f"the answer was {status}")


class CloudMailinTests(SynchronousTestCase):
    def test_success(self) -> None:
        for status in (200, 204):
            cloudmailin(Answer(status, body=b'{"action": "reject"}'), NOW)

    def test_4xx_is_a_refusal(self) -> None:
        for status in (400, 401, 404, 410, 422, 429, 499):
            answer = Answer(status, "text/plain", body=b"go away")
            error = self.assertRaises(PermanentFailure, cloudmailin, answer, NOW)
            self.assertEqual(error.reply, "go away")

    def test_all_else_is_tried_again(self) -> None:
        for status in (199, 301, 500, 502):
            self.assertRaises(TransientFailure, cloudmailin, Answer(status), NOW)
        error = self.assertRaises(TransientFailure, cloudmailin, Answer(503, retry_after="7"), NOW)
        self.assertEqual(error.retry_after, 7)

    def test_the_words_of_the_configuration(self) -> None:
        self.assertEqual(ANSWERS, {"standard": standard, "cloudmailin": cloudmailin})


class RetryAfterTests(SynchronousTestCase):
    """RFC 9110 section 10.2.3."""

    def test_values(self) -> None:
        for text, expected in (
            ("0", 0.0),
            (" 5 ", 5.0),
            ("86400", 86_400.0),
            ("9999999999", 86_400.0),
            (formatdate(NOW + 90, usegmt=True), 90.0),
            (formatdate(NOW - 90, usegmt=True), 0.0),
            (formatdate(NOW + 10**9, usegmt=True), 86_400.0),
            ("Tuesday, 14-Nov-23 22:15:50 GMT", 150.0),
        ):
            self.assertEqual(seconds_to_wait(text, NOW), expected, text)

    def test_what_says_nothing(self) -> None:
        for text in (
            "",
            "soon",
            "-5",
            "1.5",
            "99999999999",
            "\u0663",
            "Tue, 99 Foo 2023 00:00:00 GMT",
        ):
            self.assertIsNone(seconds_to_wait(text, NOW), text)
