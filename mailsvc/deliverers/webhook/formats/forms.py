"""Bodies as HTML forms send them: urlencoded, or multipart/form-data with files (RFC 7578)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from urllib.parse import urlencode

from msgspec import Struct

from mailsvc.deliverers.webhook.formats import words
from mailsvc.deliverers.webhook.formats.streams import Framed
from mailsvc.deliverers.webhook.payload import Payload, Stream
from mailsvc.interfaces import IContent
from mailsvc.mime.pieces import encoded
from mailsvc.parsed import Attachment

Pairs = Sequence[tuple[str, str]]

#: Characters of values up to which a form without files is urlencoded: percent signs triple most
#: of what is not ASCII, and cost more time than a multipart.
_URLENCODED = 65_536
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,39}")
#: How a browser writes these in a parameter (HTML Standard, section 4.10.21.8).
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class File(Struct, frozen=True):
    """A file of a form.

    :ivar field: the name of its field.
    """

    field: str
    filename: str
    content_type: str
    content: bytes


def attached(field: str, attachment: Attachment) -> File:
    """Return an attachment as a file; one without a name is given its field's.

    Servers drop a file that has no name.
    """
    content_type = attachment.content_type
    if _CHARSET.fullmatch(attachment.charset):
        content_type += f"; charset={attachment.charset}"
    octets = words.attachment_octets(attachment)
    return File(field, attachment.filename or field, content_type, octets)


def form(pairs: Pairs, files: Sequence[File] = (), *, urlencoded: bool = True) -> Payload:
    """Return a form.

    :param urlencoded: whether one without files and without much text is urlencoded; all others are
        multipart/form-data.
    """
    if urlencoded and not files and sum(len(value) for _, value in pairs) <= _URLENCODED:
        return Payload("application/x-www-form-urlencoded", urlencode(pairs).encode("ascii"))
    boundary = new_boundary()
    pieces = [_part(boundary, name, value) for name, value in pairs]
    for file in files:
        pieces += (_file_head(boundary, file), file.content, b"\r\n")
    pieces.append(_end(boundary))
    return Payload(_type(boundary), b"".join(pieces))


def form_with_mail(pairs: Pairs, name: str, content: IContent) -> Payload:
    """Return a multipart form with the mail as the last field; a large one is streamed.

    Frameworks refuse a text field that is not UTF-8.
    """
    boundary = new_boundary()
    fields = b"".join(_part(boundary, key, value) for key, value in pairs)
    prefix = fields + _head(boundary, name)
    if content.size <= words.IN_TEXT:
        whole = words.mail_in_text(content)
        return Payload(_type(boundary), b"".join((prefix, whole, b"\r\n", _end(boundary))))
    return Payload(_type(boundary), Stream(prefix, Framed(content, b"\r\n" + _end(boundary))))


def new_boundary() -> str:
    """Return a boundary that nothing a sender wrote can hold: nobody can foresee it."""
    return f"mailsvc-{secrets.token_hex(16)}"


def _type(boundary: str) -> str:
    return f"multipart/form-data; boundary={boundary}"


def _head(boundary: str, name: str, more: str = "") -> bytes:
    disposition = f'form-data; name="{name.translate(_ESCAPES)}"{more}'
    return f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()


def _part(boundary: str, name: str, value: str) -> bytes:
    return _head(boundary, name) + encoded(value) + b"\r\n"


def _file_head(boundary: str, file: File) -> bytes:
    filename = file.filename.translate(_ESCAPES)
    more = f'; filename="{filename}"\r\nContent-Type: {file.content_type}'
    return _head(boundary, file.field, more)


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode("ascii")
