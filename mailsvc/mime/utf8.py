"""A mail in octets that are UTF-8, for receivers that take a whole mail as text.

JSON has only text, and frameworks refuse a form whose text fields are not UTF-8.  A body in another
charset is given a transfer encoding, so that nothing of it is lost; what else is not UTF-8 (a
header field, above all) is read as the parser reads it.
"""

from __future__ import annotations

import re
from base64 import encodebytes

from mailsvc.mime.charsets import decoded
from mailsvc.mime.decoding import ENCODINGS
from mailsvc.mime.limits import Limits, Notes
from mailsvc.mime.parts import Part, Tree

_ENCODING = re.compile(rb"(?im)^content-transfer-encoding[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*\n?")
#: Mails within mails that are followed.
_DEPTH = 3


def is_utf8(octets: bytes) -> bool:
    """Say whether octets are valid UTF-8."""
    try:
        octets.decode("utf-8")
    except UnicodeError:
        return False
    return True


def in_utf8(octets: bytes, depth: int = _DEPTH) -> bytes:
    """Return a mail as UTF-8: itself, or one whose parts hold the same.

    :param depth: mails within the mail that are followed; the octets of a deeper one that are not
        UTF-8 are replaced.
    """
    if is_utf8(octets):
        return octets
    tree = Tree(octets, Limits(), Notes())
    pieces: list[bytes] = []
    position = 0
    for part in tree.leaves:
        body = octets[part.start : part.end]
        if is_utf8(body) or _composite(part):
            continue
        if part.content_type.startswith("message/"):
            if depth:
                pieces += (_text(octets[position : part.start]), in_utf8(body, depth - 1))
                position = part.end
        elif part.encoding in ENCODINGS or part.encoding in ("", "7bit", "8bit", "binary"):
            head = octets[part.head : part.start]
            pieces += (_text(octets[position : part.head]), _text(_encoded_head(head)))
            pieces.append(_base64(tree.content(part, "part")))
            position = part.end
    pieces.append(_text(octets[position:]))
    return b"".join(pieces)


def _composite(part: Part) -> bool:
    """Say whether a part is a multipart: those have no transfer encoding (RFC 2045 section 6.4)."""
    return part.field("content-type", Notes()).strip().lower().startswith("multipart/")


def _text(octets: bytes) -> bytes:
    """Return octets that are UTF-8, line by line: a header has as many charsets as programs."""
    if is_utf8(octets):
        return octets
    notes = Notes()
    lines = octets.split(b"\n")
    return b"\n".join(decoded(line, "", "line", notes).encode("utf-8") for line in lines)


def _encoded_head(head: bytes) -> bytes:
    """Return a header block with its empty line that says that the body is in base64."""
    fields = _ENCODING.sub(b"", head).rstrip(b"\r\n")
    return fields + b"\r\n" * bool(fields) + b"Content-Transfer-Encoding: base64\r\n\r\n"


def _base64(octets: bytes) -> bytes:
    return encodebytes(octets).removesuffix(b"\n").replace(b"\n", b"\r\n")
