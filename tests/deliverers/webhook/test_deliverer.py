"""The webhook destination as the configuration makes it."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime
from typing import Any, BinaryIO
from unittest import mock

import msgspec
from standardwebhooks import Webhook as Verifier
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import RequestGenerationFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from twisted.web.server import Request
from zope.interface import implementer

from mailsvc.deliverers.options import WebhookOptions
from mailsvc.deliverers.webhook import deliverer as module
from mailsvc.deliverers.webhook.answers import standard
from mailsvc.deliverers.webhook.deliverer import Webhook, make_requests
from mailsvc.deliverers.webhook.formats import FORMATS
from mailsvc.deliverers.webhook.payload import FormatOptions, Payload, Stream
from mailsvc.deliverers.webhook.transport import Transport
from mailsvc.errors import ConfigError, PermanentFailure, SpoolError, TransientFailure
from mailsvc.events import Alert
from mailsvc.interfaces import IContent, IDeliverer
from mailsvc.links import Links
from mailsvc.message import Delivery
from mailsvc.parsed import Attachment, ParsedMail
from mailsvc.secretfile import Secret
from mailsvc.testing import (
    MAIL,
    DamagedContent,
    DelivererContract,
    FakeContext,
    MemoryContent,
    make_delivery,
    started,
)
from mailsvc.units import convert_unit
from tests.deliverers.webhook.servers import Receiver, ServerCase

OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()


@implementer(IAgent)
class At:
    """An agent that asks another for one URL only, as the client below a transport does."""

    def __init__(self, agent: IAgent, url: bytes) -> None:
        self._agent = agent
        self._url = url

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        answer: Deferred[IResponse] = self._agent.request(method, self._url, headers, bodyProducer)
        return answer.addErrback(_cause)


def _cause(failure: Failure) -> Failure:
    """Return what an error of the in-memory agent is about."""
    failure.trap(RequestGenerationFailed)
    error: Any = failure.value
    cause: Failure = error.reasons[0]
    return cause


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.context = FakeContext()
        self.receiver = Receiver()

    def options(self, **keys: object) -> WebhookOptions:
        section = {"url": "http://app.example.com/in", "format": "raw", **keys}
        options: WebhookOptions = msgspec.convert(section, WebhookOptions, dec_hook=convert_unit)
        return options

    def secret(self, text: str, mode: int = 0o600) -> str:
        path: str = os.path.abspath(self.mktemp())
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def webhook(self, **keys: object) -> Webhook:
        options = self.options(**keys)
        traversing: Any = RequestTraversalAgent
        agent = traversing(self.receiver)
        transport = Transport(self.context.reactor, At(agent, options.url.encode()))
        return Webhook(self.context, make_requests(options, self.context), transport, standard)

    def deliver(self, webhook: Webhook, octets: bytes = MAIL, attempt: int = 1) -> None:
        delivery = make_delivery(size=len(octets), attempt=attempt)
        self.successResultOf(started(webhook.deliver(delivery, MemoryContent(octets))))


class RequestTests(Case):
    def test_signed_over_the_exact_octets(self) -> None:
        """Requirement 52: both keys are in force during a rotation."""
        webhook = self.webhook(secret_file=self.secret(f"{NEW}\n{OLD}\n"))
        for octets in (MAIL, b"", b'{"json": "\xc3\xa4"}'):
            self.receiver.requests.clear()
            self.deliver(webhook, octets)
            (request,) = self.receiver.requests
            self.assertEqual(request.body, octets)
            entries = request.headers["webhook-signature"].split(" ")
            moment = datetime.fromtimestamp(0, UTC)
            for secret, entry in zip((NEW, OLD), entries, strict=True):
                verifier = Verifier(secret)
                expected = verifier.sign(
                    request.headers["webhook-id"], moment, octets.decode("utf-8")
                )
                self.assertEqual(entry, expected)

    def test_the_same_id_and_a_fresh_time_on_every_attempt(self) -> None:
        """Requirement 52."""
        webhook = self.webhook(secret_file=self.secret(NEW))
        for attempt in (1, 2):
            self.context.reactor.advance(100)
            self.deliver(webhook, attempt=attempt)
        one, two = (request.headers for request in self.receiver.requests)
        self.assertEqual(one["webhook-id"], "0001HZX9-1")
        self.assertEqual(two["webhook-id"], "0001HZX9-1")
        self.assertEqual((one["webhook-timestamp"], two["webhook-timestamp"]), ("100", "200"))
        self.assertNotEqual(one["webhook-signature"], two["webhook-signature"])

    def test_a_large_stream_is_signed_and_sent_alike(self) -> None:
        webhook = self.webhook(secret_file=self.secret(NEW))
        octets = b"0123456789abcdef" * 40_000
        self.deliver(webhook, octets)
        (request,) = self.receiver.requests
        self.assertEqual(request.body, octets)
        expected = Verifier(NEW).sign("0001HZX9-1", datetime.fromtimestamp(0, UTC), octets.decode())
        self.assertEqual(request.headers["webhook-signature"], expected)

    def test_the_content_of_a_link_is_kept_before_the_link_is_sent(self) -> None:
        kept: list[tuple[str, int]] = []

        async def retain(message_id: str, until: float) -> bool:
            kept.append((message_id, len(self.receiver.requests)))
            return True

        seconds = self.context.reactor.seconds
        self.context.links = Links("https://mx.example.com", (Secret(NEW),), 60, seconds, retain)
        self.context.mail = ParsedMail(
            attachments=(
                Attachment("a", "text/x", "", "attachment", "", b"x" * 9, 1, 10),
                Attachment("b", "text/x", "", "attachment", "", b"x" * 8, 11, 19),
            )
        )
        webhook = self.webhook(format="mailsvc", inline_limit="8 B")
        self.deliver(webhook)
        (request,) = self.receiver.requests
        large, small = msgspec.json.decode(request.body)["attachments"]
        self.assertEqual(self.context.links.follow(large["url"]).end, 10)
        self.assertEqual((large["content"], small["url"]), (None, None))
        self.assertEqual(kept, [("0001HZX9", 0)])
        # Where nothing is linked, nothing has to be kept.
        self.deliver(self.webhook(format="mailsvc", inline_limit="9 B"))
        self.assertEqual(len(kept), 1)

    def test_basic_authentication(self) -> None:
        for keys, pair in (
            ({}, "actionmailbox:pässword"),
            ({"username": "ada"}, "ada:pässword"),
        ):
            webhook = self.webhook(password_file=self.secret("pässword\nolder\n"), **keys)
            self.deliver(webhook)
            header = self.receiver.requests.pop().headers["authorization"]
            self.assertEqual(header, "Basic " + base64.b64encode(pair.encode()).decode())

    def test_a_secret_of_another_form_signs_nothing(self) -> None:
        """It is the format's own, such as Mailgun's signing key."""
        self.deliver(self.webhook(secret_file=self.secret("key-3ax6xnjp29jd6fds4gc373sgvjxteol0")))
        self.assertNotIn("webhook-signature", self.receiver.requests[0].headers)

    def test_further_headers(self) -> None:
        self.deliver(self.webhook(headers={"X-Team": "support desk"}))
        self.assertEqual(self.receiver.requests[0].headers["x-team"], "support desk")

    def test_a_format_that_wants_the_mail_is_given_it(self) -> None:
        mails: list[ParsedMail | None] = []

        class Subject:
            name = "subject"
            wants_mail = True

            def payload(
                self,
                delivery: Delivery,
                content: IContent,
                mail: ParsedMail | None,
                options: FormatOptions,
            ) -> Payload:
                mails.append(mail)
                return Payload("text/plain", Stream(b"mail: ", content), (("X-Format", "s"),))

        self.patch(module, "FORMATS", {"subject": Subject()})
        self.deliver(self.webhook(format="subject"))
        self.assertEqual(mails, [self.context.mail])
        (request,) = self.receiver.requests
        self.assertEqual(request.body, b"mail: " + MAIL)
        self.assertEqual(request.headers["content-type"], "text/plain")
        self.assertEqual(request.headers["x-format"], "s")


class OutcomeTests(Case):
    def outcome(self, status: int, body: bytes = b"") -> Exception:
        def answering(request: Request) -> bytes:
            request.setResponseCode(status)
            return body

        self.receiver.answering = answering
        attempt = started(self.webhook().deliver(make_delivery(), MemoryContent()))
        error: Exception = self.failureResultOf(attempt).value
        return error

    def test_answers_are_outcomes(self) -> None:
        self.assertIsInstance(self.outcome(500), TransientFailure)
        refused = self.outcome(200, b'{"action": "reject", "reply": "no"}')
        assert isinstance(refused, PermanentFailure)
        self.assertEqual(refused.reply, "no")

    def test_damaged_content(self) -> None:
        attempt = started(self.webhook().deliver(make_delivery(), DamagedContent()))
        self.failureResultOf(attempt, SpoolError)
        self.assertEqual(self.receiver.requests, [])

    def test_content_that_is_damaged_when_it_is_sent(self) -> None:
        """The dispatcher is told what it was, and not that the request failed."""
        content = MemoryContent(b"x" * 1_000_000)
        first = content.open()
        webhook = self.webhook(secret_file=self.secret(NEW))
        readers = iter((first,))

        def once() -> BinaryIO:
            for reader in readers:
                return reader
            raise SpoolError("the content's checksum is wrong")

        self.patch(content, "open", once)
        attempt = started(webhook.deliver(make_delivery(size=content.size), content))
        self.failureResultOf(attempt, SpoolError)

    def test_there_may_be_nothing_to_close(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.webhook().close()))


class OptionsTests(Case):
    def refused(self, **keys: object) -> str:
        error = self.assertRaises(
            ConfigError, Webhook.from_options, self.options(**keys), self.context
        )
        return str(error)

    def test_a_section_that_works(self) -> None:
        webhook = Webhook.from_options(
            self.options(url="https://app.example.com/", secret_file=self.secret(NEW)), self.context
        )
        self.assertTrue(IDeliverer.providedBy(webhook))
        self.assertEqual(self.context.events, [])

    def test_secrets_from_everywhere(self) -> None:
        credentials, name = os.path.split(self.secret(NEW))
        environment = {"APP": NEW, "CREDENTIALS_DIRECTORY": credentials}
        for keys in ({"secret_env": "APP"}, {"secret_credential": name}):
            with mock.patch.dict(os.environ, environment):
                requests = make_requests(self.options(**keys), self.context)
            self.assertEqual(len(requests.keys), 1)

    def test_an_unsigned_destination_is_worth_an_alert(self) -> None:
        make_requests(self.options(), self.context)
        (event,) = self.context.events
        self.assertIsInstance(event, Alert)
        self.assertIn("destination app: requests are not signed", event.text())

    def test_a_secret_that_the_group_may_read_is_worth_an_alert(self) -> None:
        make_requests(self.options(secret_file=self.secret(NEW, 0o640)), self.context)
        (event,) = self.context.events
        self.assertIn("destination app: the group may use the secret in ", event.text())

    def test_errors_name_the_key(self) -> None:
        secret = self.secret(NEW)
        for keys, says in (
            ({"url": "ftp://a/"}, "url: "),
            ({"format": "row"}, "format: there is no format 'row'; did you mean 'raw'? (there are"),
            ({"format": "?"}, "format: there is no format '?' (there are"),
            ({"secret_file": "/none/such"}, "secret_file: the secret in /none/such cannot be read"),
            ({"secret_env": "MAILSVC_NONE"}, "secret_env: the environment variable of this name"),
            ({"password_file": "/none/such"}, "password_file: "),
            (
                {"secret_file": secret, "secret_env": "X"},
                "secret_env: secret_file is given already",
            ),
            ({"secret_file": self.secret("whsec_x")}, "secret: what follows whsec_"),
            ({"username": "a:b", "password_file": secret}, "username: it must not hold a colon"),
            ({"headers": {"X Y": "1"}}, "headers: 'X Y' is no name"),
            ({"headers": {"Host": "a"}}, "headers: Host is set by mailsvc"),
            ({"headers": {"webhook-ID": "a"}}, "headers: webhook-ID is set by mailsvc"),
            ({"headers": {"X-A": "a\r\nb"}}, "headers: the value of X-A"),
            ({"headers": {"X-A": "ä"}}, "headers: the value of X-A"),
            ({"headers": {"X-A": ""}}, "headers: the value of X-A"),
            ({"url": "https://a.example/", "ca_file": "/none/such"}, "ca_file: "),
        ):
            self.assertIn(says, self.refused(**keys))

    def test_no_secret_is_shown(self) -> None:
        """Requirement 52: not by an error, an event or a repr."""
        for text in ("whsec_hunter2", "whsk_hunter2"):
            self.assertNotIn("hunter2", self.refused(secret_file=self.secret(text)))
        # Nor where somebody wrote it in place of its place.
        for key in ("file", "env", "credential"):
            for text in ("whsec_hunter2", "whsk_hunter2"):
                why = self.refused(**{f"secret_{key}": text})
                self.assertIn(f"secret_{key}: this is a secret itself", why)
                self.assertNotIn("hunter2", why)
        self.assertNotIn("hunter2", self.refused(password_env="hunter2"))
        self.assertNotIn("hunter2", self.refused(password_credential="hunter2"))
        options = self.options(
            url="https://app.test/?token=hunter2", headers={"Authorization": "Bearer hunter2"}
        )
        self.assertEqual(repr(options), "WebhookOptions('https://app.test/')")
        requests = make_requests(
            self.options(secret_file=self.secret("hunter2"), password_file=self.secret("hunter2")),
            self.context,
        )
        self.assertNotIn("hunter2", repr(requests.options) + repr(self.context.events))
        credentials = base64.b64encode(b"actionmailbox:hunter2").decode()
        request = requests.prepare(make_delivery(), MemoryContent(b"\r\nhunter2"), None)
        self.assertIn(("Authorization", f"Basic {credentials}"), request.headers)
        for shown in (repr(requests), repr(request)):
            self.assertNotIn(credentials, shown)
            self.assertNotIn("hunter2", shown)

    def test_the_formats_know_what_they_may(self) -> None:
        secret = self.secret("own")
        requests = make_requests(
            self.options(inline_limit="1 MiB", include_raw=True, secret_file=secret), self.context
        )
        options = requests.options
        self.assertEqual(options.url, "http://app.example.com/in")
        self.assertEqual(options.hostname, "mx.example.com")
        self.assertEqual(options.inline_limit, 1_048_576)
        self.assertTrue(options.raw)
        self.assertEqual([each.reveal() for each in options.secrets], ["own"])
        self.assertIs(requests.format, FORMATS["raw"])


class ContractTests(DelivererContract, ServerCase):
    """The webhook keeps the promises of every deliverer, over real sockets."""

    def make_deliverer(self) -> IDeliverer:
        self.receiver = Receiver()
        return self.webhook(f"http://127.0.0.1:{self.serve(self.receiver)}/")

    def break_destination(self) -> bool:
        def broken(request: Request) -> bytes:
            request.setResponseCode(500)
            return b""

        self.receiver.answering = broken
        return True
