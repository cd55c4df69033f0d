"""An application is asked at RCPT whether a recipient exists."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from msgspec.structs import replace
from standardwebhooks import Webhook as Verifier
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailsvc import recipients
from mailsvc.deliverers.webhook.answers import Answer
from mailsvc.deliverers.webhook.signing import Key, keys
from mailsvc.deliverers.webhook.upload import Body
from mailsvc.errors import Refused, TransientFailure
from mailsvc.events import CommandRefused
from mailsvc.interfaces import IClosing, IRouter
from mailsvc.message import Address, Route
from mailsvc.recipients import AT_ONCE, LIMIT, WAITING, CheckedRouter, RecipientCheck
from mailsvc.routing import Router, Rule
from mailsvc.secretfile import Secret
from mailsvc.smtp.policy import Policy
from tests.reception import Reception

URL = "https://app.example.com/recipients"
ROUTE = Route("*@example.com", ("app",), check_url=URL)
BOB = Address("bob", "example.com")
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()


class Application:
    """What is asked; a test says what it answers.

    :ivar answer: for each question; None: it is answered later, by ``later``.
    """

    def __init__(self, answer: Answer | Exception | None, keys: Sequence[Key] = ()) -> None:
        self.answer = answer
        self.questions: list[object] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.later: list[Deferred[Answer]] = []
        self.clock = Clock()
        self.check = RecipientCheck(self.post, self.clock, self.in_thread, keys)

    def post(self, headers: Sequence[tuple[str, str]], body: Body) -> Deferred[Answer]:
        assert dict(headers)["Content-Type"] == "application/json"
        self.requests.append((dict(headers), cast(bytes, body.content)))
        self.questions.append(json.loads(cast(bytes, body.content)))
        if self.answer is None:
            self.later.append(Deferred())
            return self.later[-1]
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)

    def in_thread(self, *_: object) -> Deferred[object]:
        raise AssertionError("a question is no stream")

    def ask(self, address: Address = BOB) -> Deferred[None]:
        return Deferred.fromCoroutine(self.check.check(address, ROUTE))


class RecipientCheckTests(SynchronousTestCase):
    def reply(self, application: Application, address: Address = BOB) -> str:
        """Return the reply to RCPT; empty: taken."""
        asked = application.ask(address)
        failure = asked.result if asked.called else self.fail("it waits")
        if failure is None:
            return ""
        return str(self.failureResultOf(asked, Refused).value.reply)

    def test_answers(self) -> None:
        """As for a webhook, with the replies of RCPT."""
        nobody = "550 5.1.1 There is no such mailbox here"
        later = str(recipients.NOT_CHECKED)
        table: tuple[tuple[Answer | Exception, str], ...] = (
            (Answer(200), ""),
            (Answer(204), ""),
            (Answer(200, "application/json", "", b'{"action": "accept"}'), ""),
            (Answer(200, "application/json", "", b'{"action": "reject"}'), nobody),
            (Answer(200, "", "", b'{"action": "reject", "reply": "Moved"}'), "550 5.1.1 Moved"),
            (Answer(406), nobody),
            (Answer(422), nobody),
            (Answer(422, "text/plain", "", b"Left in\r\nMay\n"), "550 5.1.1 Left in May"),
            *((Answer(status), later) for status in (301, 400, 401, 403, 404, 410, 429, 500, 503)),
            (TransientFailure("no connection"), later),
            (ZeroDivisionError("ours"), later),
        )
        for answer, reply in table:
            self.assertEqual(self.reply(Application(answer)), reply, answer)

    def test_question(self) -> None:
        application = Application(Answer(204))
        tagged = replace(ROUTE, name="bob+*@example.com", tag="x")
        bob = Address("Bob+x", "Example.com")
        self.successResultOf(Deferred.fromCoroutine(application.check.check(bob, tagged)))
        self.assertEqual(
            application.questions,
            [
                {
                    "type": "recipient.check",
                    "recipient": "Bob+x@Example.com",
                    "route": "bob+*@example.com",
                    "tag": "x",
                }
            ],
        )

    def test_signed(self) -> None:
        """Requirement 52: as webhooks are, with each key in force, and an id for each question."""
        application = Application(Answer(500), keys([Secret(NEW), Secret(OLD)]))
        application.clock.advance(1_700_000_000)
        for _ in range(2):
            self.reply(application)
        ids = set()
        for headers, body in application.requests:
            id, when = headers["webhook-id"], datetime.fromtimestamp(1_700_000_000, UTC)
            expected = [Verifier(each).sign(id, when, body.decode()) for each in (NEW, OLD)]
            self.assertEqual(headers["webhook-signature"], " ".join(expected))
            self.assertEqual(headers["webhook-timestamp"], "1700000000")
            ids.add(id)
        self.assertEqual(len(ids), 2)

    def test_no_answer_in_time(self) -> None:
        """The time counts from the question, whether it was asked at once or waits for its turn."""
        self.patch(recipients, "AT_ONCE", 1)
        application = Application(None)
        asked = [application.ask(Address(each, "example.com")) for each in ("a", "b", "a")]
        self.assertEqual(len(application.questions), 1)
        application.clock.advance(LIMIT - 1)
        late = application.ask(Address("a", "example.com"))
        self.assertEqual([each.called for each in (*asked, late)], [False] * 4)
        application.clock.advance(1)
        for each in (*asked, late):
            failure = self.failureResultOf(each, Refused)
            self.assertEqual(failure.value.reply, recipients.NOT_CHECKED)
            self.assertEqual(str(failure.value), "check_url: no answer within 30 s")
        # The request was ended, and the next question finds its turn free.
        self.assertTrue(application.later[0].called)
        again = application.ask(Address("a", "example.com"))
        application.later[-1].callback(Answer(204))
        self.successResultOf(again)
        self.assertEqual(application.clock.getDelayedCalls(), [])

    def test_whoever_asked_first_may_go(self) -> None:
        """The others who wait are told, and the answer is remembered."""
        application = Application(None)
        first, second = application.ask(), application.ask()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        application.later[0].callback(Answer(204))
        self.successResultOf(second)
        self.successResultOf(application.ask())
        self.assertEqual(len(application.questions), 1)

    def test_why_it_is_not_known(self) -> None:
        """The cause is for the log, and not for the sender."""
        for answer, cause in (
            (TransientFailure("no connection"), "no connection"),
            (Answer(404), "the answer was 404"),
        ):
            assert isinstance(answer, (Answer, TransientFailure))
            failure = self.failureResultOf(Application(answer).ask(), Refused)
            self.assertEqual(str(failure.value), f"check_url: {cause}")

    def test_remembered(self) -> None:
        """Each answer for its time; a failure not at all; case does not matter."""
        for answer, seconds in ((Answer(204), 300), (Answer(422), 60), (Answer(500), 0)):
            application = Application(answer)
            first = self.reply(application)
            if seconds:
                application.clock.advance(seconds - 1)
                self.assertEqual(self.reply(application, Address("BOB", "EXAMPLE.com")), first)
                self.assertEqual(len(application.questions), 1)
                application.clock.advance(1)
            self.assertEqual(self.reply(application), first)
            self.assertEqual(len(application.questions), 2)

    def test_memory_is_bounded(self) -> None:
        self.patch(recipients, "REMEMBERED", 3)
        application = Application(Answer(204))
        for local in ("a", "b", "c", "d", "b", "a"):
            self.reply(application, Address(local, "example.com"))
        asked = [cast(dict[str, str], each)["recipient"][0] for each in application.questions]
        self.assertEqual("".join(asked), "abcda")

    def test_one_question_for_all_who_wait(self) -> None:
        application = Application(None)
        asked = [application.ask() for _ in range(3)]
        (later,) = application.later
        later.callback(Answer(422))
        for each in asked:
            self.failureResultOf(each, Refused)
        self.assertEqual(len(application.questions), 1)

    def test_bounded_questions(self) -> None:
        """No more at once than the application is to bear, and no endless line behind them."""
        application = Application(None)
        asked = [application.ask(Address(f"u{n}", "example.com")) for n in range(WAITING + 1)]
        self.assertEqual(len(application.later), AT_ONCE)
        failure = self.failureResultOf(asked.pop(), Refused)
        self.assertEqual(failure.value.reply, recipients.NOT_CHECKED)
        for answered in range(WAITING):
            self.assertLessEqual(len(application.later) - answered, AT_ONCE)
            application.later[answered].callback(Answer(204))
        for each in asked:
            self.assertIsNone(self.successResultOf(each))
        self.assertEqual(len(application.questions), WAITING)

    def test_interface(self) -> None:
        check = Application(None).check
        self.assertTrue(verifyObject(IClosing, check))
        self.successResultOf(Deferred.fromCoroutine(check.close()))


class SessionTests(SynchronousTestCase):
    """What a client sees."""

    RULES = (
        Rule(("*@example.com",), ("app",), check_url=URL),
        Rule(("*@other.example",), ("app",)),
    )

    def reception(self, application: Application, vrfy: str = "never") -> Reception:
        router = Router(self.RULES, "mx.example.com")
        checked = CheckedRouter(router, {URL: application.check})
        self.assertTrue(verifyObject(IRouter, checked))
        return Reception(router=checked, policy=Policy("mx.example.com", vrfy=vrfy))

    def test_dialogue(self) -> None:
        application = Application(Answer(422, "text/plain", "", b"Gone"))
        reception = self.reception(application)
        hello = ("EHLO x.example", "MAIL FROM:<a@example.org>")
        reply = str(reception.say(*hello, "RCPT TO:<bob@example.com>")[-1])
        self.assertEqual(reply, "550 5.1.1 Gone")
        # Not the route's to ask, and postmaster, whatever the application says.
        for recipient in ("bob@other.example", "postmaster@example.com"):
            self.assertEqual(reception.codes(f"RCPT TO:<{recipient}>"), ["250"])
        self.assertEqual(len(application.questions), 1)

    def test_the_url_is_not_kept(self) -> None:
        """Requirement 52: there may be a token in it, and operators look at envelopes."""
        reception = self.reception(Application(Answer(204)))
        to = [f"RCPT TO:<{each}@example.com>" for each in ("bob", "postmaster")]
        reception.codes("EHLO x.example", "MAIL FROM:<a@example.org>", *to, "DATA", "x", ".")
        routes = [each.route for each in reception.message.envelope.recipients]
        self.assertEqual([each.check_url for each in routes], ["", ""])
        self.assertEqual([each.destinations for each in routes], [("app",)] * 2)

    def test_the_cause_is_logged(self) -> None:
        reception = self.reception(Application(TransientFailure("no connection")))
        hello = ("EHLO x.example", "MAIL FROM:<a@example.org>")
        reply = str(reception.say(*hello, "RCPT TO:<bob@example.com>")[-1])
        self.assertEqual(reply, str(recipients.NOT_CHECKED))
        (refused,) = reception.logged(CommandRefused)
        self.assertTrue(refused.text().endswith("(check_url: no connection)"), refused.text())

    def test_pipelined(self) -> None:
        """Requirement 1: replies come in order, whenever the application answers."""
        application = Application(None)
        reception = self.reception(application)
        reception.say("EHLO x.example")
        lines = ["MAIL FROM:<a@example.org>"]
        lines += ["RCPT TO:<bob@example.com>", "RCPT TO:<ann@other.example>"]
        self.assertEqual(reception.codes(*lines), ["250"])
        application.later[0].callback(Answer(204))
        self.assertEqual([line[:3] for line in reception.read()], ["250", "250"])

    def test_verify(self) -> None:
        """VRFY denies nobody for good whom it could not ask for."""
        for answer, code in ((Answer(204), 250), (Answer(422), 550), (Answer(500), 451)):
            reception = self.reception(Application(answer), vrfy="anyone")
            reception.say("EHLO x.example")
            self.assertEqual(reception.codes("VRFY <bob@example.com>"), [str(code)])

    def test_reply_is_harmless(self) -> None:
        """Requirement 3: whatever the application words is one reply."""
        words = b'{"action": "reject", "reply": "a\\r\\n250 ok\\u0000\\u001b"}'
        reception = self.reception(Application(Answer(200, "application/json", "", words)))
        hello = ("EHLO x.example", "MAIL FROM:<a@example.org>")
        reply = str(reception.say(*hello, "RCPT TO:<bob@example.com>")[-1])
        self.assertEqual(reply, "550 5.1.1 a 250 ok??")
