"""The commands, each a function of the conversation and its argument, and the table of them.

A command is called only in a state where :data:`mailsvc.smtp.states.ORDER` lets it be, except BDAT,
whose octets must be read in any state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from mailsvc.message import Reply
from mailsvc.smtp import grammar, login, replies, transfer
from mailsvc.smtp.conversation import Conversation
from mailsvc.smtp.parameters import read_mail, read_recipient
from mailsvc.smtp.policy import Policy
from mailsvc.smtp.questions import Answer, Declined, RecipientAsked, SenderAsked, VerifyAsked
from mailsvc.smtp.states import ORDER, Move


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    :ivar run: called with the conversation and what follows the verb and a space.
    :ivar order: the row of ``ORDER``: for each state None, or the reply.
    :ivar help: for ``HELP verb``.
    """

    run: Callable[[Conversation, bytes], None]
    order: tuple[bytes | None, ...]
    help: str


def _greeting(talk: Conversation, argument: bytes, *, lmtp: bool, extended: bool) -> bool:
    """Do what EHLO, HELO and LHLO have in common; say whether the command was right."""
    if lmtp != (talk.policy.role == "lmtp"):
        # RFC 2033 section 4.1: EHLO and HELO are not LMTP's, nor is LHLO SMTP's.
        talk.error(replies.UNKNOWN_COMMAND)
        return False
    name = _host(argument)
    if not name:
        talk.error(replies.HELLO_SYNTAX)
        return False
    talk.reset()
    talk.move(Move.GREETED)
    talk.helo = name
    talk.extended = extended
    return True


@lru_cache(maxsize=1024)
def _host(argument: bytes) -> str:
    """Return the name that a client gives, or nothing if it is none; its connections share it."""
    name = argument.decode("latin-1")
    return name if grammar.is_host(name) else ""


def helo(talk: Conversation, argument: bytes) -> None:
    """HELO, RFC 5321 section 4.1.1.1."""
    if _greeting(talk, argument, lmtp=False, extended=False):
        talk.say(Reply(250, talk.policy.hostname))


def ehlo(talk: Conversation, argument: bytes) -> None:
    """EHLO, RFC 5321 section 4.1.1.1."""
    if _greeting(talk, argument, lmtp=False, extended=True):
        talk.send(_extended(talk.policy, talk.secure, talk.authenticated))


def lhlo(talk: Conversation, argument: bytes) -> None:
    """LHLO, RFC 2033 section 4.1."""
    if _greeting(talk, argument, lmtp=True, extended=True):
        talk.send(_extended(talk.policy, talk.secure, talk.authenticated))


@lru_cache(maxsize=64)
def _extended(policy: Policy, secure: bool, authenticated: bool) -> bytes:
    """Return the reply to EHLO, which most connections share."""
    return Reply(250, "\n".join(_extensions(policy, secure, authenticated))).encode()


def _extensions(policy: Policy, secure: bool, authenticated: bool) -> Iterator[str]:
    """Yield the lines of the reply to EHLO: exactly what works in the present state."""
    yield policy.hostname
    yield "PIPELINING"  # RFC 2920
    yield f"SIZE {policy.message_size}"  # RFC 1870
    yield "8BITMIME"  # RFC 6152
    yield "SMTPUTF8"  # RFC 6531
    yield "CHUNKING"  # RFC 3030
    yield "BINARYMIME"  # RFC 3030
    yield "ENHANCEDSTATUSCODES"  # RFC 2034
    if policy.notifications:
        yield "DSN"  # RFC 3461
    if policy.starttls and not secure:
        yield "STARTTLS"  # RFC 3207
    if not authenticated:
        mechanisms = login.offered(policy, secure=secure)
        if mechanisms:
            yield "AUTH " + " ".join(mechanisms)  # RFC 4954
    if policy.requiretls and secure:
        yield "REQUIRETLS"  # RFC 8689
    # RFC 9422
    mails = f"MAILMAX={policy.messages} " if policy.messages else ""
    yield f"LIMITS {mails}RCPTMAX={policy.recipients}"
    if _may_verify(policy, authenticated):
        yield "VRFY"
    yield "HELP"


def mail(talk: Conversation, argument: bytes) -> None:
    """MAIL, RFC 5321 section 4.1.1.2."""
    policy = talk.policy
    if policy.auth_required and not talk.authenticated:
        # RFC 4954 section 6.
        _decline(talk, "MAIL", argument, replies.AUTH_REQUIRED)
        return
    if policy.messages and talk.transactions >= policy.messages:
        talk.end(replies.TOO_MANY_MESSAGES)
        return
    text = _text(argument)
    start = -1 if text is None else _path_start(text, "FROM:")
    if text is None or start < 0:
        fault = replies.NOT_UTF8 if text is None else replies.MAIL_SYNTAX
        _decline(talk, "MAIL", argument, fault)
        return
    path = grammar.parse_path(text, start)
    if path is None:
        _decline(talk, "MAIL", argument, replies.BAD_SENDER)
        return
    found = read_mail(text[path.end :], policy, secure=talk.secure)
    if isinstance(found, bytes):
        _decline(talk, "MAIL", argument, found)
        return
    if not found.smtputf8 and not text.isascii():
        _decline(talk, "MAIL", argument, replies.NEEDS_SMTPUTF8)
        return
    if found.size is not None and found.size > policy.message_size:
        _decline(talk, "MAIL", argument, replies.DECLARED_TOO_LARGE, bad=False)
        return
    talk.utf8 = found.smtputf8
    talk.body = found.body
    # A source route of the sender is not kept (RFC 5321 appendix C).
    question = SenderAsked(
        path.address,
        found.size,
        found.body,
        found.smtputf8,
        found.require_tls,
        found.ret,
        found.envid,
        found.auth,
    )
    talk.ask(question, _sender_answered)


def _sender_answered(talk: Conversation, answer: Answer) -> None:
    if answer is None:
        talk.send(replies.SENDER_OK)
    else:
        reply = cast(Reply, answer)
        talk.say(reply)
        if reply.code >= 300:
            talk.finish()
            return
    talk.move(Move.SENDER_ACCEPTED)
    talk.transactions += 1


def rcpt(talk: Conversation, argument: bytes) -> None:
    """RCPT, RFC 5321 section 4.1.1.3."""
    text = _text(argument)
    start = -1 if text is None else _path_start(text, "TO:")
    if text is None or start < 0:
        fault = replies.NOT_UTF8 if text is None else replies.RCPT_SYNTAX
        _decline(talk, "RCPT", argument, fault)
        return
    path = grammar.parse_path(text, start) or grammar.parse_postmaster(text, start)
    if path is None or path.address is None:
        _decline(talk, "RCPT", argument, replies.BAD_RECIPIENT)
        return
    found = read_recipient(text[path.end :], talk.policy)
    if isinstance(found, bytes):
        _decline(talk, "RCPT", argument, found)
    elif not talk.utf8 and not text.isascii():
        _decline(talk, "RCPT", argument, replies.NEEDS_SMTPUTF8)
    elif path.routed:
        # Following it would be relaying; ignoring it would deliver elsewhere than was asked.
        _decline(talk, "RCPT", argument, replies.SOURCE_ROUTE, bad=False)
    elif talk.recipients >= talk.policy.recipients:
        # RFC 5321 section 4.5.3.1.10.
        _decline(talk, "RCPT", argument, replies.TOO_MANY_RECIPIENTS, bad=False)
    else:
        question = RecipientAsked(path.address, found.notify, found.orcpt)
        talk.ask(question, _recipient_answered)


def _recipient_answered(talk: Conversation, answer: Answer) -> None:
    if answer is None:
        talk.send(replies.RECIPIENT_OK)
    else:
        reply = cast(Reply, answer)
        if reply.code >= 500 and talk.guessed():
            return
        talk.say(reply)
        if reply.code >= 300:
            return
    talk.recipients += 1
    talk.move(Move.RECIPIENT_ACCEPTED)


def _text(argument: bytes) -> str | None:
    """Decode an argument; None: it is not UTF-8 (RFC 6531 section 3.3)."""
    try:
        return argument.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _decline(
    talk: Conversation, verb: str, argument: bytes, reply: bytes, *, bad: bool = True
) -> None:
    """Refuse a MAIL or RCPT, and tell the owner; ``bad`` ones count as errors."""
    talk.tell(Declined(verb, argument, reply))
    if bad:
        talk.error(reply)
    else:
        talk.send(reply)


def _path_start(text: str, keyword: str) -> int:
    """Return where the path begins behind ``FROM:`` or ``TO:``, or -1.

    RFC 5321 section 3.3 has no space there, but many clients put one.
    """
    start = len(keyword)
    if text[:start].upper() != keyword:
        return -1
    while text[start : start + 1] == " ":
        start += 1
    return start


def rset(talk: Conversation, argument: bytes) -> None:
    """RSET, RFC 5321 section 4.1.1.5."""
    if argument:
        talk.error(replies.NO_ARGUMENT)
        return
    talk.reset()
    talk.send(replies.RESET)


def noop(talk: Conversation, argument: bytes) -> None:
    """NOOP, RFC 5321 section 4.1.1.9: its argument means nothing."""
    talk.send(replies.NOTHING_DONE)


def quit_(talk: Conversation, argument: bytes) -> None:
    """QUIT, RFC 5321 section 4.1.1.10."""
    if argument:
        talk.error(replies.NO_ARGUMENT)
        return
    talk.reset()
    talk.end(replies.BYE)


def _may_verify(policy: Policy, authenticated: bool) -> bool:
    return policy.vrfy == "anyone" or (policy.vrfy == "authenticated" and authenticated)


def vrfy(talk: Conversation, argument: bytes) -> None:
    """VRFY, RFC 5321 sections 3.5 and 7.3: the same reply for every name, unless allowed."""
    text = _text(argument)
    if text is None:
        talk.error(replies.NOT_UTF8)
        return
    # RFC 6531 section 3.7.4.2: the reply may hold UTF-8 only then.
    name, _, word = text.rpartition(" ")
    utf8 = word.upper() == "SMTPUTF8" and bool(name.strip())
    if utf8:
        text = name
    text = text.strip(" ")
    if not text or not (utf8 or text.isascii()) or not text.isprintable():
        talk.error(replies.VRFY_SYNTAX)
    elif not _may_verify(talk.policy, talk.authenticated):
        talk.send(replies.CANNOT_VERIFY)
    else:
        talk.ask(VerifyAsked(text), _verified_utf8 if utf8 else _verified)


def _verified(talk: Conversation, answer: Answer, *, utf8: bool = False) -> None:
    if not isinstance(answer, Reply):
        raise TypeError(f"not an answer to VRFY: {answer!r}")
    if answer.code == 421:
        talk.say(answer)
    elif answer.code < 500 or not talk.guessed():
        talk.send(answer.encode(utf8=utf8))


def _verified_utf8(talk: Conversation, answer: Answer) -> None:
    _verified(talk, answer, utf8=True)


def expn(talk: Conversation, argument: bytes) -> None:
    """EXPN, RFC 5321 section 3.5.2: there are no lists here."""
    talk.error(replies.NO_EXPN)


def help_(talk: Conversation, argument: bytes) -> None:
    """HELP, RFC 5321 section 4.1.1.8."""
    topic = argument.strip(b" ").upper()
    command = COMMANDS.get(topic)
    others = (b"HELO", b"EHLO") if talk.policy.role == "lmtp" else (b"LHLO",)
    if not topic:
        verbs = " ".join(verb.decode("ascii") for verb in COMMANDS if verb not in others)
        talk.say(Reply(214, f"Commands: {verbs}\nHELP command tells more", "2.0.0"))
    elif command is not None and topic not in others:
        talk.say(Reply(214, command.help, "2.0.0"))
    else:
        talk.error(replies.NO_HELP)


def starttls(talk: Conversation, argument: bytes) -> None:
    """STARTTLS, RFC 3207."""
    if talk.secure:
        talk.error(replies.ALREADY_SECURE)
    elif not talk.policy.starttls:
        talk.error(replies.NO_STARTTLS)
    elif argument:
        talk.error(replies.NO_ARGUMENT)
    elif talk.has_input():
        # Section 4.2: what was sent in clear must not count as sent under TLS.
        talk.refuse_residue()
    else:
        talk.start_tls()


_TEXTS: dict[bytes, tuple[Callable[[Conversation, bytes], None], str]] = {
    b"HELO": (helo, "HELO host: greet without extensions"),
    b"EHLO": (ehlo, "EHLO host: greet; the reply lists the extensions that work now"),
    b"LHLO": (lhlo, "LHLO host: greet on LMTP; the reply lists the extensions that work now"),
    b"MAIL": (
        mail,
        "MAIL FROM:<address> [SIZE=n] [BODY=7BIT|8BITMIME|BINARYMIME] [SMTPUTF8] [RET=FULL|HDRS]\n"
        "[ENVID=xtext] [AUTH=xtext] [REQUIRETLS]: begin a message; <> is the null sender",
    ),
    b"RCPT": (
        rcpt,
        "RCPT TO:<address> [NOTIFY=NEVER|SUCCESS,FAILURE,DELAY] [ORCPT=type;xtext]:\n"
        "add a recipient",
    ),
    b"DATA": (transfer.data, "DATA: send the content; a line with only a dot ends it"),
    b"BDAT": (transfer.bdat, "BDAT octets [LAST]: send a chunk of the content, framed by count"),
    b"RSET": (rset, "RSET: forget the message that was begun"),
    b"VRFY": (vrfy, "VRFY address: ask whether mail for an address is taken"),
    b"EXPN": (expn, "EXPN list: not available"),
    b"HELP": (help_, "HELP [command]: tell about the commands, or about one"),
    b"NOOP": (noop, "NOOP: do nothing"),
    b"QUIT": (quit_, "QUIT: close the connection"),
    b"AUTH": (login.auth, "AUTH mechanism [initial-response]: say who you are, in base64"),
    b"STARTTLS": (starttls, "STARTTLS: go on under TLS, from a new greeting"),
}

#: The commands by verb, upper case.
COMMANDS: dict[bytes, Command] = {
    verb: Command(run, ORDER[verb], text) for verb, (run, text) in _TEXTS.items()
}

#: A request of HTTP: a browser or a proxy that was led here (requirement 44).
HTTP_VERBS = frozenset(
    (
        b"GET",
        b"HEAD",
        b"POST",
        b"PUT",
        b"DELETE",
        b"CONNECT",
        b"OPTIONS",
        b"TRACE",
        b"PATCH",
        b"PRI",
    )
)
