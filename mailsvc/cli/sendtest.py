"""``mailsvc send-test``: one mail through the running server, and what becomes of it."""

from __future__ import annotations

import re
import smtplib
import ssl
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from email.utils import formatdate, make_msgid

from mailsvc.cli.places import directory_of, servers
from mailsvc.cli.screen import OK, PROBLEM, CommandError, Screen
from mailsvc.control import protocol as wire
from mailsvc.control.client import ControlClient
from mailsvc.spool.view import MessageDetail
from mailsvc.wording import printable

#: Seconds between two looks at what became of the mail.
_LOOK = 0.1

#: Seconds that the server may take for each command.
_TIMEOUT = 60.0

_MESSAGE_ID = re.compile(rb"\bOK ([0-9A-Za-z]{1,32})\b")

#: Which listener a test uses first: those that anyone may use.
_PREFERENCE = ("mx", "lmtp", "submission")


def add_commands(add: Callable[..., ArgumentParser]) -> None:
    """Add the commands of this module."""
    made = add("send-test", send_test, "send a mail through the running server")
    made.add_argument("address", metavar="ADDRESS", help="the recipient")
    made.add_argument(
        "--from", dest="sender", metavar="ADDRESS", help="the sender (default: mailsvc-test@...)"
    )
    made.add_argument("--user", metavar="NAME", help="log in; the password is asked for")
    made.add_argument(
        "--wait",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="wait for the deliveries (default: 10)",
    )


class _LocalSMTP(smtplib.LMTP):
    """SMTP over a Unix socket, which the standard library knows for LMTP only."""

    ehlo_msg = "ehlo"


class _Dialogue:
    """A conversation with the server, printed as it goes."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.steps: list[dict[str, object]] = []

    def step(self, command: str, answer: tuple[int, bytes]) -> tuple[int, bytes]:
        """Print a command with its reply, and return the reply."""
        code, text = answer
        reply = text.decode("utf-8", "replace")
        self.steps.append({"command": command, "code": code, "reply": reply})
        self._screen.line(f"{printable(command)}: {code} {printable(reply)}")
        return answer


def send_test(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc send-test``."""
    for each in (arguments.address, arguments.sender or ""):
        if re.search(r"[\x00-\x20\x7f<>]", each):
            raise CommandError(f"{printable(each)!r} is no address")
    directory = directory_of(arguments)
    with servers(directory) as clients:
        if not clients:
            raise CommandError(f"no server runs on the spool {directory}")
        listener = _choose(
            clients[0].ask(wire.AskListeners(), tuple[wire.ListenerReport, ...]), arguments
        )
        dialogue = _Dialogue(screen)
        screen.line(f"{listener.where} ({listener.role}, TLS: {listener.tls})")
        try:
            code, text = _send(arguments, screen, listener, dialogue)
        except (OSError, smtplib.SMTPException) as error:
            raise CommandError(f"{listener.where}: {error}") from None
        found = _MESSAGE_ID.search(text)
        message_id = found[1].decode() if found and 200 <= code < 300 else ""
        if not message_id:
            screen.value({"listener": listener, "steps": dialogue.steps, "accepted": False})
            return PROBLEM
        detail, delivered = _follow(clients[0], message_id, arguments.wait)
    screen.value(
        {
            "listener": listener,
            "steps": dialogue.steps,
            "accepted": True,
            "id": message_id,
            "delivered": delivered,
            "deliveries": detail.entries if detail else (),
        }
    )
    return _tell(screen, message_id, detail, delivered)


def _choose(listeners: Sequence[wire.ListenerReport], arguments: Namespace) -> wire.ListenerReport:
    """Return the listener that a test can use best.

    :raises CommandError: none can be used.
    """
    usable = [each for each in listeners if not each.proxy]
    if not usable:
        raise CommandError("the server has no listener that takes connections without a proxy")
    if arguments.user:
        order = ("submission", "mx", "lmtp")
        usable.sort(key=lambda each: (each.tls == "none", order.index(each.role)))
    else:
        usable.sort(key=lambda each: (_PREFERENCE.index(each.role), each.tls == "implicit"))
    return usable[0]


def _connect(listener: wire.ListenerReport) -> smtplib.SMTP:
    """Return a connection; the certificate is not checked: this is about this machine."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if listener.where.startswith("/"):
        kind = smtplib.LMTP if listener.role == "lmtp" else _LocalSMTP
        return kind(listener.where)
    host, _, port = listener.where.rpartition(":")
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    if listener.tls == "implicit":
        return smtplib.SMTP_SSL(host, int(port), context=context, timeout=_TIMEOUT)
    if listener.role == "lmtp":
        return smtplib.LMTP(host, int(port), timeout=_TIMEOUT)
    return smtplib.SMTP(host, int(port), timeout=_TIMEOUT)


def _send(
    arguments: Namespace, screen: Screen, listener: wire.ListenerReport, dialogue: _Dialogue
) -> tuple[int, bytes]:
    """Hand the mail in; return the last reply."""
    step = dialogue.step
    with _connect(listener) as server:
        server.ehlo()
        if listener.tls == "starttls":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if step("STARTTLS", server.starttls(context=context))[0] != 220:
                return 0, b""
            server.ehlo()
        if arguments.user:
            password = screen.secret(f"Password for {printable(arguments.user)}: ")
            try:
                step("AUTH", server.login(arguments.user, password))
            except smtplib.SMTPAuthenticationError as error:
                return step("AUTH", (error.smtp_code, _octets(error.smtp_error)))
        name = (server.ehlo_resp or b"localhost").split()[0].decode("ascii", "replace")
        sender = f"mailsvc-test@{name}" if arguments.sender is None else arguments.sender
        options = [] if (sender + arguments.address).isascii() else ["SMTPUTF8"]
        if options:
            server.command_encoding = "utf-8"
        answer = step(f"MAIL FROM:<{sender}>", server.mail(sender, options))
        if answer[0] != 250:
            return answer
        answer = step(f"RCPT TO:<{arguments.address}>", server.rcpt(arguments.address))
        if answer[0] not in (250, 251):
            return answer
        try:
            return step("DATA", server.data(_mail(sender, arguments.address, name)))
        except smtplib.SMTPDataError as error:
            return step("DATA", (error.smtp_code, _octets(error.smtp_error)))


def _octets(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")


def _mail(sender: str, recipient: str, name: str) -> bytes:
    lines = (
        f"From: mailsvc <{sender or f'mailsvc-test@{name}'}>",
        f"To: <{recipient}>",
        "Subject: A test of mailsvc",
        f"Date: {formatdate(localtime=True)}",
        f"Message-ID: {make_msgid(domain=name)}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        "This mail was sent by: mailsvc send-test",
        "",
    )
    return "\r\n".join(lines).encode("utf-8")


def _follow(
    client: ControlClient, message_id: str, seconds: float
) -> tuple[MessageDetail | None, bool]:
    """Look until all is delivered, something has failed, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        detail: MessageDetail | None = client.ask(wire.AskMessage(message_id), MessageDetail | None)
        entries = detail.entries if detail else ()
        if not entries:
            return detail, True
        if time.monotonic() >= deadline or all(each.reason for each in entries):
            return detail, False
        time.sleep(_LOOK)


def _tell(screen: Screen, message_id: str, detail: MessageDetail | None, delivered: bool) -> int:
    if delivered:
        screen.line(f"accepted as {message_id} and delivered")
        return OK
    screen.line(f"accepted as {message_id}; not delivered yet:")
    entries = detail.entries if detail else ()
    for each in entries:
        reason = f": {each.reason}" if each.reason else ""
        screen.line(f"  {each.id} to {printable(each.destination)} {each.state}{printable(reason)}")
    return PROBLEM if any(each.reason for each in entries) else OK
