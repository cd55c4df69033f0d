from __future__ import annotations

import pwd
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.fakepwd import UserDatabase
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailsvc import passwords
from mailsvc.checkers import (
    Busy,
    CertificateNames,
    ChainedChecker,
    CheckFailed,
    CheckQueue,
    PasswordChecker,
    make_checker,
)
from mailsvc.credentials import (
    IBearerToken,
    IClientCertificate,
    INonBlockingChecker,
    IScramChecker,
    IScramProof,
    credentials_of,
)
from mailsvc.errors import ConfigError
from mailsvc.events import Event
from mailsvc.passwords import PasswordFile
from mailsvc.smtp.sasl import (
    BearerLogin,
    CertificateLogin,
    Credentials,
    DigestLogin,
    PasswordLogin,
)
from mailsvc.smtp.scram import ScramLogin
from tests.issuer import Issuer
from tests.threads import Threads

FEW = 4096


@implementer(ICredentialsChecker)
class Answer:
    """A checker that answers what it is given."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: Callable[[], object]) -> None:
        self.answer = answer
        self.asked = 0

    def requestAvatarId(self, credentials: ICredentials) -> Deferred[bytes | tuple[()]]:
        self.asked += 1
        return cast("Deferred[bytes | tuple[()]]", self.answer())


@implementer(INonBlockingChecker)
class NonBlockingAnswer(Answer):
    pass


def refuse() -> object:
    return fail(UnauthorizedLogin())


def burst() -> object:
    raise RuntimeError("the password is hunter2")


class ChainedCheckerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.threads = Threads()
        self.queue = CheckQueue(self.threads, 2)
        self.events: list[Event] = []

    def ask(self, *checkers: ICredentialsChecker) -> Deferred[bytes | tuple[()]]:
        chain = ChainedChecker(IUsernamePassword, checkers, self.queue, self.events.append)
        verifyObject(ICredentialsChecker, chain)
        return chain.requestAvatarId(credentials_of(PasswordLogin("tim", "pw")))

    def test_the_first_that_knows_the_user(self) -> None:
        last = Answer(lambda: b"never")
        asked = self.ask(Answer(refuse), Answer(lambda: succeed(b"tim")), last)
        self.assertEqual(self.successResultOf(asked), b"tim")
        self.assertEqual(last.asked, 0)
        self.assertEqual(self.threads.used, 2)

    def test_text_and_plain_answers(self) -> None:
        """``unix`` returns text, and a checker need not return a Deferred."""
        self.assertEqual(self.successResultOf(self.ask(Answer(lambda: succeed("tim")))), b"tim")
        self.assertEqual(self.successResultOf(self.ask(Answer(lambda: b"tim"))), b"tim")

    def test_nobody_knows_the_user(self) -> None:
        self.failureResultOf(self.ask(Answer(refuse), Answer(refuse)), UnauthorizedLogin)
        self.failureResultOf(self.ask(Answer(lambda: ())), UnauthorizedLogin)
        self.failureResultOf(self.ask(), UnauthorizedLogin)
        self.assertEqual(self.events, [])

    def test_a_checker_that_fails(self) -> None:
        """Requirement 31: the exception goes to the log, without what it says."""
        self.failureResultOf(self.ask(Answer(burst), Answer(refuse)), CheckFailed)
        line = self.events[0].text()
        self.assertIn("checker Answer failed: RuntimeError at ", line)
        self.assertNotIn("hunter2", line)

    def test_another_checker_makes_up_for_it(self) -> None:
        asked = self.ask(Answer(lambda: fail(ValueError())), Answer(lambda: b"tim"))
        self.assertEqual(self.successResultOf(asked), b"tim")
        self.assertEqual(len(self.events), 1)

    def test_a_late_answer_in_a_thread_is_a_failure(self) -> None:
        self.failureResultOf(self.ask(Answer(Deferred)), CheckFailed)
        self.assertIn("TypeError", self.events[0].text())

    def test_a_late_answer_in_the_reactor(self) -> None:
        late: Deferred[object] = Deferred()
        asked = self.ask(NonBlockingAnswer(lambda: late))
        self.assertNoResult(asked)
        late.callback(b"tim")
        self.assertEqual(self.successResultOf(asked), b"tim")
        self.assertEqual(self.threads.used, 0)

    def test_the_queue_is_bounded(self) -> None:
        self.threads.hold()
        waiting = [self.ask(Answer(lambda: b"tim")) for _ in range(2)]
        self.failureResultOf(self.ask(Answer(lambda: b"tim")), Busy)
        self.threads.release()
        self.assertEqual([self.successResultOf(d) for d in waiting], [b"tim", b"tim"])
        self.assertEqual(self.successResultOf(self.ask(Answer(lambda: b"tim"))), b"tim")

    def test_a_client_that_leaves_keeps_its_place_until_the_thread_is_done(self) -> None:
        self.threads.hold()
        waiting = [self.ask(Answer(lambda: b"tim")) for _ in range(2)]
        for one in waiting:
            one.cancel()
            self.failureResultOf(one, CancelledError)
        self.failureResultOf(self.ask(Answer(lambda: b"tim")), Busy)
        self.threads.release()
        self.assertEqual(self.successResultOf(self.ask(Answer(lambda: b"tim"))), b"tim")
        self.assertEqual(self.events, [])

    def test_a_place_is_given_back_after_a_failure(self) -> None:
        for _ in range(4):
            self.failureResultOf(self.ask(Answer(burst)), CheckFailed)


class CredentialsTests(SynchronousTestCase):
    def test_interfaces(self) -> None:
        table: tuple[tuple[Credentials, type], ...] = (
            (PasswordLogin("tim", "pw"), IUsernamePassword),
            (DigestLogin("tim", b"c", b"d"), IUsernameHashedPassword),
            (BearerLogin("tim", "tok"), IBearerToken),
            (CertificateLogin("tim", b"der"), IClientCertificate),
            (ScramLogin("tim", b"m", bytes(32)), IScramProof),
        )
        for login, interface in table:
            credentials = credentials_of(login)
            verifyObject(interface, credentials)
            self.assertEqual(vars(credentials)["username"], b"tim")

    def test_password(self) -> None:
        credentials = IUsernamePassword(credentials_of(PasswordLogin("tim", "pw")))
        self.assertTrue(credentials.checkPassword(b"pw"))
        self.assertFalse(credentials.checkPassword(b"pW"))

    def test_digest(self) -> None:
        login = DigestLogin(
            "tim",
            b"<1896.697170952@postoffice.reston.mci.net>",
            b"b913a602c7eda7a495b4e6e7334d3890",
        )
        credentials = IUsernameHashedPassword(credentials_of(login))
        self.assertTrue(credentials.checkPassword(b"tanstaaftanstaaf"))
        self.assertFalse(credentials.checkPassword(b"pw"))

    def test_nothing_else(self) -> None:
        class Other:
            user = "tim"

        self.assertRaises(TypeError, credentials_of, Other())


class PasswordCheckerTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = str(directory / "users")
        passwords.add(self.path, "tim", "pencil", FEW)
        self.reports: list[str] = []
        self.checker = PasswordChecker(PasswordFile(self.path, b"key"), self.reports.append)

    def test_interface(self) -> None:
        verifyObject(IScramChecker, self.checker)

    def ask(self, user: str, password: str) -> Deferred[bytes | tuple[()]]:
        credentials = IUsernamePassword(credentials_of(PasswordLogin(user, password)))
        return self.checker.requestAvatarId(credentials)

    def test_passwords(self) -> None:
        self.assertEqual(self.successResultOf(self.ask("tim", "pencil")), b"tim")
        self.failureResultOf(self.ask("tim", "pen"), UnauthorizedLogin)
        self.failureResultOf(self.ask("Tim", "pencil"), UnauthorizedLogin)

    def test_nobody_has_a_password(self) -> None:
        """Requirement 32: even who could guess the salt's key is nobody."""
        self.failureResultOf(self.ask("nobody", "pencil"), UnauthorizedLogin)

    def test_a_changed_file(self) -> None:
        passwords.add(self.path, "ann", "paper", FEW)
        self.assertEqual(self.successResultOf(self.ask("ann", "paper")), b"ann")
        Path(self.path).write_text("nonsense")
        self.assertEqual(self.successResultOf(self.ask("ann", "paper")), b"ann")
        self.assertEqual(len(self.reports), 1)
        self.assertIn("the users stay as they were", self.reports[0])

    def test_salts(self) -> None:
        self.assertEqual(self.checker.salt("tim")[1], FEW)
        self.assertEqual(self.checker.salt("nobody"), self.checker.salt("nobody"))

    def test_scram(self) -> None:
        credentials = IScramProof(credentials_of(ScramLogin("tim", b"m", bytes(32))))
        self.failureResultOf(self.checker.requestAvatarId(credentials), UnauthorizedLogin)


class CertificateNamesTests(SynchronousTestCase):
    def ask(self, der: bytes, user: str = "") -> Deferred[bytes | tuple[()]]:
        credentials = IClientCertificate(credentials_of(CertificateLogin(user, der)))
        checker = CertificateNames()
        verifyObject(INonBlockingChecker, checker)
        return checker.requestAvatarId(credentials)

    def der(self, common: str, *emails: str) -> bytes:
        names = [x509.RFC822Name(email) for email in emails]
        issued = Issuer().issue(common, names)
        return issued.certificate.public_bytes(Encoding.DER)

    def test_addresses_come_before_the_common_name(self) -> None:
        der = self.der("tim", "tim@example.com", "t@example.com")
        self.assertEqual(self.successResultOf(self.ask(der)), b"tim@example.com")
        self.assertEqual(self.successResultOf(self.ask(der, "t@example.com")), b"t@example.com")
        self.assertEqual(self.successResultOf(self.ask(der, "tim")), b"tim")
        self.failureResultOf(self.ask(der, "root"), UnauthorizedLogin)

    def test_common_name_only(self) -> None:
        self.assertEqual(self.successResultOf(self.ask(self.der("tim"))), b"tim")

    def test_no_name(self) -> None:
        self.failureResultOf(self.ask(self.der("")), UnauthorizedLogin)


class MakeCheckerTests(SynchronousTestCase):
    def ask(self, checker: ICredentialsChecker, login: Credentials) -> Deferred[bytes | tuple[()]]:
        queue = CheckQueue(Threads(), 4)
        chain = ChainedChecker(IUsernamePassword, [checker], queue, self.fail)
        return chain.requestAvatarId(credentials_of(login))

    def test_memory(self) -> None:
        """Twisted's ``memory:`` is made of text; it takes our octets all the same."""
        checker = make_checker("memory:tim:pencil:\u00e5sa:\u00f6l")
        for user, password in (("tim", "pencil"), ("\u00e5sa", "\u00f6l")):
            asked = self.ask(checker, PasswordLogin(user, password))
            self.assertEqual(self.successResultOf(asked), user.encode())
        self.failureResultOf(self.ask(checker, PasswordLogin("tim", "pen")), UnauthorizedLogin)

    def test_file(self) -> None:
        path = Path(self.mktemp())
        path.write_text("tim:pencil\n")
        missing = self.assertRaises(ConfigError, make_checker, f"file:{path}.gone")
        self.assertIn("cannot be read: No such file", str(missing))
        checker = make_checker(f"file:{path}")
        asked = self.ask(checker, PasswordLogin("tim", "pencil"))
        self.assertEqual(self.successResultOf(asked), b"tim")

    def test_unix(self) -> None:
        """The machine's accounts; their passwords are compared as login does."""
        if find_spec("crypt") is None:
            raise SkipTest("Python has no crypt since 3.13, and Twisted's checker needs it")
        accounts = UserDatabase()
        known = "$5$saltsalt$hl9BvcGsj7AkON13nbqeQHDgRpHyFxt7WDzLoS.OCQ/"
        accounts.addUser("tim", known, 1000, 1000, "", "/", "/bin/sh")
        self.patch(pwd, "getpwnam", accounts.getpwnam)
        checker = make_checker("unix")
        self.assertIn(IUsernamePassword, checker.credentialInterfaces)
        asked = self.ask(checker, PasswordLogin("tim", "pencil"))
        self.assertEqual(self.successResultOf(asked), b"tim")
        for user, password in (("tim", "pen"), ("ann", "pencil"), ("tim", "")):
            asked = self.ask(checker, PasswordLogin(user, password))
            self.failureResultOf(asked, UnauthorizedLogin)

    def test_unknown(self) -> None:
        wrong = self.assertRaises(ConfigError, make_checker, "memry:tim:pencil")
        self.assertIn("no checker 'memry'; installed are ", str(wrong))
        self.assertIn("memory", str(wrong))
        self.assertNotIn("pencil", str(wrong))

    def test_bad_arguments(self) -> None:
        wrong = self.assertRaises(ConfigError, make_checker, "memory:tim:pencil:ann")
        self.assertIn("checker 'memory' cannot be made", str(wrong))
        self.assertNotIn("pencil", str(wrong))

    def test_of_no_use(self) -> None:
        wrong = self.assertRaises(ConfigError, make_checker, "anonymous")
        self.assertIn("'anonymous' checks nothing", str(wrong))
