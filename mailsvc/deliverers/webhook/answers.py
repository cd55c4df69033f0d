"""What an HTTP answer means for the delivery that it answers.

A mapping looks at an :class:`Answer` and returns (the destination answers for the message now) or
raises one of the outcomes of :mod:`mailsvc.errors`.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable

import msgspec

from mailsvc.errors import DestinationPaused, PermanentFailure, TransientFailure

#: Seconds: a destination that asks for more is asked again after this.
RETRY_AFTER_LIMIT = 86_400.0
#: Characters of a reply that a destination words; what a reply line holds (RFC 5321 section
#: 4.5.3.1.5) is cut from it later.
_REPLY_LIMIT = 480

_SECONDS = re.compile(r"[0-9]{1,10}")
_SPACE = re.compile(r"\s+")


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer.

    :ivar content_type: the field's value, or empty.
    :ivar retry_after: the field's value, or empty.
    :ivar body: the octets as sent, not decoded; at most 64 KiB.
    """

    status: int
    content_type: str = ""
    retry_after: str = ""
    body: bytes = b""


#: Takes an answer and the time; see the module's head.
Mapping = Callable[[Answer, float], None]


class _Verdict(msgspec.Struct):
    """What a JSON answer may say; other members are ignored."""

    action: object = None
    reply: object = None


_VERDICT = msgspec.json.Decoder(_Verdict)


def standard(answer: Answer, now: float) -> None:
    """Apply the mapping that keeps mail when in doubt.

    2xx is success, unless its JSON says ``{"action": "reject"}``; 406 and 422 are refusals; 410
    pauses the destination; 429 and 503 may say when to come back; all else is tried again: 401,
    403 and 404 are what a deploy or a wrong secret looks like.
    """
    status = answer.status
    if 200 <= status <= 299:
        verdict = _verdict(answer)
        if verdict.action == "reject":
            raise PermanentFailure(
                f"the application refused the mail (answer {status}, reject)",
                reply=_text(verdict.reply),
            )
    elif status in (406, 422):
        raise PermanentFailure(
            f"the application refused the mail (answer {status})", reply=_worded(answer)
        )
    elif status == 410:
        raise DestinationPaused("the destination wants no more mail (answer 410)")
    else:
        raise _later(answer, now)


def cloudmailin(answer: Answer, now: float) -> None:
    """Apply CloudMailin's mapping: 2xx is success, 4xx a refusal, all else is tried again.

    On a synchronous route a refusal is 554, and what is tried again 450.
    """
    status = answer.status
    if 400 <= status <= 499:
        raise PermanentFailure(
            f"the application refused the mail (answer {status})", reply=_worded(answer), code=554
        )
    if not 200 <= status <= 299:
        raise _later(answer, now, code=450)


#: The words of ``answers = "…"`` in the configuration.
ANSWERS: dict[str, Mapping] = {"standard": standard, "cloudmailin": cloudmailin}


def _later(answer: Answer, now: float, code: int = 451) -> TransientFailure:
    retry_after = None
    if answer.status in (429, 503):
        retry_after = seconds_to_wait(answer.retry_after, now)
    return TransientFailure(f"the answer was {answer.status}", retry_after=retry_after, code=code)


def seconds_to_wait(text: str, now: float) -> float | None:
    """Return the seconds that a Retry-After field asks for (RFC 9110 section 10.2.3).

    :return: 0 to 24 hours, or None if the field is missing or says nothing.
    """
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_LIMIT)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        wait = moment.timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(wait, 0.0), RETRY_AFTER_LIMIT)


def _verdict(answer: Answer) -> _Verdict:
    body = answer.body.lstrip()
    if body.startswith(b"{"):
        try:
            return _VERDICT.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            pass
    return _Verdict()


def _worded(answer: Answer) -> str:
    """Return the reply in a refusal's body: a JSON ``reply``, or plain text as it stands."""
    if answer.content_type.partition(";")[0].strip().lower() == "text/plain":
        return _text(answer.body[: 4 * _REPLY_LIMIT].decode("utf-8", "replace"))
    return _text(_verdict(answer).reply)


def _text(reply: object) -> str:
    if not isinstance(reply, str):
        return ""
    return _SPACE.sub(" ", reply[: 4 * _REPLY_LIMIT]).strip()[:_REPLY_LIMIT]
