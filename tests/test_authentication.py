from __future__ import annotations

import hashlib
import hmac
import runpy
from collections.abc import Coroutine, Iterable
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest import mock

import scramp
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementer

from mailsvc import passwords
from mailsvc.authentication import Authentication, LoginExchange, Peer
from mailsvc.checkers import CertificateNames, PasswordChecker, make_checker
from mailsvc.credentials import IBearerToken, INonBlockingChecker, IScramProof
from mailsvc.errors import Refused
from mailsvc.events import Event
from mailsvc.interfaces import ISender
from mailsvc.message import Address
from mailsvc.passwords import PasswordFile
from mailsvc.penalties import Penalties, Penalty
from mailsvc.smtp.scram import Verifier
from tests.floors import ROOT
from tests.issuer import Issuer
from tests.threads import Threads

FEW = 4096
Answer = Coroutine[Any, Any, bytes | ISender]


@implementer(INonBlockingChecker)
class Tokens:
    """Knows one bearer token."""

    credentialInterfaces = (IBearerToken,)

    def requestAvatarId(self, credentials: IBearerToken) -> Deferred[bytes | tuple[()]]:
        if credentials.token == "right":
            return succeed(b"tim@example.com")
        return fail(UnauthorizedLogin())


@implementer(ICredentialsChecker)
class Broken:
    """Cannot tell; what it raises quotes the password."""

    def __init__(self, *interfaces: type[Interface]) -> None:
        self.credentialInterfaces = interfaces or (IUsernamePassword,)

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        raise ValueError(credentials.password)


@implementer(ICredentialsChecker)
class Guests:
    """Lets everybody in as nobody."""

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        return succeed(())


class Base(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = str(directory / "users")
        passwords.add(self.path, "tim", "pencil", FEW)
        self.users = PasswordChecker(PasswordFile(self.path, b"key"), self.fail)
        self.clock = Clock()
        self.threads = Threads()
        self.events: list[Event] = []

    def authentication(
        self,
        *checkers: ICredentialsChecker,
        rules: Penalty | None = None,
        waiting: int = 32,
        cleartext: bool = False,
        cram_md5: bool = False,
        own_senders: bool = False,
    ) -> Authentication:
        return Authentication(
            "mx.example.com",
            checkers or (self.users,),
            clock=self.clock,
            in_thread=self.threads,
            emit=self.events.append,
            penalties=Penalties(self.clock.seconds, rules=rules),
            waiting=waiting,
            cleartext=cleartext,
            cram_md5=cram_md5,
            own_senders=own_senders,
        )

    def challenge(self, answer: Answer) -> bytes:
        """Return the challenge that is asked, however late."""
        waiting = Deferred.fromCoroutine(answer)
        for _ in range(8):
            self.clock.advance(60.0)
        challenge = self.successResultOf(waiting)
        assert isinstance(challenge, bytes)
        return challenge

    def sender(self, answer: Answer) -> ISender:
        """Return the avatar that is answered at once."""
        return ISender(self.successResultOf(Deferred.fromCoroutine(answer)))

    def refusal(self, answer: Answer, code: int) -> Refused:
        waiting = Deferred.fromCoroutine(answer)
        for _ in range(8):
            self.clock.advance(60.0)
        failure = self.failureResultOf(waiting, Refused)
        assert isinstance(failure.value, Refused)
        self.assertEqual(failure.value.reply.code, code)
        return failure.value


class MechanismTests(Base):
    def names(self, *checkers: ICredentialsChecker, cram_md5: bool = False) -> list[str]:
        return list(self.authentication(*checkers, cram_md5=cram_md5).mechanisms(True))

    def test_a_password_file(self) -> None:
        """Requirement 29: PLAIN and LOGIN are not announced without TLS."""
        authentication = self.authentication()
        self.assertEqual(
            authentication.mechanisms(True),
            ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"),
        )
        self.assertEqual(authentication.mechanisms(False), ("SCRAM-SHA-256",))

    def test_cleartext_as_configured(self) -> None:
        authentication = self.authentication(cleartext=True)
        self.assertEqual(authentication.mechanisms(False), ("SCRAM-SHA-256", "PLAIN", "LOGIN"))

    def test_what_the_checkers_serve(self) -> None:
        """Requirement 34: CRAM-MD5 is off by default."""
        memory = make_checker("memory:tim:pencil")
        self.assertEqual(self.names(memory), ["PLAIN", "LOGIN"])
        self.assertEqual(self.names(memory, cram_md5=True), ["CRAM-MD5", "PLAIN", "LOGIN"])
        self.assertNotIn("CRAM-MD5", self.names(self.users, cram_md5=True))

    def test_a_mechanism_works_for_every_user(self) -> None:
        """Clients try one mechanism; whatever they pick, each checker's users can log in."""
        memory = make_checker("memory:ann:paper")
        self.assertEqual(self.names(self.users, memory, cram_md5=True), ["PLAIN", "LOGIN"])
        self.assertEqual(
            self.names(self.users, Tokens()),
            ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"],
        )

    def test_tokens(self) -> None:
        self.assertEqual(self.names(Tokens()), ["OAUTHBEARER", "XOAUTH2"])
        self.assertEqual(self.authentication(Tokens()).mechanisms(False), ())

    def test_scram_takes_a_checker_that_knows_salts(self) -> None:
        self.assertEqual(self.names(Broken(IScramProof)), [])

    def test_external(self) -> None:
        authentication = self.authentication(CertificateNames())
        self.assertEqual(authentication.mechanisms(True), ())
        self.assertEqual(authentication.mechanisms(True, True), ("EXTERNAL",))
        self.assertEqual(authentication.mechanisms(False, True), ())

    def test_no_checkers(self) -> None:
        authentication = Authentication(
            "mx", (), clock=self.clock, in_thread=self.threads, emit=self.events.append
        )
        self.assertEqual(authentication.mechanisms(True, True), ())

    def test_unknown_mechanism(self) -> None:
        """Requirement 31: 504."""
        authentication = self.authentication()
        for name, secure in (("KERBEROS", True), ("EXTERNAL", True), ("PLAIN", False)):
            refused = self.assertRaises(Refused, authentication.begin, name, Peer(secure=secure))
            self.assertEqual((refused.reply.code, refused.reply.status), (504, "5.5.4"))

    def test_anonymous(self) -> None:
        authentication = self.authentication()
        sender, logout = authentication.anonymous()
        self.assertIsNone(sender.identity)
        self.assertEqual(authentication.realm.present[None], 1)
        logout()
        self.assertEqual(authentication.realm.present[None], 0)


class LoginTests(Base):
    def setUp(self) -> None:
        super().setUp()
        self.peer = Peer("192.0.2.1", secure=True)

    def plain(
        self, authentication: Authentication, user: str = "tim", password: str = "pencil"
    ) -> Answer:
        exchange = authentication.begin("PLAIN", self.peer)
        return exchange.respond(f"\0{user}\0{password}".encode())

    def test_plain(self) -> None:
        authentication = self.authentication()
        exchange = authentication.begin("PLAIN", self.peer)
        self.assertEqual(self.challenge(exchange.respond(None)), b"")
        sender = self.sender(exchange.respond(b"\0tim\0pencil"))
        self.assertEqual(sender.identity, "tim")
        self.assertEqual(exchange.user, "tim")
        self.assertEqual(authentication.realm.present["tim"], 1)
        exchange.close()
        exchange.close()
        self.assertEqual(authentication.realm.present["tim"], 0)
        self.assertEqual(self.events, [])

    def test_login(self) -> None:
        exchange = self.authentication().begin("LOGIN", self.peer)
        self.assertEqual(self.challenge(exchange.respond(None)), b"Username:")
        self.assertEqual(self.challenge(exchange.respond(b"tim")), b"Password:")
        self.assertEqual(self.sender(exchange.respond(b"pencil")).identity, "tim")

    def test_several_checkers(self) -> None:
        authentication = self.authentication(self.users, make_checker("memory:ann:paper"))
        self.assertEqual(self.sender(self.plain(authentication)).identity, "tim")
        self.assertEqual(self.sender(self.plain(authentication, "ann", "paper")).identity, "ann")
        self.refusal(self.plain(authentication, "ann", "pencil"), 535)

    def test_cram_md5(self) -> None:
        authentication = self.authentication(make_checker("memory:tim:pencil"), cram_md5=True)
        exchange = authentication.begin("CRAM-MD5", self.peer)
        challenge = self.challenge(exchange.respond(None))
        self.assertTrue(challenge.endswith(b"@mx.example.com>"))
        digest = hmac.new(b"pencil", challenge, hashlib.md5).hexdigest()
        sender = self.sender(exchange.respond(f"tim {digest}".encode()))
        self.assertEqual(sender.identity, "tim")

    def test_failures_look_alike(self) -> None:
        """Requirement 32: wrong user, wrong password, wrong authzid: one reply, one time."""
        seen = []
        for response in (
            b"\0tim\0pen",
            b"\0nobody\0pencil",
            b"root\0tim\0pencil",
            b"\0tim\0",
            b"\0a\x07\0pencil",
        ):
            self.peer = Peer("192.0.2.1", secure=True)
            self.clock = Clock()
            exchange = self.authentication().begin("PLAIN", self.peer)
            answer = Deferred.fromCoroutine(exchange.respond(response))
            self.clock.advance(0.999)
            self.assertNoResult(answer)
            self.clock.advance(0.001)
            failure = self.failureResultOf(answer, Refused)
            assert isinstance(failure.value, Refused)
            seen.append(str(failure.value.reply))
        self.assertEqual(set(seen), {"535 5.7.8 Authentication credentials invalid"})

    def test_the_work_for_nobody_is_that_for_somebody(self) -> None:
        """Requirement 32: an unknown user costs as many rounds of PBKDF2."""
        rounds: list[int] = []
        check = Verifier.check

        def noted(verifier: Verifier, password: str) -> bool:
            rounds.append(verifier.iterations)
            return check(verifier, password)

        with mock.patch.object(Verifier, "check", noted):
            authentication = self.authentication()
            self.refusal(self.plain(authentication, "tim", "pen"), 535)
            self.refusal(self.plain(authentication, "nobody", "pencil"), 535)
        self.assertEqual(rounds, [FEW, FEW])

    def test_the_delay_counts_from_the_start(self) -> None:
        """However long a check takes, up to the delay, the answer comes at the same moment."""
        self.threads.hold()
        answer = Deferred.fromCoroutine(self.plain(self.authentication(), "tim", "pen"))
        self.clock.advance(0.75)
        self.threads.release()
        self.assertNoResult(answer)
        self.clock.advance(0.25)
        self.failureResultOf(answer, Refused)

    def test_a_check_that_takes_longer_than_the_delay(self) -> None:
        """Requirement 32: its answer comes after a multiple of the delay, which says less."""
        for took in (4.25, 4.75):
            self.peer = Peer("192.0.2.1", secure=True)
            self.threads.hold()
            answer = Deferred.fromCoroutine(self.plain(self.authentication(), "tim", "pen"))
            self.clock.advance(took)
            self.threads.release()
            self.clock.advance(4.875 - took)
            self.assertNoResult(answer)
            self.clock.advance(0.125)
            self.failureResultOf(answer, Refused)

    def test_delays_grow_and_the_fifth_failure_is_the_last(self) -> None:
        """Requirement 33: growing delay, then 421."""
        authentication = self.authentication(rules=Penalty(address_free=99, user_free=99))
        waits, codes = [], []
        for _ in range(5):
            answer = Deferred.fromCoroutine(self.plain(authentication, "tim", "pen"))
            began = self.clock.seconds()
            while not answer.called:
                self.clock.advance(0.5)
            waits.append(self.clock.seconds() - began)
            failure = self.failureResultOf(answer, Refused)
            assert isinstance(failure.value, Refused)
            codes.append(failure.value.reply.code)
        self.assertEqual(waits, [1, 2, 4, 8, 16])
        self.assertEqual(codes, [535, 535, 535, 535, 421])

    def test_failures_are_logged_by_name(self) -> None:
        """Requirement 34: who and whence, but never the password."""
        self.refusal(self.plain(self.authentication(), "ti m\n", "hunter2"), 535)
        line = self.events[0].text()
        self.assertEqual(
            line,
            "refused AUTH PLAIN ti\\x20m\\n client=192.0.2.1:"
            " 535 5.7.8 Authentication credentials invalid",
        )

    def test_an_address_is_turned_away(self) -> None:
        """Requirement 33: a counter per address across connections."""
        authentication = self.authentication(rules=Penalty(address_most=3))
        for number in range(3):
            self.peer = Peer("192.0.2.1", secure=True)
            # No minute goes by, so nothing drains.
            answer = Deferred.fromCoroutine(self.plain(authentication, f"user{number}", "x"))
            self.clock.advance(1)
            self.failureResultOf(answer, Refused)
        used = self.threads.used
        self.peer = Peer("192.0.2.1", secure=True)
        for response in (b"\0tim\0pencil", b"root\0tim\0pencil"):
            exchange = authentication.begin("PLAIN", self.peer)
            answer = Deferred.fromCoroutine(exchange.respond(response))
            failure = self.failureResultOf(answer, Refused)
            assert isinstance(failure.value, Refused)
            self.assertEqual(failure.value.reply.code, 421)
        self.assertEqual(self.threads.used, used)
        self.peer = Peer("192.0.2.2", secure=True)
        self.assertEqual(self.sender(self.plain(authentication)).identity, "tim")

    def test_a_wait_before_the_check(self) -> None:
        authentication = self.authentication(rules=Penalty(address_free=0))
        self.refusal(self.plain(authentication, "tim", "pen"), 535)
        self.clock = Clock()
        authentication = self.authentication(rules=Penalty(address_free=0))
        for _ in range(2):
            first = Deferred.fromCoroutine(self.plain(authentication, "tim", "pen"))
            first.addErrback(lambda failure: failure.trap(Refused))
        used = self.threads.used
        answer = Deferred.fromCoroutine(self.plain(authentication))
        self.assertNoResult(answer)
        self.assertEqual(self.threads.used, used)
        self.clock.advance(2)
        self.assertEqual(ISender(self.successResultOf(answer)).identity, "tim")

    def test_a_wait_hides_the_check_no_less(self) -> None:
        """Requirement 32: the delay counts from the end of the wait, however long that was."""
        authentication = self.authentication(rules=Penalty(address_free=0))
        for _ in range(2):
            first = Deferred.fromCoroutine(self.plain(authentication, "tim", "pen"))
            first.addErrback(lambda failure: failure.trap(Refused))
        self.peer = Peer("192.0.2.1", secure=True)
        answer = Deferred.fromCoroutine(self.plain(authentication, "tim", "pen"))
        used = self.threads.used
        self.clock.advance(2)
        self.assertGreater(self.threads.used, used)
        self.clock.advance(0.5)
        self.assertNoResult(answer)
        self.clock.advance(0.5)
        self.failureResultOf(answer, Refused)

    def test_malformed(self) -> None:
        """Requirement 30: what is no message of the mechanism is 501, and no failed login."""
        exchange = self.authentication().begin("PLAIN", self.peer)
        refused = self.refusal(exchange.respond(b"tim"), 501)
        self.assertEqual(refused.reply.status, "5.5.2")
        self.assertEqual(self.peer.failures, 0)

    def test_a_broken_checker(self) -> None:
        """Requirement 31: 454, an event, and no penalty."""
        rules = Penalty(address_free=0, address_most=2, drain=10_000)
        authentication = self.authentication(Broken(), rules=rules)
        for _ in range(5):
            refused = self.refusal(self.plain(authentication, "tim", "hunter2"), 454)
            self.assertEqual(refused.reply.status, "4.7.0")
        self.assertEqual(self.peer.failures, 0)
        text = "".join(event.text() for event in self.events)
        self.assertIn("checker Broken failed: ValueError", text)
        self.assertNotIn("hunter2", text)

    def test_a_broken_portal(self) -> None:
        authentication = self.authentication()
        with mock.patch.object(authentication.realm, "requestAvatar", lambda *args: 1 / 0):
            self.refusal(self.plain(authentication), 454)
        self.assertIn("a login failed: ZeroDivisionError", self.events[0].text())

    def test_too_many_checks_wait(self) -> None:
        authentication = self.authentication(waiting=1)
        self.threads.hold()
        first = Deferred.fromCoroutine(self.plain(authentication))
        self.refusal(self.plain(authentication), 454)
        scram = authentication.begin("SCRAM-SHA-256", self.peer)
        self.refusal(scram.respond(b"n,,n=tim,r=abc"), 454)
        for event, mechanism in zip(self.events, ("PLAIN", "SCRAM-SHA-256"), strict=True):
            self.assertIn(f"AUTH {mechanism} tim", event.text())
            self.assertIn(": 454 4.7.0 ", event.text())
        self.threads.release()
        self.assertEqual(ISender(self.successResultOf(first)).identity, "tim")

    def logins(
        self, authentication: Authentication, users: Iterable[str], hosts: Iterable[str]
    ) -> list[Deferred[bytes | ISender]]:
        """Try the right password for each user from each host, all side by side."""
        answers = []
        for user, host in zip(users, hosts, strict=False):
            self.peer = Peer(host, secure=True)
            answers.append(Deferred.fromCoroutine(self.plain(authentication, user)))
            answers[-1].addErrback(lambda failure: failure.trap(Refused))
        return answers

    def test_a_flood_from_one_address_keeps_nobody_out(self) -> None:
        """Requirement 33: it waits in its own line, and the places for checks stay others'."""
        authentication = self.authentication(waiting=8, rules=Penalty(address_free=99))
        self.threads.hold()
        flood = self.logins(authentication, (f"u{n}" for n in range(40)), repeat("192.0.2.1"))
        self.assertEqual(self.threads.used, 4)
        (other,) = self.logins(authentication, ["tim"], ["192.0.2.2"])
        self.assertEqual(self.threads.used, 5)
        self.threads.release()
        self.assertEqual(ISender(self.successResultOf(other)).identity, "tim")
        # Each of the others had its turn.
        self.assertEqual(self.threads.used, 41)
        self.clock.advance(1)
        self.assertEqual([each.called for each in flood], [True] * 40)
        self.assertEqual([event for event in self.events if ": 454" in event.text()], [])

    def test_the_line_hides_the_check_no_less(self) -> None:
        """Requirement 32: the delay counts from the end of the line, however long that was."""
        authentication = self.authentication(rules=Penalty(address_free=99))
        self.threads.hold()
        *_, last = self.logins(authentication, (f"u{n}" for n in range(5)), repeat("192.0.2.1"))
        self.clock.advance(5.25)
        self.threads.release()
        self.clock.advance(0.875)
        self.assertFalse(last.called)
        self.clock.advance(0.125)
        self.assertTrue(last.called)

    def test_a_flood_at_one_user_keeps_nobody_out(self) -> None:
        """Requirement 33: nor the user, where that user has logged in from before."""
        authentication = self.authentication(waiting=8, rules=Penalty(user_free=99))
        passwords.add(self.path, "tom", "pencil", FEW)
        (known,) = self.logins(authentication, ["tim"], ["198.51.100.1"])
        self.assertEqual(ISender(self.successResultOf(known)).identity, "tim")
        self.threads.hold()
        self.logins(authentication, repeat("tim"), (f"192.0.2.{n}" for n in range(40)))
        self.assertEqual(self.threads.used, 5)
        others = self.logins(authentication, ["tim", "tom"], ["198.51.100.1", "198.51.100.2"])
        self.assertEqual(self.threads.used, 7)
        self.threads.release()
        self.assertEqual(
            [ISender(self.successResultOf(each)).identity for each in others], ["tim", "tom"]
        )

    def test_who_is_gone_is_not_checked(self) -> None:
        """A client that leaves its login behind costs no check, but the attempt counts."""
        authentication = self.authentication(rules=Penalty(address_free=1))
        for _ in range(3):
            exchange = authentication.begin("PLAIN", Peer("192.0.2.1", secure=True))
            answer = Deferred.fromCoroutine(exchange.respond(b"\0u\0x"))
            answer.addErrback(lambda failure: failure.trap(Refused))
        used = self.threads.used
        self.assertEqual(used, 2)
        exchange.close()
        self.clock.advance(1)
        self.assertEqual(self.threads.used, used)
        self.assertTrue(answer.called)
        self.assertEqual(authentication.penalties.begin("192.0.2.1", "tim"), 2.0)

    def test_nobody_is_not_a_user(self) -> None:
        authentication = self.authentication(Guests())
        self.refusal(self.plain(authentication), 535)
        self.assertEqual(authentication.realm.present, {})

    def test_a_connection_that_is_gone(self) -> None:
        authentication = self.authentication()
        self.threads.hold()
        exchange = authentication.begin("PLAIN", self.peer)
        answer = Deferred.fromCoroutine(exchange.respond(b"\0tim\0pencil"))
        exchange.close()
        self.threads.release()
        self.failureResultOf(answer, Refused)
        self.assertEqual(authentication.realm.present, {})

    def test_a_wait_that_is_cancelled(self) -> None:
        authentication = self.authentication()
        self.threads.hold()
        for mechanism, response in (
            ("PLAIN", b"\0tim\0pencil"),
            ("SCRAM-SHA-256", b"n,,n=tim,r=abc"),
        ):
            exchange = authentication.begin(mechanism, self.peer)
            answer = Deferred.fromCoroutine(exchange.respond(response))
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
            exchange.close()
        self.threads.release()
        self.assertEqual(authentication.realm.present, {})
        self.assertEqual(self.events, [])

    def test_own_senders(self) -> None:
        sender = self.sender(self.plain(self.authentication(own_senders=True)))
        self.assertFalse(sender.may_send_as(Address("ann", "example.com")))


class ScramTests(Base):
    def run_client(
        self, exchange: LoginExchange, client: scramp.ScramClient
    ) -> tuple[bytes, bytes]:
        """Let the client log in; return its two messages."""
        first = client.get_client_first().encode()
        client.set_server_first(self.challenge(exchange.respond(first)).decode())
        final = client.get_client_final().encode()
        client.set_server_final(self.challenge(exchange.respond(final)).decode())
        return first, final

    def test_login(self) -> None:
        authentication = self.authentication()
        exchange = authentication.begin("SCRAM-SHA-256", Peer("192.0.2.1"))
        self.assertEqual(self.challenge(exchange.respond(None)), b"")
        self.run_client(exchange, scramp.ScramClient(["SCRAM-SHA-256"], "tim", "pencil"))
        sender = self.sender(exchange.respond(b""))
        self.assertEqual(sender.identity, "tim")
        self.assertEqual(authentication.realm.present["tim"], 1)
        exchange.close()
        self.assertEqual(authentication.realm.present["tim"], 0)

    def test_channel_binding(self) -> None:
        peer = Peer("192.0.2.1", True, lambda: {"tls-unique": b"finished"})
        client = scramp.ScramClient(
            ["SCRAM-SHA-256-PLUS"], "tim", "pencil", channel_binding=("tls-unique", b"finished")
        )
        exchange = self.authentication().begin("SCRAM-SHA-256-PLUS", peer)
        self.run_client(exchange, client)
        self.assertEqual(self.sender(exchange.respond(b"")).identity, "tim")

    def test_wrong_password_and_unknown_user(self) -> None:
        """Requirement 32: the same messages, the same reply."""
        for user, password in (("tim", "pen"), ("nobody", "pencil")):
            client = scramp.ScramClient(["SCRAM-SHA-256"], user, password)
            exchange = self.authentication().begin("SCRAM-SHA-256", Peer("192.0.2.1"))
            first = self.challenge(exchange.respond(client.get_client_first().encode()))
            self.assertTrue(first.endswith(b",i=4096"))
            client.set_server_first(first.decode())
            self.refusal(exchange.respond(client.get_client_final().encode()), 535)

    def test_a_proof_is_good_once(self) -> None:
        """Requirement 34: a recorded conversation cannot be played again."""
        authentication = self.authentication()
        client = scramp.ScramClient(["SCRAM-SHA-256"], "tim", "pencil")
        exchange = authentication.begin("SCRAM-SHA-256", Peer("192.0.2.1"))
        first, final = self.run_client(exchange, client)
        again = authentication.begin("SCRAM-SHA-256", Peer("192.0.2.1"))
        self.challenge(again.respond(first))
        self.refusal(again.respond(final), 535)

    def test_words_after_the_end(self) -> None:
        authentication = self.authentication()
        exchange = authentication.begin("SCRAM-SHA-256", Peer("192.0.2.1"))
        self.run_client(exchange, scramp.ScramClient(["SCRAM-SHA-256"], "tim", "pencil"))
        self.refusal(exchange.respond(b"more"), 501)
        self.assertEqual(authentication.realm.present, {})

    def test_a_broken_file_of_salts(self) -> None:
        exchange = self.authentication().begin("SCRAM-SHA-256", Peer("192.0.2.1"))
        with mock.patch.object(PasswordFile, "verifier", lambda *args: 1 / 0):
            self.refusal(exchange.respond(b"n,,n=tim,r=abc"), 454)
        self.assertIn("no salt for a login: ZeroDivisionError", self.events[0].text())


class BearerTests(Base):
    def begin(self, mechanism: str = "OAUTHBEARER") -> LoginExchange:
        return self.authentication(Tokens()).begin(mechanism, Peer("192.0.2.1", secure=True))

    def test_login(self) -> None:
        for user in (b"", b"a=tim@example.com"):
            message = b"n," + user + b",\x01auth=Bearer right\x01\x01"
            sender = self.sender(self.begin().respond(message))
            self.assertEqual(sender.identity, "tim@example.com")

    def test_failure_is_told_and_then_refused(self) -> None:
        """RFC 7628 section 3.2.3: an error status, which the client answers with control-A."""
        exchange = self.begin()
        message = b"n,a=tim@example.com,\x01auth=Bearer wrong\x01\x01"
        told = self.challenge(exchange.respond(message))
        self.assertIn(b"invalid_token", told)
        self.refusal(exchange.respond(b"\x01"), 535)

    def test_a_token_of_somebody_else(self) -> None:
        """Requirement 32: whom the client asks to be is whom the token was issued to."""
        exchange = self.begin("XOAUTH2")
        told = self.challenge(
            exchange.respond(b"user=ann@example.com\x01auth=Bearer right\x01\x01")
        )
        self.assertIn(b"401", told)
        self.refusal(exchange.respond(b""), 535)


class ExampleTests(Base):
    """The checker that ``docs/authentication.md`` shows."""

    def checker(self) -> ICredentialsChecker:
        module = runpy.run_path(str(ROOT / "docs" / "examples" / "token_checker.py"))

        async def introspect(token: str) -> dict[str, object]:
            return {"active": token == "right", "email": "tim@example.com"}

        checker: ICredentialsChecker = module["TokenChecker"](introspect)
        return checker

    def test_login(self) -> None:
        authentication = self.authentication(self.checker())
        peer = Peer("192.0.2.1", secure=True)
        exchange = authentication.begin("OAUTHBEARER", peer)
        message = b"n,a=tim@example.com,\x01auth=Bearer right\x01\x01"
        self.assertEqual(self.sender(exchange.respond(message)).identity, "tim@example.com")
        exchange = authentication.begin("OAUTHBEARER", peer)
        self.challenge(exchange.respond(message.replace(b"right", b"wrong")))
        self.refusal(exchange.respond(b"\x01"), 535)
        self.assertEqual(self.threads.used, 0)


class ExternalTests(Base):
    def respond(self, response: bytes) -> Answer:
        der = Issuer().issue("tim").certificate.public_bytes(Encoding.DER)
        peer = Peer("192.0.2.1", secure=True, certificate=der)
        return self.authentication(CertificateNames()).begin("EXTERNAL", peer).respond(response)

    def test_login(self) -> None:
        self.assertEqual(self.sender(self.respond(b"")).identity, "tim")
        self.assertEqual(self.sender(self.respond(b"tim")).identity, "tim")
        self.refusal(self.respond(b"root"), 535)
