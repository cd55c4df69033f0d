"""The parameters of MAIL and RCPT: one table for each command.

Unknown: 555; malformed, or given twice: 501 (RFC 5321 section 4.1.1.11).  A parameter is known only
where the reply to EHLO announces its extension, so the tables ask the listener's policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mailsvc.smtp import replies
from mailsvc.smtp.grammar import decode_xtext, parse_mailbox
from mailsvc.smtp.policy import Policy

# RFC 5321 section 4.1.2: esmtp-param; esmtp-value as RFC 6531 section 3.3 extends it.
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([!-<>-~\u00a0-\U0010ffff]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")
_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.]+")
# RFC 6533 section 3: EmbeddedUnicodeChar, but for "\", "+" and "=", which must be encoded.
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_UTF8_TEXT = re.compile(r"(?:[!-*,-<>-\[\]-~\u00a0-\U0010ffff]|\\x\{[0-9A-F]{2,6}\})+")

#: RFC 3461 section 4.4.
_ENVID_LENGTH = 100
_ORCPT_LENGTH = 500


class MailParameters:
    """What the parameters of MAIL say; the fields are those of ``SenderAsked``."""

    __slots__ = ("auth", "body", "envid", "require_tls", "ret", "size", "smtputf8")

    # A compiled dataclass is made ten times slower.
    def __init__(self) -> None:
        self.size: int | None = None
        self.body = "7BIT"
        self.smtputf8 = False
        self.require_tls = False
        self.ret = ""
        self.envid = ""
        self.auth = ""


class RecipientParameters:
    """What the parameters of RCPT say; the fields are those of ``RecipientAsked``."""

    __slots__ = ("notify", "orcpt")

    def __init__(self) -> None:
        self.notify: tuple[str, ...] = ()
        self.orcpt = ""


@dataclass(frozen=True, slots=True)
class Known:
    """One known parameter.

    :ivar read: stores the value, or says that it is malformed by returning False.
    :ivar offered: whether the policy (and TLS) let it be used.
    """

    read: Callable[[MailParameters, str | None], bool]
    offered: Callable[[Policy, bool], bool] = field(default=lambda policy, secure: True)


def read_mail(text: str, policy: Policy, *, secure: bool) -> MailParameters | bytes:
    """Return what stands behind the path of MAIL, or the reply that refuses it."""
    found = MailParameters()
    if not text:
        return found
    words = _split(text)
    if isinstance(words, bytes):
        return words
    for name, value in words:
        known = _MAIL.get(name)
        if known is None or not known.offered(policy, secure):
            return replies.UNKNOWN_PARAMETER
        if not known.read(found, value):
            return replies.BAD_PARAMETER
    return found


def read_recipient(text: str, policy: Policy) -> RecipientParameters | bytes:
    """Return what stands behind the path of RCPT, or the reply that refuses it."""
    found = RecipientParameters()
    if not text:
        return found
    words = _split(text)
    if isinstance(words, bytes):
        return words
    for name, value in words:
        reader = _RECIPIENT.get(name)
        if reader is None or not policy.notifications:
            return replies.UNKNOWN_PARAMETER
        if not reader(found, value):
            return replies.BAD_PARAMETER
    return found


def _split(text: str) -> list[tuple[str, str | None]] | bytes:
    """Return names in upper case with their values, or the reply to a syntax error."""
    if text[0] != " ":
        return replies.BAD_PARAMETER
    words: list[tuple[str, str | None]] = []
    for word in text.split(" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None:
            return replies.BAD_PARAMETER
        words.append((match[1].upper(), match[2]))
    if len(words) > 1 and len({name for name, _ in words}) != len(words):
        return replies.REPEATED_PARAMETER
    return words


def _word(value: str | None) -> str:
    """Return a value that is a keyword, in upper case; what is not ASCII is none."""
    return value.upper() if value is not None and value.isascii() else ""


def _size(found: MailParameters, value: str | None) -> bool:
    """RFC 1870 section 3: 1 to 20 digits."""
    if value is None or _SIZE.fullmatch(value) is None:
        return False
    found.size = int(value)
    return True


def _body(found: MailParameters, value: str | None) -> bool:
    """RFC 6152 section 3, RFC 3030 section 3."""
    found.body = _word(value)
    return found.body in ("7BIT", "8BITMIME", "BINARYMIME")


def _smtputf8(found: MailParameters, value: str | None) -> bool:
    """RFC 6531 section 3.4: no value."""
    found.smtputf8 = True
    return value is None


def _requiretls(found: MailParameters, value: str | None) -> bool:
    """RFC 8689 section 2: no value."""
    found.require_tls = True
    return value is None


def _ret(found: MailParameters, value: str | None) -> bool:
    """RFC 3461 section 4.3."""
    found.ret = _word(value)
    return found.ret in ("FULL", "HDRS")


def _envid(found: MailParameters, value: str | None) -> bool:
    """RFC 3461 section 4.4."""
    if not value or len(value) > _ENVID_LENGTH:
        return False
    decoded = decode_xtext(value)
    if not decoded:
        return False
    found.envid = decoded
    return True


def _auth(found: MailParameters, value: str | None) -> bool:
    """RFC 4954 section 5: a mailbox as xtext, or ``<>``."""
    if not value:
        return False
    decoded = decode_xtext(value)
    if decoded is None or (decoded != "<>" and parse_mailbox(decoded) is None):
        return False
    found.auth = decoded
    return True


def _notify(found: RecipientParameters, value: str | None) -> bool:
    """RFC 3461 section 4.1: NEVER alone, or a list of conditions."""
    words = tuple(_word(value).split(","))
    found.notify = words
    if words == ("NEVER",):
        return True
    return len(set(words)) == len(words) and set(words) <= {"SUCCESS", "FAILURE", "DELAY"}


def _orcpt(found: RecipientParameters, value: str | None) -> bool:
    """RFC 3461 section 4.2; RFC 6533 section 3 for the address type ``utf-8``."""
    kind, semicolon, text = (value or "").partition(";")
    if not semicolon or not text or len(value or "") > _ORCPT_LENGTH:
        return False
    if _TYPE.fullmatch(kind) is None:
        return False
    address = _utf8_address(text) if kind.lower() == "utf-8" else decode_xtext(text)
    if not address:
        return False
    found.orcpt = f"{kind};{address}"
    return True


def _utf8_address(text: str) -> str | None:
    """Return the decoded utf-8-addr-xtext or utf-8-addr-unitext, or None."""
    if _UTF8_TEXT.fullmatch(text) is None:
        return None
    try:
        decoded = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
        decoded.encode()
    except ValueError:
        return None
    return decoded if decoded.isprintable() else None


def _has_dsn(policy: Policy, secure: bool) -> bool:
    return policy.notifications


def _has_auth(policy: Policy, secure: bool) -> bool:
    return bool(policy.mechanisms if secure else policy.cleartext_mechanisms)


def _has_requiretls(policy: Policy, secure: bool) -> bool:
    return policy.requiretls and secure


_MAIL: dict[str, Known] = {
    "SIZE": Known(_size),
    "BODY": Known(_body),
    "SMTPUTF8": Known(_smtputf8),
    "RET": Known(_ret, _has_dsn),
    "ENVID": Known(_envid, _has_dsn),
    "AUTH": Known(_auth, _has_auth),
    "REQUIRETLS": Known(_requiretls, _has_requiretls),
}

_RECIPIENT: dict[str, Callable[[RecipientParameters, str | None], bool]] = {
    "NOTIFY": _notify,
    "ORCPT": _orcpt,
}
