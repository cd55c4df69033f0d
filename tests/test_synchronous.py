"""Synchronous routes: the destination's answer is the reply to the mail."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.dispatch.destination import Verdict
from mailsvc.errors import SpoolError
from mailsvc.events import CommandRefused, MessageAccepted, MessageRefused
from mailsvc.message import Dead, Done, Retry
from mailsvc.routing import Rule
from mailsvc.smtp.policy import Policy
from mailsvc.synchronous import KEPT
from tests.reception import NOW, Reception

RULES = (
    Rule(("now@example.com", "too@example.com"), ("app",), sync=True),
    Rule(("*@example.com",), ("archive",)),
)
LMTP = Policy("mx.example.com", role="lmtp")
CONTENT = ("Subject: x", "", "body", ".")
GONE = Verdict(Dead("refused (422)"), "No such ticket", 550)


def to(*recipients: str) -> list[str]:
    return [f"RCPT TO:<{each}@example.com>" for each in recipients]


class RouteTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reception = Reception(*RULES)
        self.reception.say("EHLO x.example")

    def send(self, *recipients: str, content: tuple[str, ...] = CONTENT) -> list[str]:
        """Send a mail and return the replies to its content that are there."""
        codes = self.reception.codes("MAIL FROM:<a@example.org>", *to(*recipients), "DATA")
        self.assertEqual(codes, ["250"] * (1 + len(recipients)) + ["354"])
        return self.reception.say(*content)


class ReplyTests(RouteTestCase):
    def test_replies(self) -> None:
        later = Retry(NOW + 5, "the answer was 500")
        for verdict, reply in (
            (GONE, "550 5.7.1 No such ticket"),
            (Verdict(Dead("refused"), "", 554), "554 5.7.1 The recipient's application refused"),
            (Verdict(later, "", 451), "451 4.3.0 The recipient's application cannot take the"),
            (Verdict(later, "", 450), "450 4.3.0 The recipient's application cannot take the"),
            (Verdict(Retry(NOW, "paused", spent=False)), "451 4.3.0 "),
        ):
            self.setUp()
            self.reception.verdict = verdict
            (line,) = self.send("now")
            self.assertTrue(line.startswith(reply), line)
            (refused,) = self.reception.logged(MessageRefused)
            self.assertIn(" to=<now@example.com> ", refused.text())
            assert not isinstance(verdict.outcome, Done)
            self.assertTrue(refused.text().endswith(f" ({verdict.outcome.reason})"))
            self.assertEqual(self.reception.logged(MessageAccepted), [])

    def test_taken(self) -> None:
        (line,) = self.send("now")
        message = self.reception.message
        self.assertEqual(line, f"250 2.0.0 OK {message.envelope.id}")
        self.assertEqual(message.fate, "committed")
        (accepted,) = self.reception.logged(MessageAccepted)
        self.assertIn("destination=app", accepted.text())
        # Nobody else is to look for it.
        self.assertEqual(self.reception.woken, [])

    def test_durable_before_it_is_asked(self) -> None:
        """Requirement 35."""
        self.reception.spool.at_once = False
        self.assertEqual(self.send("now"), [])
        self.assertEqual(self.reception.asked, [])
        self.reception.message.finish()
        self.assertEqual(len(self.reception.asked), 1)
        self.assertEqual([line[:3] for line in self.reception.read()], ["250"])

    def test_not_stored(self) -> None:
        self.reception.spool.at_once = False
        self.send("now")
        self.reception.message.finish(SpoolError("no"))
        self.assertEqual([line[:9] for line in self.reception.read()], ["451 4.3.0"])
        self.assertEqual(self.reception.asked, [])

    def test_a_spool_that_fails_later(self) -> None:
        self.reception.spool.at_once = False
        self.send("now")
        self.reception.spool.broken = SpoolError("cannot read")
        self.reception.message.finish()
        (line,) = self.reception.read()
        self.assertTrue(line.startswith("451 4.3.0 "), line)
        self.assertEqual(self.reception.asked, [])

    def test_the_id_is_kept_before_the_mail(self) -> None:
        """Requirement 38: a kill between the two leaves one id for the mail and its repeat."""
        self.reception.spool.at_once = False
        self.send("now")
        self.assertEqual(self.reception.message.fate, "committing")
        ((key, kept),) = self.reception.spool.answers.items()
        self.assertEqual((key.reverse_path, key.recipient), ("a@example.org", "now@example.com"))
        self.assertEqual((kept.code, kept.until), (0, NOW + KEPT))
        self.reception.message.finish()
        self.assertEqual(self.reception.asked, [kept.delivery_id])

    def test_an_id_that_cannot_be_kept(self) -> None:
        """Then the mail is not, either."""
        self.reception.codes("MAIL FROM:<a@example.org>", *to("now"), "DATA")
        self.reception.spool.broken = SpoolError("no room")
        (line,) = self.reception.say(*CONTENT)
        self.assertTrue(line.startswith("451 4.3.0 "), line)
        self.assertEqual(self.reception.message.fate, "aborted")
        self.assertEqual(self.reception.asked, [])

    def test_one_recipient(self) -> None:
        """Requirement 13: the reply to the content is one, so the recipient is one."""
        for first, second in (("now", "later"), ("later", "now"), ("now", "too")):
            self.setUp()
            self.reception.codes("MAIL FROM:<a@example.org>", *to(first))
            (line,) = self.reception.say(*to(second))
            self.assertTrue(line.startswith("452 4.5.3 "), line)
            (refused,) = self.reception.logged(CommandRefused)
            self.assertIn(f"refused RCPT {second}@example.com", refused.text())
            # The same again is no other; and the next transaction knows nothing of this one.
            self.assertEqual(self.reception.codes(*to(first), "DATA"), ["250", "354"])
            self.assertEqual(len(self.reception.say(*CONTENT)), 1)
            codes = self.reception.codes("MAIL FROM:<>", *to("later", "other"))
            self.assertEqual(codes, ["250"] * 3)

    def test_lmtp(self) -> None:
        """Requirement 22: over LMTP each recipient has its own."""
        self.reception = Reception(*RULES, policy=LMTP)
        self.reception.say("LHLO x.example")
        self.reception.verdict = GONE
        lines = self.send("later", "now", "other", "NOW", "too")
        self.assertEqual([line[:3] for line in lines], ["250", "550", "250", "550", "550"])
        self.assertEqual(len(self.reception.asked), 2)
        (accepted,) = self.reception.logged(MessageAccepted)
        self.assertIn(
            " to=<later@example.com>,<other@example.com> destination=archive ", accepted.text()
        )
        self.assertEqual(len(self.reception.logged(MessageRefused)), 2)
        self.assertEqual(self.reception.woken, ["archive"])


class RepeatTests(RouteTestCase):
    def answers(self) -> list[tuple[int, str]]:
        return [(each.code, each.text) for each in self.reception.spool.answers.values()]

    def test_answered_before(self) -> None:
        """The same mail gets the same answer, and is not posted again."""
        for verdict, code in ((Verdict(Done()), "250"), (GONE, "550")):
            self.setUp()
            self.reception.verdict = verdict
            first = self.send("now")
            self.assertEqual(first[0][:3], code)
            self.reception.verdict = Verdict(Retry(NOW, "never asked"))
            self.assertEqual(self.send("now"), first)
            self.assertEqual(len(self.reception.asked), 1)
            self.assertEqual([each[1] for each in self.reception.spool.recorded], [Done()])
            (kept,) = self.reception.spool.answers.values()
            self.assertEqual(kept.until, NOW + KEPT)

    def test_another_mail(self) -> None:
        """Another recipient, sender or content is another mail."""
        self.send("now")
        self.send("too")
        self.send("now", content=("Subject: y", "", "body", "."))
        codes = self.reception.codes("MAIL FROM:<>", *to("now"), "DATA", *CONTENT)
        self.assertEqual(codes[-1], "250")
        self.assertEqual(len(self.reception.asked), 4)

    def test_not_answered_yet(self) -> None:
        """Then it is asked again, under the same id."""
        self.reception.verdict = Verdict(Retry(NOW + 5, "the answer was 500"), "", 451)
        self.send("now")
        self.assertEqual(self.answers(), [(0, "")])
        self.reception.verdict = Verdict(Done())
        self.assertEqual(self.send("now")[0][:3], "250")
        first, second = self.reception.asked
        self.assertEqual(first, second)
        self.assertEqual([code for code, _ in self.answers()], [250])

    def test_too_late(self) -> None:
        """After 30 s the client is sent away; the answer that comes then is for its return."""
        self.reception.verdict = None
        self.assertEqual(self.send("now"), [])
        self.reception.clock.advance(29)
        self.assertEqual(self.reception.read(), [])
        self.reception.clock.advance(1)
        (line,) = self.reception.read()
        self.assertTrue(line.startswith("451 4.3.0 "), line)
        (refused,) = self.reception.logged(MessageRefused)
        self.assertTrue(refused.text().endswith("(no answer within 30 s)"))
        self.reception.verdicts[0].callback([Verdict(Done())])
        self.assertEqual(self.reception.read(), [])
        self.assertEqual(self.send("now")[0][:3], "250")
        self.assertEqual(len(self.reception.asked), 1)

    def test_at_the_same_time(self) -> None:
        """A mail that comes again while the destination is asked waits for that answer."""
        self.reception.verdict = None
        self.assertEqual(self.send("now"), [])
        first = self.reception.message.envelope
        synchronous = self.reception.intake.synchronous
        (key,) = self.reception.spool.answers
        again = Deferred.fromCoroutine(synchronous.rule(first, key.sha256))
        self.assertNoResult(again)
        self.assertEqual(len(self.reception.asked), 1)
        self.assertEqual([each[1] for each in self.reception.spool.recorded], [Done()])
        self.reception.verdicts[0].callback([GONE])
        (ruling,) = self.successResultOf(again).values()
        self.assertEqual(str(ruling.reply), "550 5.7.1 No such ticket")
        self.assertEqual([line[:3] for line in self.reception.read()], ["550"])

    def test_a_client_that_has_gone(self) -> None:
        """Its answer is kept all the same."""
        self.reception.verdict = None
        self.send("now")
        self.reception.protocol.connectionLost()
        self.reception.verdicts[0].callback([Verdict(Done())])
        self.assertEqual([code for code, _ in self.answers()], [250])

    def test_a_paused_destination(self) -> None:
        """It is not asked, nothing is kept for it, and what it answered before still holds."""
        first = self.send("now")
        self.reception.spool.pauses["app"] = "answer 410"
        self.assertEqual(self.send("now"), first)
        (line,) = self.send("too")
        self.assertTrue(line.startswith("451 4.3.0 "), line)
        (refused,) = self.reception.logged(MessageRefused)
        self.assertTrue(refused.text().endswith("(the destination is paused: answer 410)"))
        self.assertEqual(len(self.reception.asked), 1)
        self.assertEqual([each[1] for each in self.reception.spool.recorded], [Done(), Done()])

    def test_an_answer_that_cannot_be_kept(self) -> None:
        """The client is told all the same: the destination has answered for the mail."""
        self.reception.verdict = None
        self.send("now")
        self.reception.spool.broken = SpoolError("no room")
        self.reception.verdicts[0].callback([Verdict(Done())])
        self.assertEqual([line[:3] for line in self.reception.read()], ["250"])
