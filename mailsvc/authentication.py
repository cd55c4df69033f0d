"""Logins through a ``twisted.cred`` portal, one step of AUTH at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import (
    ICredentials,
    IUsernameHashedPassword,
    IUsernamePassword,
)
from twisted.cred.error import LoginFailed, Unauthorized
from twisted.cred.portal import Portal
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import Interface

from mailsvc.checkers import SERVED, Busy, ChainedChecker, CheckFailed, CheckQueue, where
from mailsvc.credentials import (
    IBearerToken,
    IClientCertificate,
    IScramChecker,
    IScramProof,
    credentials_of,
)
from mailsvc.errors import Refused
from mailsvc.events import Alert, CommandRefused, Emit
from mailsvc.interfaces import ISender
from mailsvc.message import Reply
from mailsvc.penalties import Penalties, delay
from mailsvc.realm import Realm
from mailsvc.smtp.mechanisms import MECHANISMS
from mailsvc.smtp.sasl import (
    BearerLogin,
    CertificateLogin,
    Channel,
    Credentials,
    Denied,
    Exchange,
    Malformed,
    SaltAsked,
)
from mailsvc.threads import InThread
from mailsvc.turns import Turns

#: RFC 4954 section 6.
FAILED = Reply(535, "Authentication credentials invalid", "5.7.8")
UNAVAILABLE = Reply(454, "Temporary authentication failure", "4.7.0")
MALFORMED = Reply(501, "Malformed authentication response", "5.5.2")
UNKNOWN = Reply(504, "Unrecognized authentication type", "5.5.4")
TOO_MANY = Reply(421, "Too many failed logins", "4.7.0")

#: The credentials that each mechanism brings: it is offered where a checker serves them.
_BRINGS: dict[str, type[Interface]] = {
    "EXTERNAL": IClientCertificate,
    "SCRAM-SHA-256-PLUS": IScramProof,
    "SCRAM-SHA-256": IScramProof,
    "OAUTHBEARER": IBearerToken,
    "XOAUTH2": IBearerToken,
    "CRAM-MD5": IUsernameHashedPassword,
    "PLAIN": IUsernamePassword,
    "LOGIN": IUsernamePassword,
}
#: The credentials that are made of a user's password.
_OF_SECRETS = frozenset({IUsernamePassword, IUsernameHashedPassword, IScramProof})
#: Those that send no secret that an eavesdropper could use as it is.
_WITHOUT_TLS = frozenset({"SCRAM-SHA-256", "CRAM-MD5"})
#: Those that send the password itself: without TLS only where the operator says so.
_PLAINTEXT = frozenset({"PLAIN", "LOGIN"})


@dataclass(slots=True)
class Peer:
    """What authentication knows of one connection; the protocol keeps it up to date.

    :ivar host: the peer's IP address; empty for a Unix socket.
    :ivar secure: whether TLS is on.
    :ivar bindings: returns the channel bindings of TLS (RFC 5056) by name; asked only for SCRAM.
    :ivar certificate: the client's certificate as DER, if TLS verified it.
    :ivar failures: failed logins so far.
    :ivar tls: version and cipher of TLS, each empty without it.
    """

    host: str = ""
    secure: bool = False
    bindings: Callable[[], Mapping[str, bytes]] = field(default=dict)
    certificate: bytes | None = None
    failures: int = 0
    tls: tuple[str, str] = ("", "")


class Login:
    """Somebody is logged in until :meth:`logout`, which may be called twice."""

    __slots__ = ("_logout", "sender")

    def __init__(self, sender: ISender, logout: Callable[[], None]) -> None:
        self.sender = sender
        self._logout: Callable[[], None] | None = logout

    def logout(self) -> None:
        """End it."""
        logout, self._logout = self._logout, None
        if logout is not None:
            logout()


class Authentication:
    """The portal, the mechanisms that its checkers can serve, and what failures cost.

    :param hostname: the name that this server goes by.
    :param checkers: asked in this order; with none there is only the anonymous sender.
    :param clock: for the delays.
    :param in_thread: runs a check in one of a few threads.
    :param waiting: how many checks may wait for a thread; more are told to come back.
    :param cleartext: whether PLAIN and LOGIN are taken without TLS.
    :param cram_md5: whether CRAM-MD5 is offered where a checker knows plain passwords.
    :param own_senders: see :class:`Sender`.
    """

    def __init__(
        self,
        hostname: str,
        checkers: Sequence[ICredentialsChecker],
        *,
        clock: IReactorTime,
        in_thread: InThread,
        emit: Emit,
        penalties: Penalties | None = None,
        waiting: int = 32,
        cleartext: bool = False,
        cram_md5: bool = False,
        own_senders: bool = False,
    ) -> None:
        self.hostname = hostname
        self.clock = clock
        self.emit = emit
        self.penalties = penalties or Penalties(clock.seconds)
        self.queue = CheckQueue(in_thread, waiting)
        self.turns = Turns()
        self.realm = Realm(own=own_senders)
        self.portal = Portal(self.realm)
        self.salts = [IScramChecker(c) for c in checkers if IScramChecker.providedBy(c)][:1]
        self._cleartext = cleartext
        served: set[type[Interface]] = set()
        secrets = [c for c in checkers if not _OF_SECRETS.isdisjoint(c.credentialInterfaces)]
        for interface in SERVED:
            serving = [c for c in checkers if interface in c.credentialInterfaces]
            if interface is IScramProof:
                # The salt that was sent is one checker's, so the proof is its to check.
                serving = [c for c in serving if c in self.salts]
            if interface in _OF_SECRETS and serving != secrets:
                # A client picks one mechanism and does not try the next: with this one, the users
                # of the other checkers could not log in.
                continue
            if serving:
                served.add(interface)
                self.portal.registerChecker(ChainedChecker(interface, serving, self.queue, emit))
        self._offered = tuple(
            name
            for name in MECHANISMS
            if _BRINGS[name] in served and (cram_md5 or name != "CRAM-MD5")
        )

    def mechanisms(self, secure: bool, certificate: bool = False) -> tuple[str, ...]:
        """Return the mechanisms to announce, strongest first.

        :param secure: whether TLS is on.
        :param certificate: whether the client presented a certificate that was verified.
        """
        return tuple(name for name in self._offered if self._allowed(name, secure, certificate))

    def _allowed(self, mechanism: str, secure: bool, certificate: bool) -> bool:
        if mechanism == "EXTERNAL":
            return secure and certificate
        if secure or mechanism in _WITHOUT_TLS:
            return True
        return self._cleartext and mechanism in _PLAINTEXT

    async def login(self, credentials: ICredentials, peer: Peer) -> Login:
        """Return what the portal makes of ``credentials``; raises what it fails with."""
        _, avatar, logout = await self.portal.login(credentials, peer, ISender)
        return Login(ISender(avatar), logout)

    def anonymous(self) -> tuple[ISender, Callable[[], None]]:
        """Return the avatar of a connection that has not said who it is, and its logout.

        Every connection begins with it, and no checker is to be asked, so it does not take the
        portal's way to the realm.
        """
        return self.realm.admit(None)

    def begin(self, mechanism: str, peer: Peer) -> LoginExchange:
        """Start an exchange.

        :param mechanism: upper case.
        :raises Refused: 504, it is not offered on this connection.
        """
        if mechanism not in self.mechanisms(peer.secure, peer.certificate is not None):
            raise Refused(UNKNOWN)
        bindings = peer.bindings() if _BRINGS[mechanism] is IScramProof else {}
        channel = Channel(self.hostname, bindings, peer.certificate)
        return LoginExchange(self, mechanism, MECHANISMS[mechanism](channel), peer)


class LoginExchange:
    """One AUTH command on one connection, from its first response to its login's end.

    It logs its own refusals, by the user's name.

    :ivar user: whom the client claims to be, once it has said so.
    """

    def __init__(
        self, authentication: Authentication, mechanism: str, exchange: Exchange, peer: Peer
    ) -> None:
        self.user = ""
        self._authentication = authentication
        self._mechanism = mechanism
        self._exchange = exchange
        self._peer = peer
        self._began = 0.0
        self._login: Login | None = None
        self._refusal: Reply | None = None
        self._closed = False

    async def respond(self, response: bytes | None) -> bytes | ISender:
        """Take the client's decoded response; None: AUTH came without an initial one.

        :return: the next challenge, or the avatar of whom the client is now.
        :raises Refused: the exchange is over: 535, 454, 501 or, after too many failures, 421.  The
            delay of a failure is over by then.
        """
        if self._refusal is not None:
            raise Refused(self._refusal)
        if self._login is not None:
            if response:
                self.close()
                raise Refused(MALFORMED)
            return self._login.sender
        self._began = self._authentication.clock.seconds()
        try:
            step = self._exchange.respond(response)
        except Malformed as malformed:
            raise Refused(MALFORMED, str(malformed)) from None
        except Denied as denied:
            self.user = denied.user
            await self._wait()
            return await self._fail(str(denied))
        if isinstance(step, bytes):
            return step
        self.user = step.user
        if isinstance(step, SaltAsked):
            return self._exchange.salted(*await self._salt())
        return await self._check(step)

    def close(self) -> None:
        """Forget the exchange, log out whom it logged in: at the connection's end, at STARTTLS."""
        self._closed = True
        if self._login is not None:
            self._login.logout()

    async def _salt(self) -> tuple[bytes, int]:
        """Return the user's salt and iterations."""
        authentication = self._authentication
        try:
            return await authentication.queue.run(partial(authentication.salts[0].salt, self.user))
        except CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, Busy):
                authentication.emit(Alert(f"no salt for a login: {where(error)}"))
            raise self._unavailable("no salt") from None

    async def _check(self, given: Credentials) -> bytes | ISender:
        """Ask the portal."""
        penalties, host = self._authentication.penalties, self._peer.host
        await self._wait()
        try:
            login = await self._in_turn(given)
        except (Refused, CancelledError):
            raise
        except (Unauthorized, LoginFailed):
            return await self._fail("the checkers said no")
        except Exception as error:
            if not isinstance(error, (Busy, CheckFailed)):
                self._authentication.emit(Alert(f"a login failed: {where(error)}"))
            penalties.forgive(host, self.user)
            raise self._unavailable(where(error)) from None
        if self._closed:
            login.logout()
            raise Refused(UNAVAILABLE, "the connection is gone")
        identity = login.sender.identity
        claimed = given.user if isinstance(given, (BearerLogin, CertificateLogin)) else ""
        if identity is None or (claimed and identity != claimed):
            login.logout()
            return await self._fail("the checker named somebody else")
        penalties.succeeded(host, self.user)
        self._login = login
        final = self._exchange.succeeded()
        return login.sender if final is None else final

    async def _in_turn(self, given: Credentials) -> Login:
        """Ask the portal, once those before in the lines of address and user have been checked."""
        authentication = self._authentication

        async def ask() -> Login:
            if self._closed:
                raise Refused(UNAVAILABLE, "the connection is gone")
            # Like the wait for what earlier failures cost, the line tells nothing of the check.
            self._began = authentication.clock.seconds()
            return await authentication.login(credentials_of(given), self._peer)

        lines = authentication.penalties.lines(self._peer.host, self.user)
        return await authentication.turns.take(*lines, ask)

    async def _wait(self) -> None:
        """Count the attempt and wait for what earlier ones have cost.

        :raises Refused: 421, the address is turned away.
        """
        wait = self._authentication.penalties.begin(self._peer.host, self.user)
        if wait is None:
            self._log(TOO_MANY)
            raise Refused(TOO_MANY, "too many failures from this address")
        if wait:
            await deferLater(self._authentication.clock, wait)
            self._began = self._authentication.clock.seconds()

    async def _fail(self, cause: str) -> bytes:
        """Answer a failed login, late: the same for whatever it failed (requirements 32, 33)."""
        rules, peer = self._authentication.penalties.rules, self._peer
        peer.failures += 1
        step = delay(peer.failures, rules.first, rules.most)
        since = self._authentication.clock.seconds() - self._began
        if step:
            # A check that took longer is answered at the next step, not when it was done.
            until = max(step, -(-since // step) * step)
            await deferLater(self._authentication.clock, until - since)
        reply = TOO_MANY if peer.failures >= rules.connection else FAILED
        self._log(reply)
        last = self._exchange.failed()
        if last is None:
            raise Refused(reply, cause)
        self._refusal = reply
        return last

    def _unavailable(self, cause: str) -> Refused:
        self._log(UNAVAILABLE)
        return Refused(UNAVAILABLE, cause)

    def _log(self, reply: Reply) -> None:
        self._authentication.emit(
            CommandRefused(self._peer.host, f"AUTH {self._mechanism}", self.user, str(reply))
        )
