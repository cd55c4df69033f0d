"""AUTH: the SASL exchange as RFC 4954 frames it; what is inside belongs to the owner."""

from __future__ import annotations

import base64

from mailsvc.message import Reply
from mailsvc.smtp import replies
from mailsvc.smtp.conversation import Conversation
from mailsvc.smtp.grammar import decode_base64
from mailsvc.smtp.policy import Policy
from mailsvc.smtp.questions import (
    Answer,
    Authenticated,
    AuthenticationAsked,
    AuthenticationEnded,
    Challenge,
)
from mailsvc.smtp.states import Phase


def offered(policy: Policy, *, secure: bool) -> tuple[str, ...]:
    """Return the mechanisms that may be used in the present state."""
    return policy.mechanisms if secure else policy.cleartext_mechanisms


def auth(talk: Conversation, argument: bytes) -> None:
    """AUTH, RFC 4954 section 4."""
    policy = talk.policy
    mechanisms = offered(policy, secure=talk.secure)
    if not mechanisms and not policy.mechanisms:
        talk.error(replies.NO_AUTH)
        return
    if not talk.extended:
        talk.error(replies.EHLO_FOR_AUTH)
        return
    if talk.authenticated:
        talk.error(replies.ALREADY_AUTHENTICATED)
        return
    words = argument.split(b" ")
    if not argument or len(words) > 2 or not words[0].isascii():
        talk.error(replies.AUTH_SYNTAX)
        return
    mechanism = words[0].decode("ascii").upper()
    if mechanism not in mechanisms:
        known = mechanism in policy.mechanisms
        talk.error(replies.NEEDS_TLS if known else replies.UNKNOWN_MECHANISM)
        return
    if talk.failures >= policy.failures:
        talk.end(replies.TOO_MANY_FAILURES)
        return
    response: bytes | None = None
    if len(words) == 2:
        # RFC 4954 section 4: "=" is the initial response of no octets.
        response = b"" if words[1] == b"=" else decode_base64(words[1])
        if response is None or not words[1]:
            talk.error(replies.BAD_BASE64)
            return
    talk.mechanism = mechanism
    talk.ask(AuthenticationAsked(mechanism, response), _answered)


def respond(talk: Conversation, line: bytes) -> None:
    """Take a line of the client within the exchange."""
    if line == b"*":
        abandon(talk, replies.AUTH_CANCELLED)
        return
    response = decode_base64(line)
    if response is None:
        abandon(talk, replies.BAD_BASE64)
        return
    talk.ask(AuthenticationAsked(talk.mechanism, response), _answered)


def abandon(talk: Conversation, octets: bytes) -> None:
    """End the exchange because of what the client sent."""
    talk.phase = Phase.COMMAND
    talk.tell(AuthenticationEnded())
    talk.error(octets)


def _answered(talk: Conversation, answer: Answer) -> None:
    if isinstance(answer, Challenge):
        talk.phase = Phase.AUTHENTICATION
        talk.send(b"334 " + base64.b64encode(answer.data) + b"\r\n")
        return
    talk.phase = Phase.COMMAND
    if isinstance(answer, Authenticated):
        talk.authenticated = True
        talk.send(replies.AUTHENTICATED)
    elif isinstance(answer, Reply):
        talk.failures += 1
        talk.say(answer)
    else:
        raise TypeError(f"not an answer to AUTH: {answer!r}")
